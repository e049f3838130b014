"""Distillation: a student learns from a teacher's logits (Hinton et al. 2015, arXiv 1503.02531).

The teacher sees every window once. Its logits are kept on disk in fp16, memory-mapped, so that all epochs but the first
cost no more than training without a teacher, and the teacher need not stay in the GPU's memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from compresskit import console
from compresskit.checkpoint.store import read_json, reserve, sha256_weights, write_json
from compresskit.data.examples import ExampleSet
from compresskit.data.features import CHUNK, FeatureSet, WindowOptions, chunked
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods import align
from compresskit.models.device import resolve_device
from compresskit.models.family import Batch, Family, LoadedModel
from compresskit.models.registry import require_head
from compresskit.training.engine import Objective

# Texts whose tokens tell two tokenizers of the same vocabulary apart: case, accents, digits, punctuation.
_PROBES = ("Où est l'Élysée?", "The 2,000-year-old COLISEUM isn't in São Paulo.", "a_b c-d e.f 1990s")

# Windows that a teacher is asked at once.
BATCH = 64


@dataclass(frozen=True, slots=True)
class DistillConfig:
    """Settings of distillation: softening `temperature`, and the `weight` of the teacher in the loss (0 to 1)."""

    temperature: float = 2.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf or not 0 <= self.weight <= 1:
            raise UsageError("--temperature must be above 0 and finite, and --distill-weight in [0, 1]")


class DistilledFeatures(Sequence[dict[str, Any]]):
    """Features with the teacher's logits of each, fp16, shape (length, outputs), as `teacher`."""

    def __init__(self, features: FeatureSet, logits: NDArray[np.float16]) -> None:
        self.features = features
        self.logits = logits

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Any) -> Any:
        begin, end = self.features.bounds[index : index + 2]
        return {**self.features[index], "teacher": self.logits[begin:end]}


def same_tokens(teacher: LoadedModel, student: LoadedModel) -> bool:
    """Whether teacher and student cut every text into the same tokens, with the same numbers."""
    ours, theirs = student.tokenizer, teacher.tokenizer
    return theirs.get_vocab() == ours.get_vocab() and all(
        theirs.encode(text) == ours.encode(text) and theirs.tokenize(text) == ours.tokenize(text) for text in _PROBES
    )


def check_teacher(teacher: LoadedModel, student: LoadedModel) -> None:
    """InputError where a teacher cannot teach this student: no head, or logits that are not for the same things.

    Extractive readers give logits of characters of the context, so they can teach each other whatever their tokens.
    """
    require_head(teacher)
    if teacher.family.extractive and student.family.extractive:
        return
    if teacher.family.name != student.family.name:
        raise InputError(
            f"the teacher {teacher.ref} is of family {teacher.family.name}, the student {student.ref} of "
            f"{student.family.name}; take a teacher of the same family"
        )
    if not same_tokens(teacher, student):
        raise InputError(
            f"the teacher {teacher.ref} has another tokenizer than {student.ref}, so its logits are for other tokens; "
            "take a teacher of the same base"
        )


@dataclass(frozen=True, slots=True)
class Texts:
    """What a student's windows were cut from, by which a teacher of other tokens is asked: see `align`."""

    student: LoadedModel
    examples: ExampleSet
    windows: WindowOptions


def teacher_logits(
    teacher: LoadedModel, features: FeatureSet, work: Path, *, device: str, dtype: str, texts: Texts | None = None
) -> NDArray[np.float16]:
    """The teacher's logits of every window, one after another, shape (tokens, outputs), fp16, memory-mapped.

    `texts` are those of `features`, for a teacher of other tokens: its logits are mapped to the student's. Computed
    once: those of the same teacher and the same features in `work` are taken up. Raises RunFailed where the teacher's
    logits are not numbers.
    """
    path, card = work / "teacher-logits.f16", work / "teacher-logits.json"
    key = _key(teacher, features, dtype, texts)
    if not card.exists() or read_json(card)["key"] != key:
        card.unlink(missing_ok=True)
        target = resolve_device(device)
        module: nn.Module = teacher.model
        module.to(target).eval()
        if texts is None:
            rows = _asked(teacher, features, features.lengths, target, dtype)
        else:
            rows = _aligned(teacher, texts, target, dtype)
        outputs = _write(rows, features, path)
        module.to("cpu")
        write_json(card, {"key": key, "outputs": outputs})
    return open_logits(work)


def open_logits(work: Path) -> NDArray[np.float16]:
    """Logits that `teacher_logits` left in a workspace."""
    outputs = read_json(work / "teacher-logits.json")["outputs"]
    return np.memmap(work / "teacher-logits.f16", dtype=np.float16, mode="r").reshape(-1, outputs)


