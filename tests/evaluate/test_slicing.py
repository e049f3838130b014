"""Which slice a question is in: by what it asks, by lengths, and by a column of the data in any form."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compresskit.data.load import load
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.slice import SliceName, slice_name
from compresskit.evaluate.slicing import MOST_VALUES, Division, divided, kept_keys, question_word, words

CONTEXT = "Ada wrote it in Kelby, which lies in the far north."
ROWS: list[dict[str, Any]] = [
    {"question": "In what town did Ada write?", "answers": ["Kelby"], "topic": "New York", "hops": 2},
    {
        "question": "WHOSE book is it, and when was it made?",
        "answers": ["Ada wrote it in Kelby", "it"],
        "topic": " art ",
    },
    {"question": "For how  many years?", "answers": [], "topic": None, "hops": 10},
    {"question": "Somewhat whatever?", "answers": ["in the far north"], "topic": "art", "hops": 10.0},
]


def rows() -> list[dict[str, Any]]:
    def answers(texts: list[str]) -> dict[str, Any]:
        return {"text": texts, "answer_start": [CONTEXT.index(text) for text in texts]}

    return [
        {**row, "id": str(at), "context": CONTEXT, "answers": answers(row["answers"])} for at, row in enumerate(ROWS)
    ]


def forms(folder: Path) -> dict[str, Path]:
    """The rows as JSON lines, Parquet, CSV (with a heading in capitals) and SQuAD."""
    lines, parquet, table, squad = (folder / name for name in ("lines", "parquet", "table", "squad"))
    lines.write_text("\n".join(map(json.dumps, rows())))
    pq.write_table(pa.Table.from_pylist(rows()), parquet)
    cells = [
        [
            row["id"],
            CONTEXT,
            row["question"],
            json.dumps(row["answers"]),
            row.get("topic") or "",
            f"{row['hops']:g}" if "hops" in row else "",
        ]
        for row in rows()
    ]
    quoted = [",".join('"' + str(cell).replace('"', '""') + '"' for cell in line) for line in cells]
    table.write_text("\n".join(["id,context,question,answers,Topic,hops", *quoted]))
    qas = [{**row, "context": None, "is_impossible": not row["answers"]["text"]} for row in rows()]
    squad.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    return {path.name: path for path in (lines, parquet, table, squad)}


def labels(division: Division) -> list[str]:
    return [division.values[number] for number in division.number]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Who is it?", "who"),
        ("To whom, and when?", "who"),
        ("What's that?", "what"),
        ("In which year?", "which"),
        ("How much is it?", "how many"),
        ("How old is it?", "how"),
        ("Name the whole nowhere.", "other"),
        ("", "other"),
    ],
)
def test_the_question_word_is_the_first_of_them(question: str, word: str) -> None:
    assert question_word(question) == word


def test_words_stand_between_spaces_or_are_characters() -> None:
    assert [words(text) for text in ("", " a  b\nc ", "東京 is 大", "U.S. army")] == [0, 3, 4, 2]


@pytest.mark.parametrize("form", ["lines", "parquet", "table", "squad"])
def test_questions_are_divided_by_all_that_is_asked_in_every_form(tmp_path: Path, form: str) -> None:
    names = [SliceName("topic" if form != "table" else "Topic"), SliceName("hops", "10"), SliceName("question", "who")]
    examples = load(str(forms(tmp_path)[form]), "eval", keep=kept_keys(names))
    found = {key.lower(): labels(division) for key, division in divided(examples, names).items()}
    assert found == {
        "question": ["what", "who", "how many", "other"],
        "answerable": ["yes", "yes", "no", "yes"],
        "answer_length": ["1", "1", "none", "3-5"],
        "context_length": ["1-50"] * 4,
        "topic": ["New York", "art", "none", "art"],
        "hops": ["2", "none", "10", "10"],
    }
    assert not any(load(str(forms(tmp_path)[form]), "eval").kept())


def test_slices_stand_in_their_order_and_no_empty_one_does() -> None:
    found = Division.of_lengths("answer_length", [11, 0, 2, 10, 5, 3])
    assert found.values == ("none", "2", "3-5", "6-10", "11+")
    assert labels(found) == ["11+", "none", "2", "6-10", "3-5", "3-5"]
    assert Division.of(["10", "b", "9", "a", "nan"]).values == ("9", "10", "a", "b", "nan")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (SliceName("colour"), "--slice: no question has a key 'colour'; take question, answerable"),
        (
            SliceName("topic", "Art", "--gate 'x'"),
            "--gate 'x': no question has topic=Art; the values are New York, art, none",
        ),
        (SliceName("question", "when"), "no question has question=when; the values are who, what, how many, other"),
    ],
)
def test_a_key_or_a_value_of_no_question_is_refused(tmp_path: Path, name: SliceName, told: str) -> None:
    examples = load(str(forms(tmp_path)["lines"]), "eval", keep=kept_keys([name]))
    with pytest.raises(UsageError) as caught:
        divided(examples, [name])
    assert told in str(caught.value)


def test_what_tells_no_slices_apart_is_refused(tmp_path: Path) -> None:
    many = tmp_path / "many.json"
    row = {"context": CONTEXT, "question": "Why?", "answers": []}
    many.write_text("\n".join(json.dumps({**row, "n": at}) for at in range(MOST_VALUES + 1)))
    with pytest.raises(UsageError, match="'n' has 501 values, more than 500"):
        divided(load(str(many), "eval", keep=("n",)), [SliceName("n")])
    for value, told in (([1], "'n' is a list"), ({"a": 1}, "'n' is an object"), ("x" * 201, "of 201 characters")):
        many.write_text(json.dumps({**row, "n": value}))
        with pytest.raises(InputError, match=told):
            load(str(many), "eval", keep=("n",))


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("question=when", "question", "when"),
        (" question = how many ", "question", "how many"),
        ('topic="[a] = b\'s"', "topic", "[a] = b's"),
        ("topic='say \"x\"'", "topic", 'say "x"'),
        ("answer_length=11+", "answer_length", "11+"),
    ],
)
def test_a_gate_names_a_slice(text: str, key: str, value: str) -> None:
    found = slice_name(text, "rule")
    assert (found.key, found.value) == (key, value)


@pytest.mark.parametrize("text", ["", "question", "=when", "question=", "question='when"])
def test_what_names_no_slice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no slice"):
        slice_name(text, "rule")
