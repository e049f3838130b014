"""Reading SQuAD 1.1 and 2.0 JSON, plain or gzip, question by question.

The format is that of the official files (https://rajpurkar.github.io/SQuAD-explorer/): `data` is a list of
articles (`title`, `paragraphs`), a paragraph has a `context` and `qas`, a question `id`, `question`,
`answers` (`text`, `answer_start` in characters) and, in 2.0, `is_impossible`. Other keys are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import ijson

from compresskit.data import checks
from compresskit.data.checks import Fault, Raw, RawQuestion, Shape
from compresskit.data.examples import ExampleSet
from compresskit.data.source import CHUNK, PARSER_ERRORS, TextStream, json_fault
from compresskit.data.store import StoreWriter
from compresskit.errors import InputError

_Scalar = str | int | Decimal | bool | None
_Event = tuple[str, _Scalar]


def read(path: Path, name: str | None = None) -> ExampleSet:
    """Read and check the SQuAD JSON at `path`, holding one question at a time in memory.

    `name` is what the set's info and messages call the file (default: its path). Raises InputError, with
    file, article and paragraph index (from 0) and question id, for anything the format does not allow;
    answers whose offset is off by white space only are mended and counted instead.
    """
    name = str(path) if name is None else name
    writer = StoreWriter()
    with TextStream(path, name) as stream:
        reader = _Reader(ijson.basic_parse(stream, buf_size=CHUNK), writer, name)
        try:
            reader.document()
        except PARSER_ERRORS as error:
            good = stream.delivered - stream.last_chunk
            raise json_fault(path, name, good, stream.delivered, error) from error
        sha256 = stream.sha256()
    store, duplicate = writer.close()
    if not store.questions:
        raise InputError(f"{name}: there are no questions in it; every paragraph's 'qas' is empty or 'data' is")
    if duplicate is not None:
        (article, paragraph), again = store.place(duplicate[0]), store.place(duplicate[1])
        id = checks.quoted(store.id(duplicate[1]))
        raise InputError(
            f"{name}: article {again[0]}, paragraph {again[1]}, question {id}: "
            f"the id stands already in article {article}, paragraph {paragraph}; give every question its own"
        )
    return ExampleSet(store, name, sha256)


class _Reader:
    """Walks the parser's events down the known keys, and keeps the place for messages."""

    def __init__(self, events: Iterator[_Event], writer: StoreWriter, name: str) -> None:
        self._events = events
        self._writer = writer
        self._name = name
        self._article: int | None = None
        self._paragraph: int | None = None
        self._question: int | None = None
        self._id: Raw = Shape.MISSING

    # The place

    def _fail(self, problem: str) -> NoReturn:
        place, path = [], ""
        if self._article is not None:
            place.append(f"article {self._article}")
            path += f".data[{self._article}]"
        if self._paragraph is not None:
            place.append(f"paragraph {self._paragraph}")
            path += f".paragraphs[{self._paragraph}]"
        if self._question is not None:
            known = isinstance(self._id, str) and self._id
            place.append(f"question {checks.quoted(str(self._id)) if known else self._question}")
            path += f".qas[{self._question}]"
        where = f"{', '.join(place)} ({path}): " if place else ""
        raise InputError(f"{self._name}: {where}{problem}")

    # Any JSON value

    def _scalar(self, event: str, value: _Scalar) -> Raw:
        """The value that begins with `event`; of a list or an object only its shape."""
        if event not in ("start_map", "start_array"):
            return value
        depth = 1
        for inner, _ in self._events:
            if inner in ("start_map", "start_array"):
                depth += 1
            elif inner in ("end_map", "end_array"):
                depth -= 1
                if not depth:
                    break
        return Shape.OBJECT if event == "start_map" else Shape.LIST

    def _items(self, event: str, value: _Scalar, what: str) -> Iterator[_Event]:
        """The first events of the items of a list; whoever takes one consumes the rest of it."""
        if event != "start_array":
            self._fail(f"{what} is {checks.kind(self._scalar(event, value))}, not a list")
        for item in self._events:
            if item[0] == "end_array":
                return
            yield item

    def _fields(self, event: str, value: _Scalar, what: str) -> Iterator[tuple[str, str, _Scalar]]:
        """The keys of an object with the first events of their values; a key that stands twice is refused."""
        if event != "start_map":
            self._fail(f"{what} is {checks.kind(self._scalar(event, value))}, not an object")
        seen = set()
        for event, key in self._events:
            if event == "end_map":
                return
            assert isinstance(key, str)
            if key in seen:
                self._fail(f"the key {checks.quoted(key)} stands twice in {what}; remove one")
            seen.add(key)
            yield key, *next(self._events)

    # The format, from the outside in

    def document(self) -> None:
        """Read the whole file into the writer."""
        found = False
        for key, event, value in self._fields(*next(self._events), "the top level"):
            if key == "data":
                found = True
                for index, item in enumerate(self._items(event, value, "'data'")):
                    self._article = index
                    self._read_article(item)
                self._article = None
            else:
                self._scalar(event, value)
        if not found:
            self._fail("the key 'data' is missing at the top level; this is not SQuAD JSON")
        for _ in self._events:  # so that the parser sees what follows the object
            pass

    def _read_article(self, first: _Event) -> None:
        title: Raw = Shape.MISSING
        found = False
        for key, event, value in self._fields(*first, "the article"):
            if key == "title":
                title = self._scalar(event, value)
            elif key == "paragraphs":
                found = True
                for index, item in enumerate(self._items(event, value, "'paragraphs'")):
                    self._paragraph = index
                    self._read_paragraph(item)
                self._paragraph = None
            else:
                self._scalar(event, value)
        if not found:
            self._fail("the key 'paragraphs' is missing; add it")
        try:
            self._writer.article(checks.string(title, "title"))
        except Fault as fault:
            self._fail(str(fault))

    def _read_paragraph(self, first: _Event) -> None:
        context: str | None = None
        number = 0
        waiting: list[RawQuestion] = []  # of a paragraph that names its context after its questions
        found = False
        for key, event, value in self._fields(*first, "the paragraph"):
            if key == "context":
                context = self._context(self._scalar(event, value))
                number = self._writer.paragraph(context)
            elif key == "qas":
                found = True
                for index, item in enumerate(self._items(event, value, "'qas'")):
                    raw = self._read_question(index, item)
                    if context is None:
                        waiting.append(raw)
                    else:
                        self._keep(raw, context, number)
                self._question = None
            else:
                self._scalar(event, value)
        if context is None:
            self._context(Shape.MISSING)
        elif not found:
            self._fail("the key 'qas' is missing; add it")
        else:
            for index, raw in enumerate(waiting):
                self._question, self._id = index, raw.id
                self._keep(raw, context, number)
            self._question = None

    def _context(self, raw: Raw) -> str:
        try:
            return checks.context(raw)
        except Fault as fault:
            self._fail(str(fault))

    def _read_question(self, index: int, first: _Event) -> RawQuestion:
        self._question, self._id = index, Shape.MISSING
        question: Raw = Shape.MISSING
        impossible: Raw = Shape.MISSING
        answers: list[tuple[Raw, Raw]] | Raw = Shape.MISSING
        for key, event, value in self._fields(*first, "the question"):
            if key == "answers" and event == "start_array":
                items = enumerate(self._items(event, value, "'answers'"))
                answers = [self._read_answer(number, item) for number, item in items]
                continue
            found = self._scalar(event, value)
            if key == "id":
                self._id = found
            elif key == "question":
                question = found
            elif key == "is_impossible":
                impossible = found
            elif key == "answers":
                answers = found
        return RawQuestion(self._id, question, impossible, answers)

    def _read_answer(self, index: int, first: _Event) -> tuple[Raw, Raw]:
        text: Raw = Shape.MISSING
        start: Raw = Shape.MISSING
        for key, event, value in self._fields(*first, f"answer {index}"):
            found = self._scalar(event, value)
            if key == "text":
                text = found
            elif key == "answer_start":
                start = found
        return text, start

    def _keep(self, raw: RawQuestion, context: str, number: int) -> None:
        try:
            checked = checks.question(raw, context)
        except Fault as fault:
            self._fail(str(fault))
        self._writer.question(checked.id, checked.question, number, checked.answers, checked.repaired)
