"""Where an answer stands in its context: at its offset, or else as near to it as it can be found.

Offsets of SQuAD count characters (code points). Other tools count UTF-16 units, as JavaScript and Java do, bytes, or a
line's end as one character where the context has two, or as two where it has one.
"""

from __future__ import annotations

import bisect
import functools
import re
import unicodedata
from array import array
from dataclasses import dataclass
from typing import Literal

from compresskit.data import checks
from compresskit.data.examples import Answer

MAX_SHIFT = 8
"""How many white-space characters may stand between an offset and the answer for it to be off by white space only."""

LONGEST_LOOSE = 1_000_000
"""Characters of a context in which an answer is looked for without regard to white space, case and Unicode form."""

Unit = Literal["characters", "utf-16", "bytes", "crlf", "lf"]
Found = Literal["exact", "white_space", "units", "nearest", "loose", "absent", "nowhere"]
"""How an answer was found: at its offset, beside it over white space, at its offset in another unit, at the nearest
occurrence, at the nearest but for white space, case and Unicode form, without any offset, or not at all."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer as a piece of the context, None where it stands nowhere; and how it was found."""

    answer: Answer | None
    found: Found


class Placer:
    """Finds answers in one context, whose offsets count `unit`."""

    def __init__(self, context: str, unit: Unit = "characters") -> None:
        self.context = context
        self._unit = unit

    def place(self, text: str, start: int | None) -> Placed:
        """Where `text`, which holds more than white space, stands; `start` is its offset, None where it has none."""
        found: Found = "nearest"
        if start is None or start < 0:
            start, found = 0, "absent"
        else:
            here = self.characters(start, self._unit)
            if self.context.startswith(text, here) and not (text[0].isspace() or text[-1].isspace()):
                return Placed(Answer(text, here), "exact" if here == start else "units")
            if (mended := self._beside(text, here)) is not None:
                return Placed(mended, "white_space")
            start = here
        if (answer := self._nearest(text.strip(), start)) is not None:
            return Placed(answer, found)
        loosely = len(self.context) <= LONGEST_LOOSE
        if loosely and (answer := self._loose.nearest(text, start, self.context)) is not None:
            return Placed(answer, found if found == "absent" else "loose")
        return Placed(None, "nowhere")

    def stands_in_all(self, text: str, start: int) -> bool:
        """Whether `text` stands at an offset that is the same in all units: it is exact, and has no vote."""
        here = start >= 0 and self.context.startswith(text, start) and not self.differing
        return here and not (text[0].isspace() or text[-1].isspace())

    def stands(self, text: str, start: int, unit: Unit) -> bool:
        """Whether `text` stands at an offset that counts `unit`."""
        return self.context.startswith(text, self.characters(start, unit))

    def characters(self, start: int, unit: Unit) -> int:
        """An offset (0 or more) that counts `unit`, in characters."""
        context = self.context
        if unit == "characters" or start > 4 * len(context):
            return min(start, len(context) + 1)
        if unit not in self.differing:
            return start
        if unit == "crlf":
            return len(context.replace("\n", "\r\n")[:start].replace("\r\n", "\n"))
        if unit == "lf":
            return len(context.replace("\r\n", "\n")[:start].replace("\n", "\r\n"))
        if unit == "bytes":
            return len(self._utf8[:start].decode(errors="ignore"))
        return len(self._utf16[: 2 * start].decode("utf-16-le", errors="ignore"))

    @functools.cached_property
    def differing(self) -> frozenset[Unit]:
        """The units in which offsets in this context may be others than in characters."""
        context = self.context
        found: dict[Unit, bool] = {
            "utf-16": not context.isascii() and max(context) > "\uffff",
            "bytes": not context.isascii(),
            "crlf": "\n" in context,
            "lf": "\r\n" in context,
        }
        return frozenset(unit for unit, differs in found.items() if differs)

    @functools.cached_property
    def _utf8(self) -> bytes:
        return self.context.encode()

    @functools.cached_property
    def _utf16(self) -> bytes:
        return self.context.encode("utf-16-le")

    @functools.cached_property
    def _loose(self) -> _Loose:
        return _Loose(self.context)

    def _beside(self, text: str, start: int) -> Answer | None:
        """The answer at or just behind `start`, if nothing but white space keeps it from standing there.

        White space may surround the answer's text, stand between the offset and the text, or be other white space
        than that of the context between the same words. The mended text is always a piece of the context.
        """
        context = self.context
        pattern = re.compile(r"\s+".join(map(re.escape, text.split())))
        leading = len(text) - len(text.lstrip())
        for begin in dict.fromkeys((min(start + leading, len(context)), min(start, len(context)))):
            here = begin
            while here < len(context) and here - begin < MAX_SHIFT and context[here].isspace():
                here += 1
            if found := pattern.match(context, here):
                return Answer(found[0], here)
        return None

    def _nearest(self, text: str, start: int) -> Answer | None:
        before = self.context.rfind(text, 0, start + len(text))
        behind = self.context.find(text, start)
        places = [place for place in (before, behind) if place >= 0]
        return Answer(text, min(places, key=lambda place: abs(place - start))) if places else None


