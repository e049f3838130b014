"""Mamba: the selective scan without CUDA kernels, and adapters that every path of computation sees."""
