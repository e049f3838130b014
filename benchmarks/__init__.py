"""Ratios of two ways of doing a thing, each measured in one run."""
