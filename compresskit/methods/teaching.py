"""What a student learns from: the labels, and a teacher's answers (Hinton et al. 2015, arXiv 1503.02531).

The teacher sees every feature once. What its task keeps of its answers lies on disk, memory-mapped, so that all epochs
but the first cost no more than training without a teacher, and the teacher need not stay in the GPU's memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from compresskit import console
from compresskit.checkpoint.seal import check_seal, sealed_folder
from compresskit.checkpoint.store import read_json, reserve, sha256_weights, write_json
from compresskit.errors import InputError
from compresskit.methods.retelling import retold_features
from compresskit.models.device import resolve_device
from compresskit.models.kinds.bnb import move
from compresskit.models.loaded import LoadedModel
from compresskit.models.task import Batch, Choices, Features, Items, Kept, Lesson, Pairing, Task
from compresskit.models.tasks.windows import CHUNK
from compresskit.training.computing import Objective, compute_dtype, computing_in
from compresskit.training.session import Session

# Features that a teacher is asked about at once.
BATCH = 64
# The folder of what is kept of its answers, and the file in it that tells whose they are and how they are stored.
_KEPT, _CARD = "taught", "teacher.json"


def cross_entropy(choices: Choices) -> Tensor:
    """Mean cross-entropy of the labels over the rows of choices, a scalar."""
    assert choices.labels is not None
    return nn.functional.cross_entropy(choices.logits, choices.labels)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T² · KL(teacher ‖ student)` over the choices of a row, mean over the rows (Hinton et al. 2015).

    Both logits have shape (n, k), fp32, with -inf where there is no choice. What is none to the teacher has no part in
    the target; what is none to the student is left out of the target.
    """
    # With the choices along a dimension that is not the last, torch adds them one after another on a CPU, whatever the
    # width of its vectors: the same seed gives the same weights on more machines.
    student, teacher = student.unsqueeze(-1), teacher.unsqueeze(-1)
    teacher = teacher.masked_fill(student == float("-inf"), float("-inf"))
    target = (teacher / temperature).softmax(dim=1)
    # Such a choice has no probability in the target; its log-probability of -inf must not be multiplied by that 0.
    log_student = (student / temperature).log_softmax(dim=1).masked_fill(teacher == float("-inf"), 0.0)
    log_target = (teacher / temperature).log_softmax(dim=1).masked_fill(teacher == float("-inf"), 0.0)
    return temperature**2 * (target * (log_target - log_student)).sum(dim=1).mean()


def supervised(task: Task) -> Objective:
    """The loss of the labels alone."""

    def objective(model: nn.Module, batch: Batch, done: float) -> Tensor:
        return cross_entropy(task.choices(model, batch))

    return objective


def distilled(task: Task, temperature: float, weight: float) -> Objective:
    """The teacher's loss and the labels' loss, mixed by `weight`, the teacher's part."""

    def objective(model: nn.Module, batch: Batch, done: float) -> Tensor:
        choices = task.choices(model, batch)
        soft = distillation_loss(choices.logits, task.recall(batch, choices.logits.shape[1]), temperature)
        return weight * soft + (1 - weight) * cross_entropy(choices)

    return objective


class TaughtFeatures:
    """Features with what is kept of the teacher's answers to each: arrays of shape (rows, width) by name."""

    def __init__(self, features: Features, kept: Kept) -> None:
        self.features = features
        self.kept = kept

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Any) -> Any:
        begin, end = self.features.bounds[index : index + 2]
        return {**self.features[index], **{name: rows[begin:end] for name, rows in self.kept.items()}}


def taught(session: Session, teacher: LoadedModel, temperature: float, weight: float) -> tuple[Items, Objective, str]:
    """What a session's student learns from a teacher: its features and its loss.

    And a word for what of the teacher it is: its `logits`, or, where its choices are not the student's, its `answers`.
    The first process of the run asks the teacher. Raises InputError where the teacher cannot teach this student,
    InputError where its logits are not numbers.
    """
    task = session.loaded.task
    pairing = task.pairing(teacher, session.loaded)
    if pairing is None:
        console.info(f"the teacher's answers are the targets of {weight:.0%} of the questions")
        return retold_features(session, teacher, weight), supervised(task), "answers"
    if session.is_main:
        lesson = Lesson(session.features, session.examples, session.options.windows)
        ask_teacher(teacher, pairing, lesson, session.work, session.options.device, compute_dtype(session.options))
    PartialState().wait_for_everyone()
    features = TaughtFeatures(session.features, open_kept(session.work))
    return features, distilled(task, temperature, weight), "logits"


