"""Quantization: weights are kept in fewer bits."""
