"""Models that are built from their training data instead of being loaded: what their settings must offer.

Nothing here needs torch or transformers: the command line makes its flags from these settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from compresskit.models.lstm.options import LstmOptions

if TYPE_CHECKING:
    from compresskit.data.examples import ExampleSet


class Architecture(Protocol):
    """Settings of a model that starts from random weights and the vocabulary of its training data.

    A frozen dataclass whose fields are the flags of the command line: of type bool, int, float or str, each with its
    `help`, its `choices` (of a str) and its default as `shown` in the field's metadata. `lr` and `epochs` are the
    defaults of its training.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    lr: ClassVar[float]
    epochs: ClassVar[float]

    def __hash__(self) -> int:
        """A frozen dataclass's own."""

    @classmethod
    def choose(cls, **given: Any) -> Self:
        """The settings where only those `given` (not None) differ from the defaults; UsageError for a wrong one."""

    def build(self, examples: ExampleSet, seed: int, folder: Path) -> None:
        """Write an untrained checkpoint with its tokenizer into `folder`, the same for the same arguments."""


ARCHITECTURES: Mapping[str, type[Architecture]] = {"lstm": LstmOptions}
