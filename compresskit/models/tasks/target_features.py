"""Training features of models that write their answers: prompts, and the texts that answer them.

They lie flat in memory-mapped files, so millions of questions need little memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from compresskit.data.examples import Example
from compresskit.models.answering import WindowOptions
from compresskit.models.prompt import Prompt
from compresskit.models.task import IGNORED, Batch
from compresskit.models.tasks.batching import PAD_MULTIPLE, rounded_up
from compresskit.models.tasks.prompt_windows import PromptWindow, encode_prompts
from compresskit.models.tasks.windows import CHUNK, chunked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_Array = NDArray[np.int64]
# The least width of the targets of a batch is a multiple of this.
TARGET_MULTIPLE = 4


class Feature(TypedDict):
    """One prompt and its target: int arrays of shape (length,) and (target length,); `index` is its own number."""

    input_ids: NDArray[np.int32]
    labels: NDArray[np.int32]
    index: int


class TargetFeatures(Sequence[Feature]):
    """Prompts and targets in memory-mapped files: a map-style dataset of `Feature`.

    Files in `folder`: the token ids of all prompts and of all targets, one after another (int32), and the bounds of
    each (int64, one more than there are features). `bounds` are those of the targets: a row of choices is a token.
    """

    def __init__(self, folder: Path) -> None:
        self._ids = np.memmap(folder / "ids.i32", dtype=np.int32, mode="r")
        self._targets = np.memmap(folder / "targets.i32", dtype=np.int32, mode="r")
        self._inputs: _Array = np.fromfile(folder / "inputs.i64", dtype=np.int64)
        self.bounds: _Array = np.fromfile(folder / "bounds.i64", dtype=np.int64)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: Any) -> Any:
        """The `Feature` of one prompt; the dataset is never sliced."""
        return {
            "input_ids": self._ids[self._inputs[index] : self._inputs[index + 1]],
            "labels": self._targets[self.bounds[index] : self.bounds[index + 1]],
            "index": index,
        }

    @property
    def lengths(self) -> _Array:
        """Length of every prompt in tokens, shape (features,)."""
        return np.diff(self._inputs)

    def fingerprint(self) -> str:
        """SHA-256 of prompts, targets and bounds: a teacher is asked about every token of a target."""
        digest = hashlib.sha256(self._inputs.tobytes() + self.bounds.tobytes())
        for flat in (self._ids, self._targets):
            for begin in range(0, len(flat), 1 << 22):
                digest.update(flat[begin : begin + (1 << 22)].tobytes())
        return digest.hexdigest()


def write_features(
    tokenizer: PreTrainedTokenizerFast,
    examples: Iterable[Example],
    prompt: Prompt,
    options: WindowOptions,
    folder: Path,
    tokens: Callable[[list[str]], Sequence[Sequence[int]]],
    goes_on: bool = False,
) -> None:
    """Tokenize examples into prompts with their targets, written to `folder`; `tokens` tells those of some targets.

    `goes_on` as `encode_prompts` has it.

    The target is the first answer where the window shows all of it, else the prompt's word for unanswerable. Memory use
    does not grow with the number of examples, but for 16 bytes a window. Raises UsageError where a window leaves no
    room for a question.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inputs, bounds = [0], [0]
    with (folder / "ids.i32").open("wb") as ids_file, (folder / "targets.i32").open("wb") as targets_file:
        for chunk in chunked(examples, CHUNK):
            windows = encode_prompts(tokenizer, chunk, prompt, options, goes_on)
            texts = [target_text(chunk[window.example], window, prompt) for window in windows]
            for window, target in zip(windows, tokens(texts), strict=True):
                ids_file.write(np.asarray(window.ids, dtype=np.int32).tobytes())
                targets_file.write(np.asarray(target, dtype=np.int32).tobytes())
                inputs.append(inputs[-1] + len(window.ids))
                bounds.append(bounds[-1] + len(target))
    # Not by `tofile`, whose error on a full disk does not say so.
    (folder / "inputs.i64").write_bytes(np.asarray(inputs, dtype=np.int64).tobytes())
    (folder / "bounds.i64").write_bytes(np.asarray(bounds, dtype=np.int64).tobytes())


def target_text(example: Example, window: PromptWindow, prompt: Prompt) -> str:
    """What a model is to write about a window: the first answer if all of it is shown, else "unanswerable"."""
    return prompt.target(example.answers[0].text if shows_answer(example, window) else prompt.unanswerable)


def shows_answer(example: Example, window: PromptWindow) -> bool:
    """Whether a window shows all of the first answer; False where there is none."""
    if not example.answers:
        return False
    first = example.answers[0]
    return window.start <= first.start and first.start + len(first.text) <= window.end


class TargetCollator:
    """Pads prompts and targets to the longest of the batch, as int64 tensors.

    A batch has input_ids and attention_mask (batch, length), and labels (batch, target length), `IGNORED` on padding.
    What is kept of a teacher, arrays of (tokens, width) by name, is joined: (tokens of the batch, width).
    """

    def __init__(self, pad_id: int, multiple: int = PAD_MULTIPLE) -> None:
        self.pad_id = pad_id
        self.multiple = multiple

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch, as the class describes it."""
        ids, mask = padded([feature["input_ids"] for feature in features], self.pad_id, self.multiple)
        batch = {"input_ids": ids, "attention_mask": mask}
        if "labels" in features[0]:
            batch["labels"] = padded([feature["labels"] for feature in features], IGNORED, TARGET_MULTIPLE)[0]
        for name in features[0].keys() - {"input_ids", "labels", "index"}:
            batch[name] = torch.from_numpy(np.concatenate([feature[name] for feature in features]))
        return batch


def padded(rows: Sequence[Sequence[int]], value: int, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the right to a multiple of `multiple`, and the mask of their own tokens: both (rows, length)."""
    length = rounded_up(max(map(len, rows)), multiple)
    ids, mask = np.full((len(rows), length), value, np.int64), np.zeros((len(rows), length), np.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
