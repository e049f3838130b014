"""Checkpoints on disk: the manifest, folders that appear whole or not at all, and the mask codec."""
