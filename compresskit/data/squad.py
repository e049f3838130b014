"""Reading SQuAD 1.1 and 2.0 JSON, plain or gzip, paragraph by paragraph.

The format is that of the official files (https://rajpurkar.github.io/SQuAD-explorer/): `data` is a list of
articles (`title`, `paragraphs`), a paragraph has a `context` and `qas`, a question `id`, `question`,
`answers` (`text`, `answer_start` in characters) and, in 2.0, `is_impossible`. Other keys are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ijson

from compresskit.data import checks
from compresskit.data.checks import MISSING, Fault, RawQuestion
from compresskit.data.examples import ExampleSet
from compresskit.data.json_fault import PARSER_ERRORS, json_fault
from compresskit.data.store import StoreWriter
from compresskit.data.text_stream import CHUNK, TextStream
from compresskit.errors import InputError

_Event = tuple[str, str, Any]


def read(path: Path, name: str | None = None) -> ExampleSet:
    """Read and check the SQuAD JSON at `path`, holding one paragraph at a time in memory.

    `name` is what the set's info and messages call the file (default: its path). Raises InputError, with
    file, article and paragraph index (from 0) and question id, for anything the format does not allow;
    answers whose offset is off by white space only are mended and counted instead.
    """
    name = str(path) if name is None else name
    writer = StoreWriter()
    with TextStream(path, name) as stream:
        reader = _Reader(writer, stream)
        try:
            # The C part of ijson 3.6 dies of a number that is too large, unless it is given the events one by one.
            reader.read(ijson.parse(ijson.basic_parse(stream, buf_size=CHUNK)))
        except Fault as fault:
            raise InputError(f"{name}: {reader.place()}{fault}") from fault
        except PARSER_ERRORS as error:
            raise json_fault(path, name, error) from error
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


class _Object(dict[str, Any]):
    """An object of JSON that remembers a key that stands twice in it."""

    twice: str | None = None

    def __setitem__(self, key: str, value: object) -> None:
        if key in self:
            self.twice = key
        super().__setitem__(key, value)


_NAMES = {"": "the top level", "data.item": "the article"}
"""How messages call the objects outside of the paragraphs, by the parser's prefix."""
_NEEDED = {"": "data", "data.item": "paragraphs"}
"""The list that each of them must have."""


_MAX_PREFIX = 1 << 14
"""Characters in the keys that lead to a value: the parser joins them anew for each, so their number must end."""

_MAX_VALUES = 500_000
"""Values and keys in a paragraph, or between two. A thousand questions with five answers each have a tenth of them."""


def _begun(event: str, value: Any) -> Any:
    """The value that an event of the parser begins; an empty one for a list or an object."""
    return {"start_map": {}, "start_array": []}.get(event, value)


def _fields(value: object, what: str) -> _Object:
    """`value` as an object with every key once. Raises Fault."""
    if not isinstance(value, _Object):
        raise Fault(f"{what} is {checks.kind(value)}, not an object")
    if value.twice is not None:
        raise Fault(f"the key {checks.quoted(value.twice)} stands twice in {what}; remove one")
    return value


def _items(fields: _Object, key: str) -> list[Any]:
    """The list under `key`. Raises Fault."""
    value = fields.get(key, MISSING)
    if value is MISSING:
        raise Fault(f"the key {key!r} is missing; add it")
    if not isinstance(value, list):
        raise Fault(f"{key!r} is {checks.kind(value)}, not a list")
    return value


