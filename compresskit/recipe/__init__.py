"""Recipes: steps over named checkpoints and an evaluation, written down in one file of YAML."""
