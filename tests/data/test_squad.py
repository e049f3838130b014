"""The SQuAD reader: what it accepts is what json.load sees; what it refuses, it names and locates."""

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.data.examples import Answer
from compresskit.data.text_stream import CHUNK
from tests.data.reading import read, read_bytes, refusal

CONTEXT = "Marta Velsen lives in  Lorvik. 😀 She was born in Kelby."


def document() -> dict[str, Any]:
    """Two articles; article 1 has two paragraphs, the second of them two questions."""

    def paragraph(prefix: str, questions: int) -> dict[str, Any]:
        return {
            "context": CONTEXT,
            "qas": [
                {
                    "id": f"{prefix}{i}",
                    "question": "Where was she born?",
                    "answers": [{"text": "Kelby", "answer_start": 49}],
                    "is_impossible": False,
                }
                for i in range(questions)
            ],
        }

    return {
        "version": "v2.0",
        "data": [
            {"title": "First", "paragraphs": [paragraph("a", 1)]},
            {"title": "Second", "paragraphs": [paragraph("b", 1), paragraph("c", 2)]},
        ],
    }


# What is accepted


def test_reads_both_articles(tmp_path: Path) -> None:
    found = read(tmp_path, document())
    assert [example.id for example in found] == ["a0", "b0", "c0", "c1"]
    assert [example.paragraph for example in found] == [0, 1, 2, 2]
    assert [example.title for example in found] == ["First", "Second", "Second", "Second"]
    assert found[0].answers == (Answer("Kelby", 49),)
    assert CONTEXT[49:54] == "Kelby"
    info = found.info
    assert (info.questions, info.unanswerable, info.articles, info.paragraphs, info.repaired) == (
        4,
        0,
        2,
        3,
        0,
    )
    assert info.path == str(tmp_path / "set.json")
    assert info.sha256 == hashlib.sha256((tmp_path / "set.json").read_bytes()).hexdigest()


def test_gzip_is_known_by_its_magic_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(document()).encode())
    found = read_bytes(tmp_path, packed)
    assert len(found) == 4
    assert found.info.sha256 == hashlib.sha256(packed).hexdigest()


def test_squad_1_has_no_is_impossible(tmp_path: Path) -> None:
    content = document()
    for question in content["data"][1]["paragraphs"][1]["qas"]:
        del question["is_impossible"]
    del content["version"]
    assert len(read(tmp_path, content)) == 4


def test_plausible_answers_are_passed_over(tmp_path: Path) -> None:
    content = document()
    question = content["data"][0]["paragraphs"][0]["qas"][0]
    question.update(answers=[], is_impossible=True, plausible_answers=[{"text": "nowhere", "answer_start": 3}])
    found = read(tmp_path, content)
    assert found[0].is_impossible
    assert found[0].answers == ()
    assert found.info.unanswerable == 1


def test_keys_in_any_order_and_unknown_keys(tmp_path: Path) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, backwards(inner)) for key, inner in reversed(value.items())]
            return dict([*items, ("more", {"deep": [[{"title": 1}], None, 1.5, {"data": []}]})])
        return [backwards(item) for item in value] if isinstance(value, list) else value

    assert list(read(tmp_path, backwards(document()))) == list(read(tmp_path, document()))


def test_a_line_of_ten_megabytes_and_a_byte_order_mark(tmp_path: Path) -> None:
    content = document()
    content["data"][0]["paragraphs"][0]["context"] = CONTEXT + "ü " * 5_000_000
    found = read_bytes(tmp_path, b"\xef\xbb\xbf" + json.dumps(content, ensure_ascii=False).encode())
    assert len(found[0].context) == len(CONTEXT) + 10_000_000
    assert found[3].context == CONTEXT


@pytest.mark.parametrize(
    ("text", "start", "mended"),
    [
        ("Kelby", 48, Answer("Kelby", 49)),
        (" Kelby", 48, Answer("Kelby", 49)),
        (" Kelby\n", 49, Answer("Kelby", 49)),
        ("Lorvik", 21, Answer("Lorvik", 23)),
        ("in Lorvik", 19, Answer("in  Lorvik", 19)),
    ],
)
def test_white_space_is_mended_and_counted(tmp_path: Path, text: str, start: int, mended: Answer) -> None:
    content = document()
    content["data"][1]["paragraphs"][1]["qas"][1]["answers"].append({"text": text, "answer_start": start})
    found = read(tmp_path, content)
    assert found[3].answers[1] == mended
    assert CONTEXT[mended.start :].startswith(mended.text)
    assert found.info.repaired == 1
    assert found.select([0, 1]).info.repaired == 0


