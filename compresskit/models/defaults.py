"""Learning rate and epochs of a training where none are given, by the kind of model. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingDefaults:
    """The peak learning rate of the weights, and the passes over the training data."""

    lr: float
    epochs: float


BY_FAMILY: Mapping[str, TrainingDefaults] = {
    "encoder": TrainingDefaults(lr=5e-5, epochs=3.0),
    "lstm": TrainingDefaults(lr=2e-3, epochs=8.0),
    "seq2seq": TrainingDefaults(lr=5e-4, epochs=3.0),
    "causal": TrainingDefaults(lr=4e-4, epochs=3.0),
}
# The built-in models start from random weights, and their data set is large enough to be seen once.
BUILT_IN = TrainingDefaults(lr=2e-3, epochs=1.0)
BUILT_IN_PREFIX = "demo/"


def is_built_in(model: str) -> bool:
    """Whether MODEL is one of the built-in ones, which read the built-in data."""
    return model.startswith(BUILT_IN_PREFIX)


def number(value: float) -> str:
    """A number as a person writes it: `5e-5`."""
    return f"{value:g}".replace("e-0", "e-")


def shown(name: str) -> str:
    """A default as the help tells it: that of most models, then those that differ."""
    usual, *others = [(family, getattr(known, name)) for family, known in BY_FAMILY.items()]
    told = [f"{number(value)} for {family}" for family, value in others if value != usual[1]]
    return "; ".join([number(usual[1]), *told, f"{number(getattr(BUILT_IN, name))} for a demo model"])
