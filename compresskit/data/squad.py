"""SQuAD 1.1 and 2.0 JSON, paragraph by paragraph.

The format is that of the official files (https://rajpurkar.github.io/SQuAD-explorer/): `data` is a list of
articles (`title`, `paragraphs`), a paragraph has a `context` and `qas`, a question `id`, `question`,
`answers` (`text`, `answer_start` in characters) and, in 2.0, `is_impossible`. Other keys are passed over, unless
they are asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compresskit.data import checks
from compresskit.data.checks import Fault, Place
from compresskit.data.json_pieces import Events, of_paragraph
from compresskit.data.pieces import Article, Broken, Piece

_NAMES = {"": "the top level", "data.item": "the article"}
"""How messages call the objects outside of the paragraphs, by the parser's prefix."""
_NEEDED = {"": "data", "data.item": "paragraphs"}
"""The list that each of them must have."""
_MOST_BROKEN = 1000
"""Faults outside of the paragraphs that are held between two of these."""


def _begun(event: str, value: Any) -> Any:
    """The value that an event of the parser begins; an empty one for a list or an object."""
    return {"start_map": {}, "start_array": []}.get(event, value)


class SquadReader:
    """Reads the events of a parser: the outline event by event, each paragraph as a whole."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._keys: dict[str, set[str]] = {}  # of the top level and of the article, by their prefix
        self._title: object = None
        self._between: list[Article | Broken] = []  # what came since the last paragraph
        self._articles = self._paragraphs = 0  # articles read, and paragraphs read in this one
        self._article: int | None = None

    def pieces(self) -> Iterator[Piece]:
        """All pieces. Raises Fault, and what the parser raises."""
        paragraphs = self._paragraphs_found()
        while True:
            try:
                paragraph = next(paragraphs, checks.MISSING)
            except Exception:
                yield from self._between  # what stands before that which cannot be read
                raise
            yield from self._between
            self._between.clear()
            if paragraph is checks.MISSING:
                return
            place = Place(
                f"article {self._articles}, paragraph {self._paragraphs}",
                f".data[{self._articles}].paragraphs[{self._paragraphs}]",
            )
            yield from of_paragraph(paragraph, place)
            self._paragraphs += 1
            self._events.next_piece()

    def _here(self) -> Place:
        article = self._article
        return Place("") if article is None else Place(f"article {article}", f".data[{article}]")

    def _broken(self, message: str) -> None:
        """Keep a fault until the paragraph under way is read. Raises it where there are too many to be kept."""
        if len(self._between) >= _MOST_BROKEN:
            raise Fault(message, self._here())
        self._between.append(Broken(message, self._here()))

    def _paragraphs_found(self) -> Iterator[Any]:
        """The paragraphs; what stands outside of them is checked."""
        seen = {
            "": self._check_object,
            "data": self._check_list,
            "data.item": self._check_object,
            "data.item.title": self._keep_title,
            "data.item.paragraphs": self._check_list,
        }
        try:
            yield from self._events.objects("data.item.paragraphs.item", seen)
        except Fault as fault:  # of what is too much, wherever it is
            raise fault if fault.place is not None else Fault(str(fault), self._here()) from fault

    def _check_object(self, prefix: str, event: str, value: Any) -> None:
        """Check that the top level or an article is an object with every key once and none missing."""
        if event == "map_key":
            if value in self._keys[prefix]:
                self._broken(f"the key {checks.quoted(value)} stands twice in {_NAMES[prefix]}; remove one")
            self._keys[prefix].add(value)
        elif event == "end_map":
            if _NEEDED[prefix] not in self._keys[prefix]:
                self._broken(self._lacking(prefix))
            del self._keys[prefix]
            if prefix:
                self._between.append(Article(self._title))
                self._end_article()
        elif event != "end_array":
            if prefix:
                self._article, self._title, self._paragraphs = self._articles, None, 0
            if event == "start_map":
                self._keys[prefix] = set()
                return
            self._broken(f"{_NAMES[prefix]} is {checks.kind(_begun(event, value))}, not an object")
            if prefix:
                self._end_article()

    def _lacking(self, prefix: str) -> str:
        needed, there = _NEEDED[prefix], checks.listed(sorted(self._keys[prefix]))
        rows = "" if prefix else ", and rows have 'context' and 'question'"
        return f"the key {needed!r} is missing in {_NAMES[prefix]} (there: {there}); SQuAD JSON has it there{rows}"

    def _end_article(self) -> None:
        self._article = None
        self._articles += 1

    def _check_list(self, prefix: str, event: str, value: Any) -> None:
        if event not in ("start_array", "end_array", "map_key", "end_map"):
            self._broken(f"{prefix.rpartition('.')[2]!r} is {checks.kind(_begun(event, value))}, not a list")

    def _keep_title(self, _: str, event: str, value: Any) -> None:
        if event not in ("map_key", "end_map", "end_array"):
            self._title = _begun(event, value)
