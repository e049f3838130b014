"""Make question-answering checkpoints smaller, and measure what that costs."""

__version__ = "0.1.0"
