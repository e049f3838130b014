"""Data written anew read as the same data."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compresskit.data import convert as module
from compresskit.data import reading
from compresskit.data.convert import check_ending, convert
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load
from compresskit.errors import UsageError
from tests.data.reading import read

ENDINGS = (".json", ".json.gz", ".parquet")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SAID = TEXT.filter(lambda text: bool(text.strip()))


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """SQuAD data with answers that stand in their contexts, at some offset."""
    count = 0
    articles = []
    for title in draw(st.lists(TEXT, min_size=1, max_size=3)):
        paragraphs = []
        for context in draw(st.lists(SAID, max_size=3)):
            qas = []
            for question in draw(st.lists(TEXT, max_size=3)):
                count += 1
                cut = draw(st.tuples(st.integers(0, len(context)), st.integers(0, len(context))))
                text = context[min(cut) : max(cut)]
                answers = [{"text": text, "answer_start": draw(st.integers(0, 12))}] if text.strip() else []
                qas.append({"id": f"{question}{count}", "question": question, "answers": answers})
            paragraphs.append({"context": context, "qas": qas})
        articles.append({"title": title, "paragraphs": paragraphs})
    articles.append({"title": "last", "paragraphs": [{"context": "a", "qas": [{"id": "", "question": "?"}]}]})
    return {"data": articles}


def told(examples: ExampleSet, *more: str) -> list[tuple[Any, ...]]:
    return [
        tuple(getattr(each, key) for key in ("id", "title", "question", "context", "answers", *more))
        for each in examples
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
def test_a_round_trip_loses_nothing(tmp_path: Path, document: dict[str, Any]) -> None:
    first = read(tmp_path, document)
    for ending in ENDINGS:
        path = tmp_path / f"out{ending}"
        convert(first, path)
        again = reading.read(path, None, "stop")
        assert told(again) == told(first)
        assert again.info.counts == {}
        if ending != ".parquet":
            assert told(again, "paragraph") == told(first, "paragraph")
            assert again.store.article_table == first.store.article_table
            assert again.store.paragraph_table == first.store.paragraph_table


def test_the_layouts(tmp_path: Path) -> None:
    context = "Ada wrote it."
    qas: list[Any] = [{"id": 1, "question": "Who?", "answers": {"text": ["ADA"], "answer_start": ["9"]}, "x": 1}]
    first = read(
        tmp_path, {"data": [{"paragraphs": [{"context": context, "qas": [*qas, {"id": "2", "question": "?"}]}]}]}
    )
    convert(first, tmp_path / "out.json.gz")
    written = gzip.decompress((tmp_path / "out.json.gz").read_bytes())
    convert(first, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_bytes() == written
    answer = {"text": "Ada", "answer_start": 0}
    assert json.loads(written) == {
        "version": "v2.0",
        "data": [
            {
                "title": "",
                "paragraphs": [
                    {
                        "context": context,
                        "qas": [
                            {"id": "1", "question": "Who?", "answers": [answer], "is_impossible": False},
                            {"id": "2", "question": "?", "answers": [], "is_impossible": True},
                        ],
                    }
                ],
            }
        ],
    }
    convert(first, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {
            "id": "1",
            "title": "",
            "context": context,
            "question": "Who?",
            "answers": {"text": ["Ada"], "answer_start": [0]},
        },
        {"id": "2", "title": "", "context": context, "question": "?", "answers": {"text": [], "answer_start": []}},
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_whole_or_not_at_all(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(tmp_path, [{"context": "Ada.", "question": "?"}])
    (tmp_path / f"out{ending}").write_bytes(b"before")
    names = sorted(path.name for path in tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(module, "_row" if ending == ".parquet" else "_question", fail)
    with pytest.raises(OSError, match="full"):
        convert(first, tmp_path / f"out{ending}")
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / f"out{ending}").read_bytes() == b"before"


def test_other_endings() -> None:
    for ending in ENDINGS:
        check_ending(Path(f"out{ending}"))
    with pytest.raises(UsageError, match=r"end it in .json, .json.gz, .parquet"):
        check_ending(Path("out.csv"))


def test_the_built_in_set(tmp_path: Path) -> None:
    first = load("demo", "eval")
    for ending in ENDINGS:
        convert(first, tmp_path / f"out{ending}")
        assert told(reading.read(tmp_path / f"out{ending}", None, "stop")) == told(first)
