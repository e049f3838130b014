"""What a kind of checkpoint is: how it is recognized, opened and stood on, whether it learns, and what is in it.

A kind is a file in `kinds/`, and one line in its `KINDS`. Nothing here imports torch, so that a process which only
hands checkpoints on starts at once; a kind imports what it needs where it opens a folder.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compresskit.checkpoint.manifest import KindName, Manifest

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel
    from compresskit.models.source import Source


@dataclass(frozen=True, slots=True)
class How:
    """How a checkpoint is opened: on a `device`, with numbers of `dtype` (names, as on the command line).

    `attention_dropout` replaces the configured one in this process; None leaves it.
    """

    device: str = "cpu"
    dtype: str = "float32"
    attention_dropout: float | None = None


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of parameters: all, those that are not zero, and those that learn; None for what cannot be counted."""

    total: int | None
    nonzero: int | None
    trainable: int | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of a repeated block: `remaining` of its `size` weights are not zero; `dtype` as stored.

    `shape` is that of the weights that it stands for, however they are packed. `remaining` is None where the way that
    they are packed does not tell.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    remaining: int | None
    size: int

    @property
    def layer(self) -> int:
        """Number of the block, the first number in the name."""
        match = re.search(r"\.(\d+)\.", self.name)
        return int(match[1]) if match else 0

    @property
    def block(self) -> tuple[str, int]:
        """Which stack of blocks it is of, such as `encoder` or `decoder`, and the number of the block there.

        A matrix outside of all blocks is a stack of its own, with the number -1.
        """
        stack, number, _ = self.name.partition(f".{self.layer}.")
        parts = stack.removesuffix(".weight").split(".")
        while len(parts) > 1 and parts[-1] in _LISTS:
            parts.pop()
        return parts[-1], self.layer if number else -1

    @property
    def role(self) -> str:
        """Name within the block, such as `attention.self.query`; T5's numbers of its sublayers are left out."""
        return re.sub(r"^(.*?\.\d+\.(layer\.\d+\.)?)", "", self.name).removesuffix(".weight")


# How models call their lists of blocks.
_LISTS = ("block", "layer", "layers", "h")


def block_names(matrices: Sequence[Matrix]) -> dict[tuple[str, int], str]:
    """What the blocks of some matrices are called, in order: their numbers, with the stack where there are several."""
    blocks = {matrix.block for matrix in matrices}
    several = len({stack for stack, _ in blocks}) > 1
    # What is computed first comes first.
    ordered = sorted(blocks, key=lambda block: (block[0] == "decoder", *block))
    return {(stack, n): stack if n < 0 else f"{stack} {n}" if several else str(n) for stack, n in ordered}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a kind tells of a folder: the matrices of its repeated blocks, and further `facts` as (name, text)."""

    matrices: Sequence[Matrix] = ()
    facts: Sequence[tuple[str, str]] = ()


def instead_of(kind: Kind, ref: str | Path) -> str:
    """What to do with a checkpoint of a kind where it cannot be trained; its command is as a shell takes it."""
    return kind.instead.format(ref=shlex.quote(str(ref)))


class Kind(Protocol):
    """What the program asks of a kind of checkpoint.

    `stands_on` are the kinds that its base may be of (empty for what stands alone); `trainable` tells whether a run can
    start from it, and `instead` what to do where it cannot.
    """

    name: KindName
    stands_on: frozenset[KindName]
    trainable: bool
    instead: str

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """Whether a folder is of this kind. Asked in the order of `KINDS`."""

    def base(self, source: Source) -> Source | None:
        """The checkpoint that it stands on; None for a kind that stands alone.

        Raises InputError where that is not there or is another one, MissingError where the Hub cannot be reached.
        """

    def packages(self, folder: Path) -> tuple[str, ...]:
        """The modules that open a folder of this kind and are not always installed."""

    def base_opened(self, how: How) -> How:
        """How its base is opened where it is to be opened like `how`."""

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """The model in memory, on its opened `base`.

        Raises InputError for a damaged folder, MissingError for a package.
        """

    def check(self, source: Source, bottom: Source) -> None:
        """InputError where its tensors cannot be on those of the plain or packed weights at the `bottom`.

        The headers of their files alone are read.
        """

    def contents(self, source: Source) -> Contents:
        """What is in the folder; no model is built. Raises InputError for a damaged folder."""

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """How many parameters the opened checkpoint has."""
