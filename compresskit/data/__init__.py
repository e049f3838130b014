"""Data: reading in every form, checking and mending, constructed negatives, the built-in demo set."""

from typing import Literal

DEFAULT_DATA = "rajpurkar/squad_v2"
"""The data set on the Hub that is taken where none is named."""

Split = Literal["train", "eval"]
"""What questions of a data set are for; "eval" is what the package `datasets` calls "validation"."""
