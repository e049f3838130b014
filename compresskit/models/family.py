"""What a family of models is: how its models are loaded, trained on answers, and asked.

The rest of the program knows a model through this protocol alone; a new family is a new file beside `encoder.py`, and
one line in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from compresskit.checkpoint.manifest import Manifest
from compresskit.data.examples import Example
from compresskit.data.features import FeatureSet, WindowOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from compresskit.models.onnx import OnnxReader

Batch = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How questions are answered.

    `max_length` and `stride` in tokens; `max_answer_length` in tokens; a question is unanswerable where the null score
    exceeds the best span's score by more than `null_threshold`; `n_best` candidates are kept in each prediction.
    """

    max_length: int = 384
    stride: int = 128
    batch_size: int = 32
    n_best: int = 1
    max_answer_length: int = 30
    null_threshold: float = 0.0

    @property
    def windows(self) -> WindowOptions:
        """The part that cuts contexts."""
        return WindowOptions(self.max_length, self.stride)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possible answer: a substring of the context, and the sum of its start and end logits."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question: `text` as decided at the null threshold ("" is unanswerable).

    `span_text` and `score` are the best span and its score whatever the null score says; `null_score` is the least null
    score over the windows, None for a family that has none.
    """

    id: str
    text: str
    score: float | None
    null_score: float | None
    span_text: str
    n_best: Sequence[Candidate] = ()


@dataclass(slots=True)
class LoadedModel:
    """A checkpoint in memory, ready to be asked.

    `ref` is what the user typed; `path` the folder that it came from (None for a model that was never saved); `base`
    the folder of an overlay's base. `missing_head` tells that the checkpoint has no question-answering head (its
    weights are random). `files` are those that are needed to run it; `made_by` is how another tool made it.
    """

    model: PreTrainedModel | OnnxReader
    tokenizer: PreTrainedTokenizerFast
    family: Family
    ref: str
    path: Path | None
    manifest: Manifest | None
    revision: str | None = None
    base: Path | None = None
    missing_head: bool = False
    files: list[Path] = field(default_factory=list)
    made_by: str = "-"

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def method(self) -> str:
        """The last method of the manifest; of another tool's checkpoint `lora`, `bnb-4bit`, `onnx`, …, or `-`."""
        return self.manifest.method if self.manifest is not None else self.made_by

    def deploy_files(self) -> list[Path]:
        """Every file that a user needs to run this checkpoint: its own, and those of an overlay's base."""
        return list(self.files)


@dataclass(slots=True)
class TrainableModel(LoadedModel):
    """A checkpoint in memory whose own weights are torch's, so that they can be trained, masked and saved."""

    model: PreTrainedModel


@runtime_checkable
class CountsParameters(Protocol):
    """A model whose weights are no parameters of torch's."""

    def count_parameters(self) -> tuple[int, int] | None:
        """How many weights there are, and how many of them are not zero; None where that cannot be told."""


class Family(Protocol):
    """What the program asks of a family of models.

    `extractive` tells that its logits are those of the start and the end of an answer at every token of a window.
    """

    name: str
    extractive: bool

    def owns(self, config: PretrainedConfig) -> bool:
        """Whether models of this configuration belong to the family."""

    def load(self, folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
        """The model in a folder of the ecosystem, and the names of parameters that the folder lacks."""

    def head(self, model: PreTrainedModel) -> set[str]:
        """Names of the parameters of the question-answering head."""

    def prunable(self, model: PreTrainedModel) -> Mapping[str, nn.Module]:
        """What a mask may cover: by the qualified name of each parameter, the module that holds it."""

    def trainable_with_masks(self, model: PreTrainedModel) -> set[str]:
        """Names of parameters, beside the masked ones, that a method that learns weights may change."""

    def label_head(self, folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
        """Set the head to the base's "yes"/"no" word embeddings where it has a masked-LM head; whether it did."""

    def max_positions(self, config: PretrainedConfig) -> int | None:
        """Longest input in tokens, None for no limit."""

    def features(
        self, tokenizer: PreTrainedTokenizerFast, examples: Iterable[Example], options: WindowOptions, folder: Path
    ) -> FeatureSet:
        """Training features, written to a folder."""

    def collator(self, tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[Mapping[str, Any]]], Batch]:
        """A function that pads features to a batch."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scores in fp32, shape (batch, length, outputs); positions outside the input are -inf."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch's labels, a scalar."""

    def penalty(self, config: PretrainedConfig, learning: Sequence[tuple[str, nn.Parameter]]) -> Tensor | None:
        """What a model's configuration adds to the loss, by the names and weights that learn; None for nothing."""

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        """Answer questions, in their order, in bounded memory."""
