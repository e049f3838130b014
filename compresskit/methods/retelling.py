"""Sequence-level distillation: a teacher's answers are a student's targets (Kim & Rush 2016, arXiv 1606.07947).

So a model that writes its answers learns from any reader, whatever its tokens: only texts pass between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from accelerate import PartialState
from torch import nn

from compresskit import console
from compresskit.checkpoint.seal import check_seal, sealed_folder
from compresskit.checkpoint.store import sha256_weights
from compresskit.data.examples import Answer, Example
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.device import resolve_device
from compresskit.models.kinds.bnb import move
from compresskit.models.loaded import LoadedModel
from compresskit.models.task import Features
from compresskit.training.session import Session, opened_features

# The teacher's windows, in its tokens: what encoders read at most, and the part of it that neighbours share.
LONGEST, SHARED = 512, 4


def retold_features(session: Session, teacher: LoadedModel, weight: float) -> Features:
    """The session's features with the teacher's answers as targets of the fraction `weight` of the questions.

    The first process of the run asks the teacher, once; which questions are its own is drawn with the run's seed.
    Raises InputError where what an interrupted run left of them is damaged.
    """
    folder = session.work / f"retold-{_key(session, teacher, weight)}"
    if session.is_main and folder.is_dir():
        check_seal(folder)
    elif session.is_main:
        loaded = session.loaded
        with sealed_folder(folder) as staging:
            loaded.task.write(loaded.tokenizer, _retold(session, teacher, weight), session.options.windows, staging)
    PartialState().wait_for_everyone()
    return opened_features(session.loaded, folder, session.options)


def _key(session: Session, teacher: LoadedModel, weight: float) -> str:
    weights = sha256_weights(teacher.path) if teacher.path is not None else ""
    told = f"{weights} {session.features.fingerprint()} {session.options.seed} {weight}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _retold(session: Session, teacher: LoadedModel, weight: float) -> Iterator[Example]:
    """The session's questions, many of them with the teacher's answers."""
    device = resolve_device(session.options.device)
    module: nn.Module = teacher.model
    move(module, device)
    module.eval()
    drawn = np.random.default_rng(session.options.seed).random(len(session.examples)) < weight
    asked = session.examples.select(np.flatnonzero(drawn))
    longest = min(LONGEST, teacher.family.max_positions(teacher.model.config) or LONGEST)
    answers = teacher.task.answer(teacher, asked, AnswerOptions(max_length=longest, stride=longest // SHARED))
    with console.progress(len(session.examples), "asking the teacher", "questions") as bar:
        for number, example in enumerate(session.examples):
            yield retell(example, next(answers)) if drawn[number] else example
            bar.update(number + 1)
    move(module, torch.device("cpu"))


def retell(example: Example, prediction: Prediction) -> Example:
    """A question with the teacher's answer in place of its own; itself where the context does not hold that answer."""
    if not prediction.text:
        return replace(example, answers=(), is_impossible=True)
    start = example.context.find(prediction.text)
    return example if start < 0 else replace(example, answers=(Answer(prediction.text, start),), is_impossible=False)
