"""Distillation: a student learns from a teacher's logits (Hinton et al. 2015, arXiv 1503.02531).

The teacher sees every window once. Its logits are kept on disk in fp16, memory-mapped, so that all epochs but the first
cost no more than training without a teacher, and the teacher need not stay in the GPU's memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
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
from compresskit.data.features import FeatureSet
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.models.device import resolve_device
from compresskit.models.family import Batch, Family, LoadedModel
from compresskit.models.registry import require_head
from compresskit.training.engine import Objective

# Texts whose tokens tell two tokenizers of the same vocabulary apart: case, accents, digits, punctuation.
_PROBES = ("Où est l'Élysée?", "The 2,000-year-old COLISEUM isn't in São Paulo.", "a_b c-d e.f 1990s")


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


def check_teacher(teacher: LoadedModel, student: LoadedModel) -> None:
    """InputError where a teacher cannot teach this student: no head, another family, or another tokenizer."""
    require_head(teacher)
    if teacher.family.name != student.family.name:
        raise InputError(
            f"the teacher {teacher.ref} is of family {teacher.family.name}, the student {student.ref} of "
            f"{student.family.name}; take a teacher of the same family"
        )
    same = teacher.tokenizer.get_vocab() == student.tokenizer.get_vocab() and all(
        teacher.tokenizer.tokenize(text) == student.tokenizer.tokenize(text) for text in _PROBES
    )
    if not same:
        raise InputError(
            f"the teacher {teacher.ref} has another tokenizer than {student.ref}, so its logits are for other tokens; "
            "take a teacher of the same base"
        )


def teacher_logits(
    teacher: LoadedModel, features: FeatureSet, work: Path, *, device: str, dtype: str
) -> NDArray[np.float16]:
    """The teacher's logits of every window, one after another, shape (tokens, outputs), fp16, memory-mapped.

    Computed once: those of the same teacher and the same features in `work` are taken up. Raises RunFailed where the
    teacher's logits are not numbers.
    """
    path, card = work / "teacher-logits.f16", work / "teacher-logits.json"
    key = _key(teacher, features, dtype)
    if not card.exists() or read_json(card)["key"] != key:
        card.unlink(missing_ok=True)
        outputs = _compute(teacher, features, path, device=device, dtype=dtype)
        write_json(card, {"key": key, "outputs": outputs})
    return open_logits(work)


def open_logits(work: Path) -> NDArray[np.float16]:
    """Logits that `teacher_logits` left in a workspace."""
    outputs = read_json(work / "teacher-logits.json")["outputs"]
    return np.memmap(work / "teacher-logits.f16", dtype=np.float16, mode="r").reshape(-1, outputs)


def _key(teacher: LoadedModel, features: FeatureSet, dtype: str) -> str:
    weights = sha256_weights(teacher.path) if teacher.path is not None else ""
    return hashlib.sha256(f"{weights} {features.fingerprint()} {dtype}".encode()).hexdigest()


@torch.inference_mode()
def _compute(
    teacher: LoadedModel, features: FeatureSet, path: Path, *, device: str, dtype: str, batch_size: int = 64
) -> int:
    target = resolve_device(device)
    model: nn.Module = teacher.model
    model.to(target).eval()
    # Longest first: windows of like length share a batch, and the batch that needs most memory comes at once.
    order = np.argsort(-features.lengths, kind="stable").tolist()
    loader: DataLoader[Any] = DataLoader(
        features,  # type: ignore[arg-type]  # any sequence will do
        sampler=order,
        batch_size=batch_size,
        collate_fn=teacher.family.collator(teacher.tokenizer),
        num_workers=2 if target.type == "cuda" else 0,
    )
    flat: Any = None
    with console.progress(len(features), "asking the teacher", "windows") as bar:
        for begin, batch in zip(range(0, len(order), batch_size), loader, strict=True):
            inputs = {name: tensor.to(target, non_blocking=True) for name, tensor in batch.items()}
            with torch.autocast(target.type, getattr(torch, dtype), enabled=dtype != "float32"):
                logits = teacher.family.logits(model, inputs)
            if flat is None:
                shape = (int(features.bounds[-1]), logits.shape[-1])
                reserve(path, shape[0] * shape[1] * np.dtype(np.float16).itemsize)
                flat = np.memmap(path, np.float16, "r+", shape=shape)
            if bool(logits.isnan().any()):
                raise RunFailed(f"the teacher {teacher.ref} gives logits that are not numbers; train it again")
            values = logits.clamp(-6e4, 6e4).half().cpu().numpy()
            for row, index in enumerate(order[begin : begin + batch_size]):
                first, last = features.bounds[index : index + 2]
                flat[first:last] = values[row, : last - first]
            bar.update(begin + len(values))
    flat.flush()
    model.to("cpu")
    return int(flat.shape[1])


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T² · KL(teacher ‖ student)` over the positions, mean over batch and outputs (Hinton et al. 2015).

    Both logits have shape (batch, length, outputs), fp32, with -inf at the same positions (padding).
    """
    target = (teacher / temperature).softmax(dim=1)
    # Padding has no probability in the target; its log-probability of -inf must not be multiplied by that 0.
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
