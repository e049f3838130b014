"""What a task is: how a question is asked, taught and answered, whatever the model is made of.

To training and to distillation every task is the same: rows of choices, with a label each. A new task is a new file in
`tasks/`; each family of models names its task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from compresskit.data.examples import Example, ExampleSet
from compresskit.models.answering import AnswerOptions, Prediction, WindowOptions

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

    from compresskit.models.loaded import LoadedModel
    from compresskit.models.prompt import Prompt

Batch = dict[str, "Tensor"]
# The label of what is not to be predicted, as transformers and torch have it.
IGNORED = -100
# What a teacher's cache keeps of one feature: arrays of shape (rows, width) by name. The collator pads them to a batch.
Kept = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Choices:
    """Rows of choices: `logits` (n, k) in fp32, -inf where there is no choice, and the `labels` (n,) in int64.

    For spans a row is the start or the end of one window, and k its positions; for generation a row is a token of a
    target, and k the vocabulary. `labels` is None where the answers are not known.
    """

    logits: Tensor
    labels: Tensor | None


class Items(Protocol):
    """A map-style data set: features by their number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class Features(Items, Protocol):
    """What a model is fed in training, in memory-mapped files."""

    bounds: NDArray[np.int64]
    """Where the rows of each feature begin in the teacher's cache, and where the last ends: shape (features + 1,)."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every feature in tokens, shape (features,)."""

    def fingerprint(self) -> str:
        """Hex SHA-256 of what a model is fed (not of the labels): part of the key of a teacher's cache."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student is taught: the `features`, and the `examples` and windows that they were cut from."""

    features: Features
    examples: ExampleSet
    windows: WindowOptions


# Asks a teacher about features: for each its number, and what is to be kept of its answer. In any order.
Ask = Callable[[Items, NDArray[np.int64]], Iterator[tuple[int, Kept]]]


class Pairing(Protocol):
    """How a teacher's answers reach the features of its student."""

    def key(self, lesson: Lesson) -> str:
        """What the cache depends on beside the teacher's weights and the features; "" where nothing else."""

    def kept(self, lesson: Lesson, ask: Ask) -> Iterator[tuple[int, Kept]]:
        """The number of each of the lesson's features, and what the cache keeps for it. In any order."""


class Task(Protocol):
    """What the program asks of a task.

    `prompt` is the text around question and context where none is given; None for a task that writes no text. `Options`
    is the dataclass of how its questions are put; `graph_outputs` are the outputs of an exported model.
    """

    name: str
    prompt: Prompt | None
    Options: type[WindowOptions]
    graph_outputs: tuple[str, ...]

    def write(
        self, tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
    ) -> None:
        """Write training features to a new folder, in bounded memory.

        Raises UsageError where a question has no room.
        """

    def open(self, folder: Path) -> Features:
        """The features that `write` left in a folder."""

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[Mapping[str, Any]]], Batch]:
        """A function that pads features (with what is kept of a teacher, if it is there) to a batch."""

    def choices(self, model: nn.Module, batch: Batch) -> Choices:
        """One forward pass."""

    def rows(self, batch: Batch) -> Tensor:
        """How many rows of choices a training batch has: a whole number, shape ()."""

    def keep(self, choices: Choices, batch: Batch) -> list[Kept]:
        """What a teacher's cache keeps of its answers, for each feature of the batch."""

    def recall(self, batch: Batch, width: int) -> Tensor:
        """The teacher's logits that the batch carries, in the rows of `choices`, which are `width` wide: fp32."""

    def pairing(self, teacher: LoadedModel, student: LoadedModel) -> Pairing | None:
        """How this teacher's choices teach this student; None where its answers alone can, as targets.

        Raises InputError where it cannot teach this student.
        """

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        """Answer questions, in their order, in bounded memory."""

    def perplexity(self, loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions) -> float | None:
        """Perplexity of what the model writes; None for a task that writes no text."""


@runtime_checkable
class Bounded(Protocol):
    """A task whose models have room for so many tokens of a question and its answer together."""

    def check_lengths(self, features: Features, config: PretrainedConfig, options: WindowOptions) -> None:
        """UsageError where a feature has more tokens than a model of this configuration has room for."""
