"""Data: SQuAD-format reading and checking, constructed negatives, the built-in demo set."""
