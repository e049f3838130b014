"""Methods: each takes a checkpoint and leaves another. A method is a frozen config and an `apply`."""
