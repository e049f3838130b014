"""What the reader of every form of data gives, piece by piece: passages, the questions about them, and articles.

Nothing of it is checked yet: that is done in one place, `compresskit.data.building`. What cannot be read is a piece
too, so that whoever looks for all faults reads on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compresskit.data.checks import MISSING, Place, listed


@dataclass(frozen=True, slots=True)
class Passage:
    """A text; the questions that follow are about it."""

    context: object
    place: Place


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: an object. `flat`: it comes from a row, which need not say that a question has no answer."""

    fields: object
    place: Place
    flat: bool = False


@dataclass(frozen=True, slots=True)
class Article:
    """The end of an article: the passages since the last one are its own."""

    title: object


@dataclass(frozen=True, slots=True)
class Broken:
    """A piece that cannot be read; `message` says what is wrong with it, and the mend."""

    message: str
    place: Place


Piece = Passage | Asked | Article | Broken
Row = tuple[Mapping[str, Any], Place] | Broken


def of_rows(rows: Iterator[Row]) -> Iterator[Piece]:
    """The pieces of flat rows, each a question with its context; equal contexts in a row are one passage."""
    title: object = MISSING
    context: object = MISSING
    begun = False
    for each in rows:
        if isinstance(each, Broken):
            yield each
            continue
        row, place = each
        own_place = place.of_row(row.get("id"))
        if (lacking := _lacking(row)) is not None:
            yield Broken(lacking, own_place)
            continue
        own_title, own_context = row.get("title", MISSING), row.get("context", MISSING)
        if begun and own_title != title:
            yield Article(title)
        if not begun or (own_title, own_context) != (title, context):
            yield Passage(own_context, own_place)
        begun, title, context = True, own_title, own_context
        yield Asked(row, own_place, flat=True)
    if begun:
        yield Article(title)


def _lacking(row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row that lacks a key which every row needs; None where it has them."""
    key = next((key for key in ("context", "question") if key not in row), None)
    return (
        None
        if key is None
        else f"the key {key!r} is missing; add it, or rename the key that holds it (there: {listed(row)})"
    )