# What is refused

LAST = "article 1, paragraph 1, question 'c1' (.data[1].paragraphs[1].qas[1])"
Change = Callable[[dict[str, Any]], object]


def last(content: dict[str, Any]) -> dict[str, Any]:
    question: dict[str, Any] = content["data"][1]["paragraphs"][1]["qas"][1]
    return question


def answer(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = last(content)["answers"][0]
    return found


REFUSED: list[tuple[str, Change, str, str]] = [
    ("no data", lambda c: c.pop("data"), "", "'data' is missing"),
    ("data is no list", lambda c: c.update(data={"a": 1}), "", "'data' is an object, not a list"),
    ("article is no object", lambda c: c["data"].append("x"), "article 2 (.data[2])", "is a string"),
    ("no paragraphs", lambda c: c["data"][1].pop("paragraphs"), "article 1 (", "'paragraphs' is missing"),
    (
        "no context",
        lambda c: c["data"][1]["paragraphs"][0].pop("context"),
        "article 1, paragraph 0 (",
        "'context' is missing",
    ),
    (
        "empty context",
        lambda c: c["data"][1]["paragraphs"][0].update(context=" \n"),
        "article 1, paragraph 0 (",
        "'context' is empty",
    ),
    (
        "context is a number",
        lambda c: c["data"][1]["paragraphs"][0].update(context=7),
        "article 1, paragraph 0 (",
        "'context' is the number 7, not a string",
    ),
    ("no qas", lambda c: c["data"][1]["paragraphs"][0].pop("qas"), "article 1, paragraph 0 (", "'qas'"),
    (
        "question is a list",
        lambda c: c["data"][1]["paragraphs"][1]["qas"].append([]),
        "article 1, paragraph 1, question 2 (",
        "is a list, not an object",
    ),
    ("id is a list", lambda c: last(c).update(id=["a"]), "question 1 (", "'id' is a list, not a text"),
    ("id is a fraction", lambda c: last(c).update(id=1.5), "question 1 (", "'id' is the number 1.5"),
    ("answers is a number", lambda c: last(c).update(answers=7), LAST, "'answers' is the number 7, not a list"),
    ("answer is a number", lambda c: last(c).update(answers=[7]), LAST, "answer 0: it is the number 7, not an object"),
    ("impossible is maybe", lambda c: last(c).update(is_impossible="maybe"), LAST, "is a string, not true"),
    ("start is a word", lambda c: answer(c).update(answer_start="x"), LAST, "'answer_start' is 'x', not a whole"),
    ("no question", lambda c: last(c).pop("question"), LAST, "'question' is missing"),
    ("impossible, answered", lambda c: last(c).update(is_impossible=True), LAST, "'is_impossible' is true"),
    ("no text", lambda c: answer(c).pop("text"), LAST, "answer 0: the key 'text' is missing"),
    ("no start", lambda c: answer(c).pop("answer_start"), LAST, "'answer_start' is missing"),
    ("start is a fraction", lambda c: answer(c).update(answer_start=49.5), LAST, "the number 49.5"),
    ("start is true", lambda c: answer(c).update(answer_start=True), LAST, "'answer_start' is true"),
    ("start is negative", lambda c: answer(c).update(answer_start=-1), LAST, "is -1; it counts"),
    ("start is too late", lambda c: answer(c).update(answer_start=50), LAST, "(there: 'elby.')"),
    ("start says bytes", lambda c: answer(c).update(answer_start=52), LAST, "first occurrence is at 49"),
    ("start is huge", lambda c: answer(c).update(answer_start=10**30), LAST, "the context ends at 55"),
    ("not in the context", lambda c: answer(c).update(text="Paris"), LAST, "nor anywhere in the context"),
    ("an id twice", lambda c: last(c).update(id="a0"), "article 1, paragraph 1, question 'a0'", "article 0,"),
    ("no questions", lambda c: c.update(data=[]), "", "no questions"),
]


@pytest.mark.parametrize(("change", "where", "what"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_refuses_and_says_where(tmp_path: Path, change: Change, where: str, what: str) -> None:
    content = document()
    change(content)
    message = refusal(tmp_path, json.dumps(content).encode())
    assert where in message
    assert what in message


def test_refuses_other_top_levels(tmp_path: Path) -> None:
    assert "there are no questions" in refusal(tmp_path, b"[]")
    assert "the top level is a string" in refusal(tmp_path, b'"data"')


def test_refuses_a_key_that_stands_twice(tmp_path: Path) -> None:
    text = json.dumps(document()).replace('"title": "First"', '"title": "First", "title": "Third"')
    assert "article 0 (.data[0]): the key 'title' stands twice" in refusal(tmp_path, text.encode())
    assert "'qas' stands twice in the paragraph" in refusal(
        tmp_path, json.dumps(document()).replace('"qas":', '"qas": [], "qas":').encode()
    )
    assert "'data' stands twice in the top level" in refusal(tmp_path, b'{"data": [], "data": []}')


@pytest.mark.parametrize("packed", [False, True])
def test_empty_files(tmp_path: Path, packed: bool) -> None:
    for data in (b"", b" \n\n ", b"\xef\xbb\xbf"):
        assert "the file is empty" in refusal(tmp_path, gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [False, True])
def test_not_json_has_line_and_byte(tmp_path: Path, packed: bool) -> None:
    text = json.dumps(document(), indent=1).encode()
    for wrong in (b"nope", b"'version'", b"nan"):
        broken = text.replace(b'"Second"', wrong)
        line = broken[: broken.index(wrong)].count(b"\n") + 1
        message = refusal(tmp_path, gzip.compress(broken) if packed else broken)
        found = re.search(r"not JSON: line (\d+), byte ([\d,]+)", message)
        assert found
        assert int(found[1]) == line
        assert 0 <= int(found[2].replace(",", "")) - broken.index(wrong) <= len(wrong)


def test_not_json_deep_in_a_big_file(tmp_path: Path) -> None:
    content = document()
    content["data"][0]["paragraphs"][0]["context"] = CONTEXT + "x" * 300_000
    broken = json.dumps(content).encode()[:-1] + b"} xyz"
    assert f"byte {len(broken) - 3:,}: " in refusal(tmp_path, broken)


def test_json_lines_are_not_squad_json(tmp_path: Path) -> None:
    line = json.dumps(document()).encode() + b"\n"
    assert f"line 2, byte {len(line):,}" in refusal(tmp_path, line + line)


def test_truncated_json(tmp_path: Path) -> None:
    text = json.dumps(document()).encode()
    for length in (1, 100, len(text) // 2, len(text) - 1):
        message = refusal(tmp_path, text[:length])
        assert f"breaks off at the file's end (line 1, byte {length})" in message


def test_broken_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(document()).encode())
    for length in (5, len(packed) // 2, len(packed) - 4):
        assert "cut short" in refusal(tmp_path, packed[:length])
    damaged = packed[:-8] + b"\0\0\0\0" + packed[-4:]
    assert "damaged" in refusal(tmp_path, damaged)


def test_not_utf8_has_the_byte(tmp_path: Path) -> None:
    text = json.dumps(document(), ensure_ascii=False).encode("latin-1", "replace").replace(b"Second", b"S\xe9cond")
    assert f"byte 0xe9 at offset {text.index(0xE9):,}" in refusal(tmp_path, text)
    padded = text.replace(b'"version"', b'"pad": "' + b"x" * 65_528 + b'", "version"')
    assert f"at offset {padded.index(0xE9):,}" in refusal(tmp_path, padded)
    assert "offset 0 " in refusal(tmp_path, json.dumps(document()).encode("utf-32"))
    cut = b'{"data": "' + "é".encode()[:1]
    assert f"offset {len(cut) - 1} " in refusal(tmp_path, cut)


@pytest.mark.parametrize("pad", range(14))
def test_half_a_character_is_replaced_wherever_a_chunk_ends(tmp_path: Path, pad: int) -> None:
    content = document()
    text = json.dumps(content).replace("Second", "Sec\\udc00nd\\\\ud83d 😀\\ud83d\\ude00")
    filler = " " * (CHUNK - text.index("Sec") - pad)
    found = read_bytes(tmp_path, ("{" + filler + text[1:]).encode())
    assert found[3].title == "Sec\ufffdnd\\ud83d 😀😀"


def test_numbers_beyond_python(tmp_path: Path) -> None:
    text = (
        json.dumps(document()).replace('"version"', '"half": "\\ud83d", "n": 1' + "0" * 5000 + ', "version"').encode()
    )
    assert f"byte {text.index(b'1000'):,}: a number that is too large" in refusal(tmp_path, text)


def test_nested_beyond_reason(tmp_path: Path) -> None:
    assert "breaks off" in refusal(tmp_path, b'{"x": ' + b"[" * 50)
    for deep in (b"[" * 100_000, b'{"a":' * 100_000):
        assert "nested too deep" in refusal(tmp_path, b'{"x": ' + deep)
        assert "nested too deep" in refusal(tmp_path, b'{"data": [{"paragraphs": [' + deep)
