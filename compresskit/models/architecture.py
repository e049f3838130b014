"""Models that are built from their training data instead of being loaded: what their settings must offer.

Nothing here needs torch or transformers: the command line makes its flags from these settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from compresskit.errors import UsageError
from compresskit.models.lstm.variants import LstmOptions

if TYPE_CHECKING:
    from compresskit.data.examples import ExampleSet


class Architecture(Protocol):
    """Settings of a model that starts from random weights and the vocabulary of its training data.

    A frozen dataclass of options (see `compresskit.options`), which are the flags of the command line.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __hash__(self) -> int:
        """A frozen dataclass's own."""

    @classmethod
    def choose(cls, **given: Any) -> Self:
        """The settings where only those `given` (not None) differ from the defaults; UsageError for a wrong one."""

    def reads(self) -> list[Path]:
        """The files that it is built from beside the training data."""

    def build(self, examples: ExampleSet, seed: int, folder: Path) -> None:
        """Write an untrained checkpoint with its tokenizer into `folder`, the same for the same arguments."""


ARCHITECTURES: Mapping[str, type[Architecture]] = {"lstm": LstmOptions}


def chosen(model: str, given: Mapping[str, Any]) -> Architecture | None:
    """The settings of a model that is built; None for any other model.

    Raises UsageError where settings are `given` for a model that is not built.
    """
    kind = ARCHITECTURES.get(model)
    if kind is not None:
        return kind.choose(**given)
    for name in given:
        built = " or ".join(ARCHITECTURES)
        raise UsageError(
            f"--{name.replace('_', '-')} has no effect with {model}, which is not built from its training data "
            f"({built} is); leave it out"
        )
    return None
