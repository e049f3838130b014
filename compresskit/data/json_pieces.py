"""JSON that holds questions in any of its forms, parsed piece by piece: SQuAD's articles, or rows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import ijson

from compresskit.data import checks
from compresskit.data.checks import Fault, Object, Place
from compresskit.data.pieces import Article, Asked, Broken, Passage, Piece, Row, of_rows
from compresskit.data.text_stream import CHUNK, TextStream
from compresskit.text import ends_within_escape, whole_json, without_nan

Event = tuple[str, str, Any]
Seen = Mapping[str, Callable[[str, str, Any], None]]
"""What is called with the events under some prefixes."""

_PARSER = ijson.get_backend(ijson.backend)
_NOTHING_SEEN: Seen = MappingProxyType({})

_MAX_PREFIX = 1 << 14
"""Characters in the keys that lead to a value: the parser joins them anew for each, so their number must end."""

_MAX_VALUES = 500_000
"""Values and keys in a piece, or between two. A thousand questions with five answers each have a tenth of them."""


_CLOSED_BY = {"{": "}", "[": "]"}

_DIGITS = 4300
"""Digits of a whole number, as Python reads at most (sys.int_info.default_max_str_digits)."""

_TO_ZEROS, _TOO_MANY = bytes.maketrans(b"123456789", b"0" * 9), b"0" * (_DIGITS + 1)

_LONGEST_WORD = len("-Infinity")
_CUT_WORD = re.compile(rb"[-A-Za-z]+\Z")
"""The end of a piece that may be in the midst of a word."""


class _Whole:
    """A stream of JSON without what the parser dies of: NaN, and escapes of half a character, are replaced.

    Raises ValueError, as the parser should, for more digits in a row than a number may have, in a text too.
    """

    def __init__(self, stream: TextStream) -> None:
        self._stream, self._held, self._within, self._digits = stream, b"", False, b""

    def read(self, size: int = CHUNK) -> bytes:
        """The next bytes, about `size` of them; b"" at the end."""
        if size == 0:
            return b""
        text = self._held + self._stream.read(size)
        cut: int | None = None
        if len(text) > len(self._held):
            cut = ends_within_escape(text)
            word = _CUT_WORD.search(text, max(0, len(text) - _LONGEST_WORD)) if cut is None else None
            cut = word.start() if word is not None else cut
        cut = len(text) if cut is None else cut
        self._held = text[cut:]
        self._check_digits(text[:cut])
        piece, self._within = without_nan(whole_json(text[:cut]), self._within)
        return piece or (self.read(size) if self._held else b"")

    def _check_digits(self, text: bytes) -> None:
        if _TOO_MANY in (self._digits + text).translate(_TO_ZEROS):  # a seventh of the time of a regular expression
            raise ValueError(f"more than {_DIGITS:,} digits stand in a row; shorten them")
        # Those at the end may go on behind it.
        digits = len(text) - len(text.rstrip(b"0123456789")) if text[-1:].isdigit() else 0
        self._digits = (self._digits if digits == len(text) else b"") + text[len(text) - digits :]


class Events:
    """The parser's events of a stream, bounded: who reads a piece as a whole says by `next_piece` when it let go.

    `several`: the stream is of several values, one behind the other.
    """

    def __init__(self, stream: TextStream, *, several: bool = False, chunk: int = CHUNK) -> None:
        self._stream = stream
        self._values = 0  # that the parser told of since the last piece
        # The C part of ijson 3.6 dies of a number that is too large, unless it is given the events one by one.
        self._basic = ijson.basic_parse(_Whole(stream), buf_size=chunk, multiple_values=several)

    def __iter__(self) -> Iterator[Event]:
        for event in ijson.parse(self._basic):
            self._values += 1
            if self._values > _MAX_VALUES or len(event[0]) > _MAX_PREFIX:
                raise self._too_much()
            yield event

    def objects(self, prefix: str, seen: Seen = _NOTHING_SEEN) -> Iterator[Any]:
        """The values under a prefix, one by one, with `Object` for the objects among them.

        It does what `ijson.items` and `ijson.parse` do, which would pass each event through four generators.
        """
        events, values = ijson.sendable_list(), ijson.sendable_list()
        parse, build = _PARSER.parse_basecoro(events).send, _PARSER.items_basecoro(values, prefix, map_type=Object).send
        count, taken = self._values, events.pop
        for basic in self._basic:
            parse(basic)
            event = taken()
            here = event[0]
            count += 1
            if count > _MAX_VALUES or len(here) > _MAX_PREFIX:
                self._values = count
                raise self._too_much()
            if here in seen:
                seen[here](*event)
            build(event)
            if values:
                self._values = count
                yield values.pop()
                count = self._values

    def _too_much(self) -> Fault:
        if self._values > _MAX_VALUES:
            return Fault(f"a paragraph holds more than {_MAX_VALUES:,} values; divide it")
        return Fault("lists or objects are nested too deep, or a key is too long")

    def next_piece(self) -> None:
        """What was read so far is no longer held."""
        self._values = 0
        self._stream.next_piece()


def objects(events: Events, prefix: str) -> Iterator[Object]:
    """The objects under a prefix, one by one."""
    for found in events.objects(prefix):
        yield found
        events.next_piece()


def line_numbers(stream: TextStream) -> Iterator[int | None]:
    """The line, from 1, of each value in JSON lines; None from the first one on that is not whole in its line."""
    for number, line in enumerate(stream.lines(), 1):
        stream.next_piece()
        value = line.strip()
        if value[:1] in _CLOSED_BY and value[-1] != _CLOSED_BY[value[0]]:
            break
        if value:
            yield number
    yield from itertools.repeat(None)


def pieces(events: Events, prefix: str, lines: Iterator[int | None] | None = None) -> Iterator[Piece]:
    """The pieces of the objects under a prefix: rows, passages with their questions (as MRQA has them), or articles.

    `lines` are those that the objects stand in.
    """

    def rows() -> Iterator[Row]:
        for index, found in enumerate(objects(events, prefix)):
            line = next(lines) if lines is not None else None
            words = f"row {index}" if line is None else f"line {line}"
            place = Place(words, f".data[{index}]" if prefix == "data.item" else "")
            try:
                row = checks.fields(found, "the row")
            except Fault as fault:
                yield Broken(str(fault), place)
                continue
            if index == 0 and "header" in row and "context" not in row:
                continue  # MRQA's first line tells where the data are from
            yield row, place

    for flat, group in itertools.groupby(rows(), key=_is_flat):
        if flat:
            yield from of_rows(group)
        else:
            for each in group:
                if not isinstance(each, Broken):
                    yield from _of_article(*each)


def _is_flat(row: Row) -> bool:
    return isinstance(row, Broken) or not {"qas", "paragraphs"} & row[0].keys()


def _of_article(row: Mapping[str, Any], place: Place) -> Iterator[Piece]:
    """The pieces of an article, or of one paragraph."""
    if "qas" in row:
        yield from of_paragraph(row, place)
    else:
        try:
            paragraphs = checks.items(row, "paragraphs")
        except Fault as fault:
            yield Broken(str(fault), place)
            return
        for index, paragraph in enumerate(paragraphs):
            inner = Place(f"{place.words}, paragraph {index}", f"{place.path}.paragraphs[{index}]")
            yield from of_paragraph(paragraph, inner)
    yield Article(row.get("title"))


def of_paragraph(value: object, place: Place) -> Iterator[Piece]:
    """The passage of a paragraph with its questions."""
    try:
        paragraph = checks.fields(value, "the paragraph")
        questions = checks.items(paragraph, "qas")
    except Fault as fault:
        yield Broken(str(fault), place)
        return
    yield Passage(paragraph.get("context", checks.MISSING), place)
    for index, question in enumerate(questions):
        id = question.get("id") if isinstance(question, Mapping) else None
        yield Asked(question, place.question(index, id))
