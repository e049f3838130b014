"""A family and task that looks answers up, so that asking is tested without a model, and questions about Rome."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from torch import nn

from compresskit.data.examples import Answer, Example
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import LoadedModel


class LookUp:
    """Its own task: answers with the gold text, and remembers in what batches it was asked."""

    name = "look-up"

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def answer(self, loaded: LoadedModel, examples: Iterable[Example], options: AnswerOptions) -> Iterator[Prediction]:
        for example in examples:
            self.asked.append((example.id, options.batch_size))
            text = example.answers[0].text if example.answers else ""
            yield Prediction(example.id, text, 2.0, 1.0 if text else 3.0, text or "span")


def loaded(folder: Path, family: LookUp) -> LoadedModel:
    (folder / "model.bin").write_bytes(b"x" * 10)
    fake = SimpleNamespace(
        model=nn.Linear(3, 4),
        tokenizer=None,  # nothing here is long enough to be tokenized
        family=family,
        task=family,
        kind=FullKind(),
        path=folder,
        manifest=None,
        method="-",
        device=torch.device("cpu"),
        files=[folder / "model.bin", folder / "model.bin"],
    )
    return cast(LoadedModel, fake)


def examples(count: int) -> list[Example]:
    golds = [(Answer("Rome", 0),) if index % 2 else () for index in range(count)]
    return [Example(f"q{i}", "", "where?", "Rome.", gold, not gold, i) for i, gold in enumerate(golds)]
