"""Answers that do not stand at their offset: where they are found instead, and when offsets count something else."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.data.offsets import Placer, Unit
from tests.data.reading import read

CONTEXT = "Zoë said: “no”.\nÉmile  agreed, and Zoë left 🎈 for Kelby.\nZoë came back."
NFD = unicodedata.normalize("NFD", CONTEXT)


@pytest.mark.parametrize(
    ("context", "text", "start", "expected", "how"),
    [
        (CONTEXT, "Zoë", 0, 0, "exact"),
        (CONTEXT, "Zoë", 30, 35, "nearest"),
        (CONTEXT, "Zoë", 60, 57, "nearest"),
        (CONTEXT, "Zoë", 10**9, 57, "nearest"),
        (CONTEXT, "Émile agreed", 16, 16, "white_space"),
        (CONTEXT, "émile AGREED", 16, 16, "loose"),
        (CONTEXT, "Kelby.Zoë", 50, 50, "loose"),
        (CONTEXT, unicodedata.normalize("NFD", "Émile"), 16, 16, "loose"),
        (NFD, "Émile", 17, 17, "loose"),
        (NFD, "zoe", 0, None, "nowhere"),
        (CONTEXT, "Zoë", None, 0, "absent"),
        (CONTEXT, "zoë", -1, 0, "absent"),
        (CONTEXT, "Paris", 0, None, "nowhere"),
    ],
)
def test_where_an_answer_is_found(context: str, text: str, start: int | None, expected: int | None, how: str) -> None:
    placed = Placer(context).place(text, start)
    assert placed.found == how
    if expected is None:
        assert placed.answer is None
    else:
        assert placed.answer is not None
        assert placed.answer.start == expected
        assert context.startswith(placed.answer.text, expected)
        assert _bare(placed.answer.text) == _bare(text)


def _bare(text: str) -> str:
    return unicodedata.normalize("NFD", "".join(text.split()).casefold())


@settings(max_examples=40)
@given(st.text(max_size=30), st.integers(0, 30), st.integers(1, 10))
def test_every_piece_is_found_again_whatever_its_shape(context: str, start: int, length: int) -> None:
    text = context[start : start + length].strip()
    if text:
        placed = Placer(context).place(text, 0)
        assert placed.answer is not None
        assert context.startswith(placed.answer.text, placed.answer.start)
        assert placed.answer.text == text


COUNTED = {
    "utf-16": lambda before: len(before.encode("utf-16-le")) // 2,
    "bytes": lambda before: len(before.encode()),
    "crlf": lambda before: len(before.replace("\n", "\r\n")),
}


@pytest.mark.parametrize("unit", list(COUNTED))
def test_offsets_that_all_count_something_else(tmp_path: Path, unit: Unit) -> None:
    """Zoë stands three times, so that the nearest occurrence would be another one."""
    context = CONTEXT.replace("🎈", "🎈" * 60).replace("said", "said\n" * 60)
    places = [index for index in range(len(context)) if context.startswith("Zoë", index)]
    answers = [{"text": "Zoë", "answer_start": COUNTED[unit](context[:place])} for place in places]
    qas = [{"id": str(index), "question": "Who?", "answers": [each]} for index, each in enumerate(answers)]
    paragraphs = [{"context": context, "qas": qas}]
    found = read(tmp_path, {"data": [{"paragraphs": paragraphs}]}, "stop")
    assert [each.answers[0].start for each in found] == places
    assert set(found.info.counts) == {"units"}
    # One offset that counts characters: they do not all agree.
    end = context.index("Kelby")
    qas.append({"id": "c", "question": "Where?", "answers": [{"text": "Kelby", "answer_start": end}]})
    assert read(tmp_path, {"data": [{"paragraphs": paragraphs}]}).info.counts["nearest"]


def test_offsets_that_take_two_characters_for_one(tmp_path: Path) -> None:
    context = CONTEXT.replace("\n", "\r\n")
    start = context.replace("\r\n", "\n").rindex("Zoë")
    qas = [{"id": "a", "question": "Who?", "answers": [{"text": "Zoë", "answer_start": start}]}]
    (found,) = read(tmp_path, {"data": [{"paragraphs": [{"context": context, "qas": qas}]}]}, "stop")
    assert found.answers[0].start == context.rindex("Zoë")
