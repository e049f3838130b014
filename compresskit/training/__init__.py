"""The one training engine: a thin layer on transformers.Trainer, with states that survive a `kill -9`."""
