"""The SQuAD reader on whole files: random documents against json.load, large ones, real ones."""

import gzip
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.data import reading
from tests.data.reading import read_bytes, refusal

# The whole format, at random, against json.load

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def questions(draw: st.DrawFn, context: str, id: str) -> dict[str, Any]:
    found: dict[str, Any] = {"id": f"{id} {draw(TEXT)}", "question": draw(TEXT)}
    spans = [(m.start(), m.end()) for m in re.finditer(r"\S+", context)]
    chosen = draw(st.lists(st.tuples(st.sampled_from(spans), st.sampled_from(spans)), max_size=3))
    found["answers"] = [{"text": context[min(a, b)[0] : max(a, b)[1]], "answer_start": min(a, b)[0]} for a, b in chosen]
    if not chosen or draw(st.booleans()):
        found["is_impossible"] = not chosen
    return found


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    number = 0
    articles = []
    for _ in range(draw(st.integers(1, 3))):
        paragraphs = []
        for _ in range(draw(st.integers(0, 3))):
            context = draw(TEXT) + draw(st.sampled_from(["x", "é😀", "\u00a0z\t\n y"])) + draw(TEXT)
            qas = []
            for _ in range(draw(st.integers(0, 3))):
                qas.append(draw(questions(context, str(number))))
                number += 1
            fields = [("context", context), ("qas", qas)]
            paragraphs.append(dict(draw(st.permutations(fields))))
        articles.append(dict(draw(st.permutations([("title", draw(TEXT)), ("paragraphs", paragraphs)]))))
    return {"data": articles}


@settings(max_examples=150, deadline=None)
@given(documents(), st.booleans(), st.booleans())
def test_reads_what_json_reads(content: dict[str, Any], escaped: bool, packed: bool) -> None:
    data = json.dumps(content, ensure_ascii=escaped).encode()
    expected = []
    paragraph = 0
    for article in json.loads(data)["data"]:
        for passage in article["paragraphs"]:
            for qa in passage["qas"]:
                answers = tuple((a["text"], a["answer_start"]) for a in qa["answers"])
                expected.append((qa["id"], qa["question"], passage["context"], article["title"], answers, paragraph))
            paragraph += 1
    with tempfile.TemporaryDirectory() as folder:
        if not expected:
            assert "no questions" in refusal(Path(folder), data)
            return
        found = read_bytes(Path(folder), gzip.compress(data) if packed else data)
        assert found.info.repaired == 0
        assert [
            (e.id, e.question, e.context, e.title, tuple((a.text, a.start) for a in e.answers), e.paragraph)
            for e in found
        ] == expected
        assert all(example.is_impossible == (example.answers == ()) for example in found)


# Size


MEASURE = """
import resource, sys
from pathlib import Path
from compresskit.data import reading
from tests.data.reading import read_bytes, refusal
found = reading.read(Path(sys.argv[1]))
print(len(found), found[len(found) - 1].id, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _peak_megabytes(folder: Path, paragraphs: int) -> int:
    """Memory at its highest of a process that reads one article of `paragraphs` times 100 questions."""
    path = folder / f"{paragraphs}.json"
    with path.open("w") as file:
        file.write('{"data": [{"title": "one", "paragraphs": [')
        for number in range(paragraphs):
            context = f"Paragraph {number} tells of Kelby." + " And of more." * 100
            answers = [{"text": "Kelby", "answer_start": context.index("Kelby")}]
            qas = [{"id": f"{number}-{i}", "question": "Of what is it? " * 9, "answers": answers} for i in range(100)]
            file.write(("," if number else "") + json.dumps({"context": context, "qas": qas}))
        file.write("]}]}")
    command = [sys.executable, "-c", MEASURE, str(path)]
    count, last, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(count) == paragraphs * 100
    assert last == f"{paragraphs - 1}-99"
    return int(megabytes)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts other units elsewhere")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """200,000 questions, 47 MB of JSON in one article, take little more than 10,000 (what a batch needs)."""
    assert _peak_megabytes(tmp_path, 2000) - _peak_megabytes(tmp_path, 100) < 25


def test_real_files(shared: Path) -> None:
    expected = {
        "squad/train": (42, 6275, 22548, 3590),
        "squad/eval": (15, 707, 4761, 1621),
        "qamr/eval": (1, 139, 4970, 0),
    }
    for name, counts in expected.items():
        info = reading.read(shared / "data" / f"{name}.json.gz").info
        assert (info.articles, info.paragraphs, info.questions, info.unanswerable) == counts
        assert info.repaired == 0
