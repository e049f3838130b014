"""What two sets have in common, and what stands twice in one."""

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.examples import ExampleSet
from compresskit.data.overlap import Overlap, overlap, text_hash
from compresskit.data.repeats import repeats
from tests.data.reading import read

TEXT = "Zoë wrote it in Kelby."


def one(folder: Path, context: str, question: str, answer: str) -> ExampleSet:
    fields: dict[str, Any] = {"context": context, "question": question, "answers": [answer]}
    return read(folder, [fields])


def test_the_same_is_told_in_spite_of_its_form(tmp_path: Path) -> None:
    known = one(tmp_path, TEXT, "Who wrote it?", "Zoë")
    assert overlap(known, known) == Overlap(1, 1)
    assert overlap(one(tmp_path, TEXT.upper().replace(" ", "\n"), "who  wrote it?", "Kelby"), known) == Overlap(1, 1)
    assert overlap(one(tmp_path, "Zoe\u0308 wrote it in Kelby.", "Where?", "Kelby"), known) == Overlap(0, 1)
    assert overlap(one(tmp_path, "It is Zoë's.", "Who wrote it?", "ZOË"), known) == Overlap(1, 0)
    assert overlap(one(tmp_path, "It is Zoë's.", "Who wrote it?", "It"), known) == Overlap(0, 0)


def test_each_is_counted_once_and_in_its_own_set(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"context": TEXT, "question": f"{number}?", "answers": []} for number in range(3)]
    several, single = read(tmp_path, rows), read(tmp_path, rows[:1])
    assert overlap(single, several) == overlap(several, single) == Overlap(1, 1)


@given(st.lists(st.integers(0, 5)))
def test_repeats_name_the_first(values: list[int]) -> None:
    pairs = list(repeats(map(text_hash, map(str, values))))
    assert pairs == [(values.index(value), at) for at, value in enumerate(values) if values.index(value) < at]
    assert len(pairs) == sum(count - 1 for count in Counter(values).values())
