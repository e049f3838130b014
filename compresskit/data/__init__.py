"""Data: reading in every form, checking and mending, constructed negatives, the built-in demo set."""

DEFAULT_DATA = "rajpurkar/squad_v2"
"""The data set on the Hub that is taken where none is named."""
