"""Data: SQuAD-format reading and checking, constructed negatives, the built-in demo set."""

DEFAULT_DATA = "rajpurkar/squad_v2"
"""The data set on the Hub that is taken where none is named."""
