"""Make question-answering checkpoints smaller, and measure what that costs."""

from compresskit.autoclasses import register_when_needed

__version__ = "0.1.0"

register_when_needed()