def ask_teacher(teacher: LoadedModel, pairing: Pairing, lesson: Lesson, work: Path, device: str, dtype: str) -> None:
    """Keep the teacher's answers about a lesson in the workspace `work`, unless they are there already.

    Raises InputError where the teacher's logits are not numbers, or what is kept of them is damaged.
    """
    folder, key = work / _KEPT, _key(teacher, pairing, lesson, dtype)
    if folder.is_dir():
        check_seal(folder)
        if read_json(folder / _CARD)["key"] == key:
            return
    target = resolve_device(device)
    module: nn.Module = teacher.model
    move(module, target)
    module.eval()

    def ask(features: Items, lengths: NDArray[np.int64]) -> Iterator[tuple[int, Kept]]:
        return _asked(teacher, features, lengths, target, dtype)

    with sealed_folder(folder) as staging:
        columns = _write(pairing.kept(lesson, ask), lesson.features, staging)
        write_json(staging / _CARD, {"key": key, "columns": columns})
    move(module, torch.device("cpu"))


def open_kept(work: Path) -> dict[str, NDArray[Any]]:
    """What `ask_teacher` left in a workspace: each column with the rows of all features one after another."""
    folder = work / _KEPT
    columns = read_json(folder / _CARD)["columns"]
    return {
        name: np.memmap(_file(folder, name), dtype=column["dtype"], mode="r").reshape(-1, column["width"])
        for name, column in columns.items()
    }


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.rows"


def _key(teacher: LoadedModel, pairing: Pairing, lesson: Lesson, dtype: str) -> str:
    weights = sha256_weights(teacher.path) if teacher.path is not None else ""
    return hashlib.sha256(
        f"{weights} {lesson.features.fingerprint()} {dtype} {pairing.key(lesson)}".encode()
    ).hexdigest()


def _write(answers: Iterable[tuple[int, Kept]], features: Features, folder: Path) -> dict[str, Any]:
    """Put what is kept of each feature in its place in the files; dtype and width of each column."""
    files: dict[str, Any] = {}
    done = 0
    with console.progress(len(features), "asking the teacher", "features") as bar:
        for done, (index, kept) in enumerate(answers, start=1):
            files = files or {name: _new_file(_file(folder, name), rows, features) for name, rows in kept.items()}
            first, last = features.bounds[index : index + 2]
            for name, rows in kept.items():
                assert len(rows) == last - first, "the lesson is not that of the features"
                files[name][first:last] = _stored(rows)
            bar.update(done)
    assert done == len(features), "the lesson is not that of the features"
    for file in files.values():
        file.flush()
    return {name: {"dtype": str(file.dtype), "width": file.shape[1]} for name, file in files.items()}


def _new_file(path: Path, rows: NDArray[Any], features: Features) -> Any:
    dtype = _stored(rows).dtype
    shape = (int(features.bounds[-1]), rows.shape[1])
    reserve(path, shape[0] * shape[1] * dtype.itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _stored(rows: NDArray[Any]) -> NDArray[Any]:
    """Logits in fp16, whole numbers as they are. What fp16 cannot hold is cut; -inf, which is not a choice, stays."""
    if not np.issubdtype(rows.dtype, np.floating):
        return rows
    return np.where(np.isneginf(rows), rows, rows.clip(-6e4, 6e4)).astype(np.float16)


@torch.inference_mode()
def _asked(
    teacher: LoadedModel,
    features: Items,
    lengths: NDArray[np.int64],
    device: torch.device,
    dtype: str,
) -> Iterator[tuple[int, Kept]]:
    """The number of each feature that the teacher reads, and what its task keeps of the answer."""
    # Longest first: features of like length share a batch, and the batch that needs most memory comes at once.
    order = np.argsort(-lengths, kind="stable").tolist()
    loader: DataLoader[Any] = DataLoader(
        features,  # type: ignore[arg-type]  # any sequence will do
        sampler=order,
        batch_size=BATCH,
        collate_fn=teacher.task.collator(teacher.tokenizer),
        num_workers=2 if device.type == "cuda" and len(order) > CHUNK * 2 else 0,
        pin_memory=device.type == "cuda",  # else the copies below wait
    )
    for begin, batch in zip(range(0, len(order), BATCH), loader, strict=True):
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with computing_in(dtype, device):
            choices = teacher.task.choices(teacher.model, inputs)
        if bool(choices.logits.isnan().any()):
            raise InputError(f"the teacher {teacher.ref} gives logits that are not numbers; train it again")
        yield from zip(order[begin : begin + BATCH], teacher.task.keep(choices, inputs), strict=True)
