"""Questions and paragraphs of the evaluation data that stand in the data which a checkpoint was trained on.

What it was trained on is told by its manifest: path and SHA-256. A file that is not at hand any more, or is another one
by now, tells nothing. Nor is anything said of the built-in set, which is made, not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compresskit.checkpoint.store import sha256_file
from compresskit.data.checks import Fault
from compresskit.data.examples import ExampleSet
from compresskit.data.load import files_of, local_files
from compresskit.data.overlap import question_keys, text_hash
from compresskit.data.pieces import Asked, Passage
from compresskit.data.raw import raw_question
from compresskit.data.reading import joined_hash, pieces_of
from compresskit.errors import CompresskitError
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import singles
from compresskit.text import counted


def with_overlap(rows: Sequence[Row], asked: ExampleSet) -> list[Row]:
    """`rows`, each with what of `asked` stands in its training data; None where nothing is known of that.

    Data of the same SHA-256 are the same, whatever their path. Of several training sets each counts; where one of them
    cannot be looked at, no overlap in the others is None.
    """
    known: dict[tuple[str, str], _Found | None] = {}
    evaluated: _Evaluated | None = None
    result = []
    for row in rows:
        found: list[_Found | None] = []
        for path, sha256 in training_data(row):
            if (path, sha256) not in known:
                evaluated = evaluated or _Evaluated.of(asked)
                known[path, sha256] = evaluated.all if sha256 == asked.info.sha256 else evaluated.within(path, sha256)
            found.append(known[path, sha256])
        result.append(replace(row, overlap=_counted(found)))
    return result


def training_data(row: Row) -> list[tuple[str, str]]:
    """Path and SHA-256 of the data that the steps of a row's manifest saw; that of a saved report may hold anything."""
    steps: Any = (row.manifest or {}).get("steps")
    known = [step.get("data") for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []
    pairs = [(data.get("path"), data.get("sha256")) for data in known if isinstance(data, Mapping)]
    return [(path, sha256) for path, sha256 in pairs if isinstance(path, str) and isinstance(sha256, str)]


def told(report: Report) -> list[str]:
    """A line for each row whose training data hold a part of the evaluation data, and one on what is not known."""
    rows = singles(report.rows)
    lines = [
        f"of these data {counted(row.overlap['questions'], 'question')} and "
        f"{counted(row.overlap['paragraphs'], 'paragraph')} stand in the training data of {row.name}, "
        "whose scores may show what it remembers"
        for row in rows
        if row.overlap is not None and any(row.overlap.values())
    ]
    unknown = [row.name for row in rows if row.overlap is None and {path for path, _ in training_data(row)} - {"demo"}]
    if unknown:
        lines.append(f"overlap with the training data unknown, for they are not at hand: {', '.join(unknown)}")
    return lines


@dataclass(frozen=True, slots=True)
class _Found:
    """The numbers of the questions, and of the paragraphs, that were found."""

    questions: frozenset[int]
    paragraphs: frozenset[int]


def _counted(found: Sequence[_Found | None]) -> dict[str, int] | None:
    """How many questions and paragraphs were found in any of the training sets."""
    some = [each for each in found if each is not None]
    questions = frozenset[int]().union(*(each.questions for each in some))
    paragraphs = frozenset[int]().union(*(each.paragraphs for each in some))
    if not found or (len(some) < len(found) and not questions and not paragraphs):
        return None
    return {"questions": len(questions), "paragraphs": len(paragraphs)}


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """The evaluation data by hashes; some hundred bytes a question, whatever its texts are.

    `questions` has the numbers of the questions with a hash: that of the question with its paragraph, or with one of
    its answers. `paragraphs` has the numbers of the paragraphs with a hash.
    """

    questions: Mapping[int, Sequence[int]]
    paragraphs: Mapping[int, Sequence[int]]
    all: _Found

    @classmethod
    def of(cls, asked: ExampleSet) -> _Evaluated:
        """The hashes of `asked`."""
        questions: dict[int, list[int]] = {}
        paragraphs: dict[int, list[int]] = {}
        numbers: dict[int, int] = {}
        for number, example in enumerate(asked):
            if example.paragraph not in numbers:
                numbers[example.paragraph] = context = text_hash(example.context)
                paragraphs.setdefault(context, []).append(example.paragraph)
            answers = [answer.text for answer in example.answers]
            for key in question_keys(example.question, numbers[example.paragraph], answers):
                questions.setdefault(key, []).append(number)
        everything = _Found(frozenset(range(len(asked))), frozenset(numbers))
        return cls(questions, paragraphs, everything)

    def within(self, path: str, sha256: str) -> _Found | None:
        """What stands in the training data; None where they are not at hand as they were."""
        questions: set[int] = set()
        paragraphs: set[int] = set()
        try:
            files = _files(path, sha256)
            if files is None:
                return None
            for context, question, answers in _texts(files):
                paragraphs.update(self.paragraphs.get(context, ()))
                for key in question_keys(question, context, answers) if question is not None else ():
                    questions.update(self.questions.get(key, ()))
        except (CompresskitError, Fault, OSError, ValueError):  # an evaluation does not need them
            return None
        return _Found(frozenset(questions), frozenset(paragraphs))


def _files(path: str, sha256: str) -> list[Path] | None:
    """The files of the training data that are on this machine; None where there are none, or others by now."""
    files = [each for found in local_files(path) for each in (files_of(found, "train") if found.is_dir() else [found])]
    if not all(file.stat().st_size for file in files):  # the system's own have no size, and some of them no end
        return None
    return files if files and joined_hash([sha256_file(file) for file in files]) == sha256 else None


def _texts(files: Sequence[Path]) -> Iterator[tuple[int, str | None, list[str]]]:
    """The hash of each passage by itself, then with each of its questions and the answers to that."""
    context = 0
    for file in files:
        for piece in pieces_of(file):
            if isinstance(piece, Passage):
                context = text_hash(str(piece.context))
                yield context, None, []
            elif isinstance(piece, Asked) and isinstance(piece.fields, Mapping):
                raw = raw_question(piece.fields)
                yield context, raw.question, [*(answer.text for answer in raw.answers), *raw.accepted]
