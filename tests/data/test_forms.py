"""The same questions in every form that data come in, packed in every way: told by what is in the file."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from compresskit.data import reading
from compresskit.data.examples import Answer, ExampleSet
from compresskit.data.forms import form_of
from compresskit.data.load import load, local_files
from compresskit.errors import InputError

TEXTS = ["Ada, “the first”, wrote it in\nKelby.", "Zoë left \N{BALLOON}."]
ROWS: list[dict[str, Any]] = [
    {
        "id": "1",
        "title": "t",
        "context": TEXTS[0],
        "question": "Who?",
        "answers": [("Ada", 0), ("Ada, “the first”", 0)],
    },
    {"id": "2", "title": "t", "context": TEXTS[0], "question": "Why, at all?", "answers": []},
    {"id": "3", "title": "u", "context": TEXTS[1], "question": "Who?", "answers": [("Zoë", 0)]},
]
COLUMNS = ["id", "title", "context", "question", "answers"]


def lists(row: dict[str, Any]) -> dict[str, Any]:
    """A row as `datasets` has it."""
    texts = [text for text, _ in row["answers"]]
    return {**row, "answers": {"text": texts, "answer_start": [start for _, start in row["answers"]]}}


FLAT = [lists(row) for row in ROWS]


def table(delimiter: str, answers: Callable[[Any], str]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    writer.writerows({**row, "answers": answers(row["answers"])} for row in FLAT)
    return out.getvalue().encode()


def pandas(answers: dict[str, Any]) -> str:
    return f"{{'text': array({answers['text']!r}, dtype=object), 'answer_start': array({answers['answer_start']!r})}}"


def mrqa() -> bytes:
    """JSON lines of passages, with where answers were found; another accepted answer stands nowhere."""
    lines: list[Any] = [{"header": {"dataset": "x", "split": "train"}}]
    for text in TEXTS:
        qas = []
        for row in (row for row in ROWS if row["context"] == text):
            found = [{"text": each, "char_spans": [[at, at + len(each) - 1]]} for each, at in row["answers"]]
            asked = {"qid": row["id"], "question": row["question"], "question_tokens": [["Who", 0]]}
            qas.append({**asked, "detected_answers": found, "answers": [each for each, _ in row["answers"]]})
        lines.append({"id": "", "context": text, "context_tokens": [["Ada", 0]], "qas": qas})
    return "\n".join(map(json.dumps, lines)).encode()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(FLAT), out, row_group_size=2)
    return out.getvalue()


def squad() -> bytes:
    articles = []
    for title, text in zip("tu", TEXTS, strict=True):
        qas = [
            {
                **{key: row[key] for key in ("id", "question")},
                "answers": [{"text": each, "answer_start": start} for each, start in row["answers"]],
                "is_impossible": not row["answers"],
            }
            for row in ROWS
            if row["title"] == title
        ]
        articles.append({"title": title, "paragraphs": [{"context": text, "qas": qas}]})
    return json.dumps({"data": articles}).encode()


FORMS: dict[str, bytes] = {
    "SQuAD": squad(),
    "an array": json.dumps(FLAT, indent=1).encode(),
    "rows under data": json.dumps({"version": "1", "data": FLAT}).encode(),
    "JSON lines": "\n".join(map(json.dumps, FLAT)).encode(),
    "objects one behind the other": "\n\n".join(json.dumps(row, indent=1) for row in FLAT).encode(),
    "passages": b"\n".join(json.dumps(each["paragraphs"][0] | each).encode() for each in json.loads(squad())["data"]),
    "articles": b"\n".join(json.dumps(each).encode() for each in json.loads(squad())["data"]),
    "CSV": table(",", json.dumps),
    "CSV of pandas": table(",", pandas),
    "TSV": table("\t", repr),
    "CSV with semicolons": table(";", json.dumps),
    "MRQA": mrqa(),
    "Parquet": parquet(),
}


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/file", data)
    return out.getvalue()


def told(found: ExampleSet) -> list[tuple[Any, ...]]:
    return [(each.id, each.question, each.context, each.answers) for each in found]


EXPECTED = [
    (row["id"], row["question"], row["context"], tuple(Answer(text, start) for text, start in row["answers"]))
    for row in ROWS
]


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_told_by_its_content(tmp_path: Path, form: str) -> None:
    path = tmp_path / "misleading.json.gz"
    path.write_bytes(FORMS[form])
    found = reading.read(path, None, "stop")
    assert told(found) == EXPECTED
    assert found.info.counts == ({"unmarked": 1} if form == "MRQA" else {})
    assert [each.paragraph for each in found] == [0, 0, 1]
    if form != "MRQA":
        assert [each.title for each in found] == ["t", "t", "u"]


PACKED: list[Callable[[bytes], bytes]] = [
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.ZstdCompressor().compress,
    zipped,
]


@pytest.mark.parametrize("form", ["SQuAD", "JSON lines", "CSV"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_packing_with_and_without_a_byte_order_mark(tmp_path: Path, form: str, mark: bytes) -> None:
    path = tmp_path / "set"
    for pack in PACKED:
        path.write_bytes(pack(mark + FORMS[form]))
        assert told(reading.read(path)) == EXPECTED


@pytest.mark.parametrize("form", ["SQuAD", "JSON lines", "TSV"])
def test_utf16_is_told_by_its_byte_order_mark(tmp_path: Path, form: str) -> None:
    path = tmp_path / "set"
    for name, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        for pack in (bytes, gzip.compress):
            path.write_bytes(pack(mark + FORMS[form].decode().encode(name)))
            assert told(reading.read(path)) == EXPECTED
    path.write_bytes(
        b"\xff\xfe" + FORMS[form].decode().replace("Who", "\ud800", 1).encode("utf-16-le", "surrogatepass")
    )
    assert "\ufffd?" in [each.question for each in reading.read(path)]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"not UTF-16, as its first bytes say \(truncated data\): convert the file"):
        reading.read(path)


def test_answers_that_mrqa_accepts_but_did_not_find(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(FORMS["MRQA"].replace(b'"answers": ["Zo', b'"answers": ["Miss Zo'))
    assert [answer.text for answer in reading.read(path, None, "score")[2].answers] == ["Zoë", "Miss Zoë"]
    assert [answer.text for answer in reading.read(path)[2].answers] == ["Zoë"]


COLUMNS_OF_THEIR_OWN = {
    "answer_text": "context,question,answer_text,answer_start\nAda wrote.,Who?,wrote,4\nAda wrote.,Why?,,\n",
    "answer": "Question;Context;Answer\nWho?;Ada wrote.;wrote\nWhy?;Ada wrote.;\n",
    "flattened": "context\tquestion\tanswers.text\tanswers.answer_start\nAda wrote.\tWho?\t['wrote']\t[4]\n"
    "Ada wrote.\tWhy?\t[]\t[]\n",
}


@pytest.mark.parametrize("text", COLUMNS_OF_THEIR_OWN.values(), ids=list(COLUMNS_OF_THEIR_OWN))
def test_answers_in_columns_of_their_own(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set"
    path.write_text(text)
    assert [each.answers for each in reading.read(path)] == [(Answer("wrote", 4),), ()]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"context,question,answers\nonly one\n", "line 2: it has 1 columns, the first line 3"),
        (b"context,question,context\na,b,c\n", "line 1: the column 'context' stands twice"),
        (b'context,question\na,"b"c\n', "line 2: not a row of a table"),
        (b"context,question\n ,b\n", "line 2: 'context' is empty"),
        (b'{"question": "?", "context": "a"}\n{"question": 7, "context": "a"}', "line 2: 'question' is the number 7"),
        (b'{"question": "?", "context": "a"}\n{"question": ', "breaks off at the file's end (line 2"),
        (b'{"question": "?", "context": "a"}\n\nnope', "line 3"),
        (b'[{"question": "?", "context": "a"}, 7]', "row 1: the row is the number 7, not an object"),
        (b'{"data": [{"question": "?"}]}', "row 0 (.data[0]): the key 'context' is missing"),
        (
            b'{"question": "?", "text": "a"}',
            "line 1: the key 'context' is missing; add it, or rename the key that holds it (there: 'question', 'text')",
        ),
        (b'{"query": "?", "passage": "a"}', "'data' is missing in the top level (there: 'passage', 'query')"),
        (b"passage,query\na,b\n", "neither JSON nor a table: no JSON begins with 'passage,query'"),
        (
            b"context,question,answers\na,b,\"{'text': array(['a'\"\n",
            "line 2: 'answers' begins as JSON does, but is none",
        ),
        (parquet()[:-40] + b"PAR1", "damaged Parquet"),
        (gzip.compress(parquet()), "a Parquet file in a packed one, not text; unpack it"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive, not text"),
        (b"%PDF-1.7 \xff\xff", "a PDF, not text"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "set"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        reading.read(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_without_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["?"]}), tmp_path / "set")
    with pytest.raises(InputError, match="no column 'context'"):
        reading.read(tmp_path / "set")


def test_the_form_needs_no_more_than_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(FORMS["JSON lines"][:-20])
    assert form_of(path, "set") == "lines"


def test_a_folder_with_files_of_splits(tmp_path: Path) -> None:
    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)

    write("data/train-00000-of-00002.parquet", FLAT[:2])
    write("data/train-00001-of-00002.parquet", FLAT[2:])
    (tmp_path / "data" / "dev.csv").write_bytes(FORMS["CSV"])
    (tmp_path / "README.md").write_text("No data.")
    train, dev = load(str(tmp_path), "train"), load(str(tmp_path), "eval")
    assert told(train) == told(dev) == EXPECTED
    assert train.info.sha256 != dev.info.sha256
    assert local_files(str(tmp_path)) == [tmp_path]
    write("data/train-00001-of-00002.parquet", [{**FLAT[0], "id": "9", "question": None}])
    with pytest.raises(InputError, match=r": train-00001-of-00002.parquet, row 0, question '9': 'question' is null"):
        load(str(tmp_path), "train")
    (tmp_path / "data" / "valid.json").write_bytes(FORMS["SQuAD"])
    with pytest.raises(InputError, match=r"dev.csv, valid.json may all be the split 'eval'"):
        load(str(tmp_path), "eval")


@pytest.mark.parametrize(
    "cell",
    [
        "{'text': array(['wrote [it]'], dtype='<U10'), 'answer_start': array([4], dtype=int32)}",
        "{'text': array(['wrote [it]'], dtype=object), 'answer_start': [np.int64(4)]}",
        "[{'text': np.str_('wrote [it]'), 'answer_start': 4, 'x': nan}]",
        '[{"text": "wrote [it]", "answer_start": 4, "x": NaN, "y": true}]',
    ],
)
def test_answers_in_a_cell_as_pandas_writes_them(tmp_path: Path, cell: str) -> None:
    with (tmp_path / "set").open("w", newline="") as file:
        csv.writer(file).writerows([["context", "question", "answers"], ["Ada wrote [it].", "What?", cell]])
    (found,) = reading.read(tmp_path / "set", handling="stop")
    assert found.answers == (Answer("wrote [it]", 4),)


def test_answers_with_offsets_in_the_key_answer(tmp_path: Path) -> None:
    answer = {"start": 4, "end": 9, "text": "wrote", "labels": ["Answer"]}
    row = {"id": 1, "context": "Ada wrote it.", "question": "What?", "answer": [answer], "annotator": 1}
    (tmp_path / "set").write_text(json.dumps([row]))
    (found,) = reading.read(tmp_path / "set", handling="stop")
    assert found.answers == (Answer("wrote", 4),)


def test_objects_over_several_lines_are_told_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(b'{"question": "?", "context": "a"}\n{\n  "question": 7, "context": "a"\n}\n{"question": 8}\n')
    with pytest.raises(InputError, match=r": row 1: 'question' is the number 7"):
        reading.read(path)
