"""Windows are counted as training makes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compresskit.data.examples import ExampleSet
from compresskit.models.answering import WindowOptions
from compresskit.models.registry import load
from compresskit.models.tasks.token_lengths import token_lengths, window_counts
from tests import tiny
from tests.contract import makers
from tests.data.reading import read


def some(folder: Path) -> ExampleSet:
    rows = [
        {"context": each.context, "question": each.question, "answers": [each.answers[0].text]}
        for each in tiny.examples(9)
    ]
    return read(folder, rows)


@pytest.mark.parametrize("make", [tiny.checkpoint, makers.seq2seq])
def test_as_many_windows_as_training_has(make: Callable[[Path], Path], tmp_path: Path) -> None:
    loaded, examples = load(str(make(tmp_path / "model")), device="cpu"), some(tmp_path)
    options = WindowOptions(max_length=40, stride=2)
    counts = window_counts(loaded, examples, options)
    loaded.task.write(loaded.tokenizer, examples, options, tmp_path / "features")
    assert counts.sum() == len(loaded.task.open(tmp_path / "features"))
    assert counts[0] == 1
    alone = [window_counts(loaded, examples.select([index]), options)[0] for index in range(len(examples))]
    assert counts.tolist() == alone


def test_lengths_are_those_of_the_texts(tmp_path: Path) -> None:
    loaded, examples = load(str(tiny.checkpoint(tmp_path / "model")), device="cpu"), some(tmp_path)
    found = token_lengths(loaded, examples)
    contexts = [len(loaded.tokenizer.tokenize(context)) for _, context in examples.paragraphs()]
    assert found["context"] is not None
    assert (found["context"].median, found["context"].most) == (np.median(contexts), max(contexts))
    assert found["answer"] is not None
    assert found["answer"].most == 1