class _Loose:
    """A text without white space, in small letters and decomposed, and where each of its characters comes from."""

    def __init__(self, text: str) -> None:
        self._places = array("i")
        parts = []
        for place, character in enumerate(text):
            if not character.isspace():
                plain = _plain(character)
                parts.append(plain)
                self._places.extend([place] * len(plain))
        self._text = "".join(parts)

    def nearest(self, text: str, start: int, context: str) -> Answer | None:
        """The piece of the context that is `text` but for all that, the one nearest to character `start` of it."""
        sought = "".join(_plain(character) for character in text if not character.isspace())
        if not sought:
            return None
        middle = bisect.bisect_left(self._places, start)
        before = self._text.rfind(sought, 0, middle + len(sought))
        behind = self._text.find(sought, middle)
        found = [self._piece(place, place + len(sought), context) for place in (before, behind) if place >= 0]
        whole = [answer for answer in found if answer is not None]
        return min(whole, key=lambda answer: abs(answer.start - start)) if whole else None

    def _piece(self, begin: int, end: int, context: str) -> Answer | None:
        """The characters behind these ones; None where that would cut an accent from its letter."""
        if end < len(self._text) and unicodedata.combining(self._text[end]):
            return None
        first, last = self._places[begin], self._places[end - 1]
        cut = (begin and self._places[begin - 1] == first) or (end < len(self._text) and self._places[end] == last)
        return None if cut else Answer(context[first : last + 1], first)


def _plain(character: str) -> str:
    """A character decomposed, in small letters."""
    if character.isascii():
        return character.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", character).casefold())


class Vote:
    """Which units all offsets of a source agree on; an answer that stands nowhere has no vote."""

    def __init__(self) -> None:
        self._agreed: set[Unit] = {"utf-16", "bytes", "crlf", "lf"}
        self._agreed_on_characters = True

    def add(self, placer: Placer, text: str, start: int) -> None:
        """Take the offset of an answer with this text."""
        stands = placer.context.startswith(text, start)
        if not stands and text not in placer.context:
            return
        self._agreed_on_characters &= stands
        for unit in tuple(self._agreed):
            if not (placer.stands(text, start, unit) if unit in placer.differing else stands):
                self._agreed.remove(unit)

    @property
    def unit(self) -> Unit:
        """The unit that all offsets agree on, where it is not characters that they do."""
        if self._agreed_on_characters:
            return "characters"
        return min(self._agreed, default="characters")


def misplaced(text: str, start: int, context: str) -> str:
    """What is wrong with an offset, and the mend."""
    if start < 0:
        return f"'answer_start' is {start}; it counts characters from 0"
    stands = f"{checks.quoted(text)} does not stand at 'answer_start' {start}"
    there = context[start : start + len(text)]
    stands += f" (there: {checks.quoted(there)})" if there else f" (the context ends at {len(context)})"
    first = context.find(text)
    if first < 0:
        return f"{stands} nor anywhere in the context; correct the text"
    return f"{stands}; its first occurrence is at {first}; correct the offset"