class _Reader:
    """Reads the events of a parser into a writer: the outline event by event, each paragraph as a whole."""

    def __init__(self, writer: StoreWriter, stream: TextStream) -> None:
        self._writer, self._stream = writer, stream
        self._values = 0  # that the parser told of since the last paragraph
        self._keys: dict[str, set[str]] = {}  # of the top level and of the article, by their prefix
        self._title: object = MISSING
        self._articles = self._paragraphs = 0  # articles read, and paragraphs read in this one
        self._article: int | None = None
        self._paragraph: int | None = None
        self._question: int | None = None
        self._id: object = MISSING

    def place(self) -> str:
        """Where the reader is, as the beginning of a message; empty outside of the articles."""
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
        return f"{', '.join(place)} ({path}): " if place else ""

    def read(self, events: Iterable[_Event]) -> None:
        """Read all paragraphs. Raises Fault, and what the parser raises."""
        for paragraph in ijson.items(self._outline(events), "data.item.paragraphs.item", map_type=_Object):
            self._paragraph = self._paragraphs
            self._read_paragraph(_fields(paragraph, "the paragraph"))
            self._paragraph = None
            self._paragraphs += 1
            self._stream.next_piece()
            self._values = 0

    def _outline(self, events: Iterable[_Event]) -> Iterator[_Event]:
        """Pass the events on, and check those that stand outside of the paragraphs."""
        checks_by_prefix = {
            "": self._check_object,
            "data": self._check_list,
            "data.item": self._check_object,
            "data.item.title": self._keep_title,
            "data.item.paragraphs": self._check_list,
        }
        for event in events:
            prefix = event[0]
            self._values += 1
            if self._values > _MAX_VALUES:
                raise Fault(f"a paragraph holds more than {_MAX_VALUES:,} values; divide it")
            if len(prefix) > _MAX_PREFIX:
                raise Fault("lists or objects are nested too deep, or a key is too long")
            check = checks_by_prefix.get(prefix)
            if check is not None:
                check(*event)
            yield event

    def _check_object(self, prefix: str, event: str, value: Any) -> None:
        """Check that the top level or an article is an object with every key once and none missing."""
        if event == "map_key":
            if value in self._keys[prefix]:
                raise Fault(f"the key {checks.quoted(value)} stands twice in {_NAMES[prefix]}; remove one")
            self._keys[prefix].add(value)
        elif event == "end_map":
            if _NEEDED[prefix] not in self._keys[prefix]:
                raise Fault(f"the key {_NEEDED[prefix]!r} is missing in {_NAMES[prefix]}; SQuAD JSON has it there")
            if prefix:
                self._end_article()
        else:
            if prefix:
                self._article, self._title, self._paragraphs = self._articles, MISSING, 0
            if event != "start_map":
                raise Fault(f"{_NAMES[prefix]} is {checks.kind(_begun(event, value))}, not an object")
            self._keys[prefix] = set()

    def _check_list(self, prefix: str, event: str, value: Any) -> None:
        if event not in ("start_array", "end_array"):
            raise Fault(f"{prefix.rpartition('.')[2]!r} is {checks.kind(_begun(event, value))}, not a list")

    def _keep_title(self, _: str, event: str, value: Any) -> None:
        if event not in ("map_key", "end_map", "end_array"):
            self._title = _begun(event, value)

    def _end_article(self) -> None:
        self._writer.article(checks.string(self._title, "title"))
        self._article = None
        self._articles += 1

    def _read_paragraph(self, paragraph: _Object) -> None:
        context = checks.context(paragraph.get("context", MISSING))
        number = self._writer.paragraph(context)
        for self._question, question in enumerate(_items(paragraph, "qas")):
            self._id = MISSING
            checked = checks.question(self._raw(_fields(question, "the question")), context)
            self._writer.question(checked.id, checked.question, number, checked.answers, checked.repaired)
        self._question = None

    def _raw(self, question: _Object) -> RawQuestion:
        self._id = question.get("id", MISSING)
        answers = question.get("answers", MISSING)
        if isinstance(answers, list):
            found = [_fields(answer, f"answer {index}") for index, answer in enumerate(answers)]
            answers = [(answer.get("text", MISSING), answer.get("answer_start", MISSING)) for answer in found]
        return RawQuestion(self._id, question.get("question", MISSING), question.get("is_impossible", MISSING), answers)