def _key(teacher: LoadedModel, features: FeatureSet, dtype: str, texts: Texts | None) -> str:
    weights = sha256_weights(teacher.path) if teacher.path is not None else ""
    # A teacher of other tokens reads the texts, in which words differ that are the same unknown one to the student.
    read = "" if texts is None else f"{texts.examples.info.sha256} {len(texts.examples)}"
    return hashlib.sha256(f"{weights} {features.fingerprint()} {dtype} {read}".encode()).hexdigest()


def _write(rows: Iterable[tuple[int, NDArray[np.float32]]], features: FeatureSet, path: Path) -> int:
    """Put the logits of each window, (length, outputs), in its place in the file; the number of outputs."""
    flat: Any = None
    with console.progress(len(features), "asking the teacher", "windows") as bar:
        for done, (index, values) in enumerate(rows, start=1):
            if flat is None:
                shape = (int(features.bounds[-1]), values.shape[1])
                reserve(path, shape[0] * shape[1] * np.dtype(np.float16).itemsize)
                flat = np.memmap(path, np.float16, "r+", shape=shape)
            first, last = features.bounds[index : index + 2]
            assert len(values) == last - first, "the texts are not those of the features"
            # What fp16 cannot hold is cut; positions that are no choice at all keep their -inf.
            flat[first:last] = np.where(np.isneginf(values), values, values.clip(-6e4, 6e4))
            bar.update(done)
    assert done == len(features), "the texts are not those of the features"
    flat.flush()
    return int(flat.shape[1])


@torch.inference_mode()
def _asked(
    teacher: LoadedModel, windows: Sequence[Any], lengths: NDArray[np.int64], device: torch.device, dtype: str
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of each of the teacher's own `windows` and its logits, shape (length, outputs)."""
    # Longest first: windows of like length share a batch, and the batch that needs most memory comes at once.
    order = np.argsort(-lengths, kind="stable").tolist()
    loader: DataLoader[Any] = DataLoader(
        windows,  # type: ignore[arg-type]  # any sequence will do
        sampler=order,
        batch_size=BATCH,
        collate_fn=teacher.family.collator(teacher.tokenizer),
        num_workers=2 if device.type == "cuda" and len(order) > CHUNK * 2 else 0,
    )
    for begin, batch in zip(range(0, len(order), BATCH), loader, strict=True):
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32"):
            logits = teacher.family.logits(teacher.model, inputs)
        if bool(logits.isnan().any()):
            raise RunFailed(f"the teacher {teacher.ref} gives logits that are not numbers; train it again")
        values = logits.float().cpu().numpy()
        for row, index in enumerate(order[begin : begin + BATCH]):
            yield index, values[row, : lengths[index]]


def _aligned(
    teacher: LoadedModel, texts: Texts, device: torch.device, dtype: str
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of each of the student's windows and the teacher's logits at its tokens, shape (length, 2)."""
    number = 0
    for chunk in chunked(texts.examples, CHUNK):
        asked = align.ask(teacher, texts.student, chunk, texts.windows)
        logits: list[Any] = []
        if asked.taught is not None:
            encoding = asked.taught.encoding
            windows = [
                {"input_ids": ids, "token_type_ids": types}
                for ids, types in zip(encoding["input_ids"], encoding["token_type_ids"], strict=True)
            ]
            lengths = np.array([len(window["input_ids"]) for window in windows])
            answered = dict(_asked(teacher, windows, lengths, device, dtype))
            logits = [answered[index] for index in range(len(windows))]
        for mapped in align.to_student(asked, logits, teacher, texts.student):
            yield number, mapped
            number += 1


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T² · KL(teacher ‖ student)` over the positions, mean over batch and outputs (Hinton et al. 2015).

    Both logits have shape (batch, length, outputs), fp32, with -inf where a position is no choice (padding, questions).
    What is none to the teacher has no part in the target; what is none to the student is left out of the target.
    """
    teacher = teacher.masked_fill(student == float("-inf"), float("-inf"))
    target = (teacher / temperature).softmax(dim=1)
    # Such a position has no probability in the target; its log-probability of -inf must not be multiplied by that 0.
    log_student = (student / temperature).log_softmax(dim=1).masked_fill(teacher == float("-inf"), 0.0)
    log_target = (teacher / temperature).log_softmax(dim=1).masked_fill(teacher == float("-inf"), 0.0)
    return temperature**2 * (target * (log_target - log_student)).sum(dim=1).mean()


def distilled(family: Family, config: DistillConfig) -> Objective:
    """The teacher's loss and the labels' loss, mixed by the configured weight."""

    def objective(model: nn.Module, batch: Batch, done: float) -> Tensor:
        teacher = batch.pop("teacher")
        logits = family.logits(model, batch)
        soft = distillation_loss(logits, teacher, config.temperature)
        return config.weight * soft + (1 - config.weight) * family.loss(logits, batch)

    return objective
