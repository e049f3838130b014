"""Questions that are held out of a training."""

import json
from pathlib import Path

import pytest

from compresskit.data.examples import ExampleSet
from compresskit.data.held_out import hold_out
from compresskit.data.load import load
from compresskit.errors import InputError

QUESTIONS = 3  # about each paragraph


def squad(path: Path, contexts: list[str]) -> ExampleSet:
    """Questions about each context."""
    paragraphs = []
    for number, context in enumerate(contexts):
        questions = [
            {"id": f"{number}-{index}", "question": "Where?", "answers": [{"text": "here", "answer_start": 0}]}
            for index in range(QUESTIONS)
        ]
        paragraphs.append({"context": context, "qas": questions})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return load(str(path), "train")


def ids(examples: ExampleSet) -> list[str]:
    return [example.id for example in examples]


@pytest.fixture
def examples(tmp_path: Path) -> ExampleSet:
    return squad(tmp_path / "data.json", [f"here is text {number}" for number in range(20)])


def test_whole_paragraphs_are_held_out_and_nothing_is_lost(examples: ExampleSet) -> None:
    learned, out = hold_out(examples, 0.2, 1)
    assert len(out) == 4 * QUESTIONS
    assert out.info.paragraphs == 4
    assert sorted(ids(learned) + ids(out)) == sorted(ids(examples))
    assert not {example.context for example in learned} & {example.context for example in out}


def test_the_draw_depends_on_the_seed_alone(examples: ExampleSet) -> None:
    assert ids(hold_out(examples, 0.2, 1)[1]) == ids(hold_out(examples, 0.2, 1)[1])
    assert ids(hold_out(examples, 0.2, 1)[1]) != ids(hold_out(examples, 0.2, 2)[1])


def test_a_text_that_stands_twice_is_on_one_side(tmp_path: Path) -> None:
    """As flat rows have it: a copy of the context with each question."""
    contexts = [f"here is  text {number // 4}" if number % 2 else f"here is text {number // 4}" for number in range(20)]
    examples = squad(tmp_path / "data.json", contexts)
    for seed in range(5):
        learned, out = hold_out(examples, 0.2, seed)
        sides = [{" ".join(example.context.split()) for example in part} for part in (learned, out)]
        assert not sides[0] & sides[1]
        assert len(out) == 4 * QUESTIONS


def test_something_has_to_be_left(tmp_path: Path) -> None:
    examples = squad(tmp_path / "data.json", ["here it is"] * 4)
    with pytest.raises(InputError, match=r"holds out whole paragraphs.*give --select-on eval with --eval-data"):
        hold_out(examples, 0.1, 0)
