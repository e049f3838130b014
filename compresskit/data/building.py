"""The one place where examples are made: from the pieces of any form, with all that is mended, and counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from compresskit.data import checks
from compresskit.data.checks import Fault, Place
from compresskit.data.examples import Answer
from compresskit.data.mending import Handling
from compresskit.data.offsets import Found, Placed, Placer, Unit, Vote, misplaced
from compresskit.data.pieces import Article, Asked, Broken, Piece
from compresskit.data.raw import RawAnswer, RawQuestion, kept, raw_question, title
from compresskit.data.store import StoreWriter
from compresskit.errors import InputError
from compresskit.text import whole

# Characters of a context times the answers in it that are looked for: a few seconds' work.
MOST_SOUGHT = 2_000_000_000
HARMLESS: Sequence[Found] = ("exact", "white_space", "units")


class Watcher(Protocol):
    """Is told of all that is found while data are read, which then goes on behind what cannot be read."""

    def begin(self, unit: Unit) -> None:
        """The source is read from its beginning; its offsets count `unit`. What was told before is void."""

    def fault(self, fault: Fault) -> None:
        """A piece cannot be read; the fault knows its place."""

    def stopped(self, message: str) -> None:
        """The source cannot be read any further; the message names it, and the place."""

    def question(self, place: Place, id: str, raw: RawQuestion, placed: Sequence[Placed], *, unmarked: bool) -> None:
        """The next question of the set, and where its answers stand; `unmarked`: it does not say that it has none."""


class Builder:
    """Makes examples of pieces, in order. `unit` is what the offsets of the source count; `vote` on it is taken.

    `keep` names further keys of the questions whose values go along. Where there is a `watcher`, it is told of the
    faults, and what cannot be read is passed over.
    """

    def __init__(
        self,
        writer: StoreWriter,
        handling: Handling,
        unit: Unit = "characters",
        keep: Sequence[str] = (),
        watcher: Watcher | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.vote = Vote()
        self.place = Place("")
        self.flat = False  # whether questions come from rows
        self._writer, self._handling, self._unit, self._keep = writer, handling, unit, keep
        self._watcher = watcher
        self._placer = Placer("")
        self._paragraph = -1
        self._sought = 0
        self._made: dict[bytes, int] = {}  # how often an id of this content was made

    def read(self, pieces: Iterable[Piece]) -> None:
        """Take all pieces. Raises Fault, whose place is known then, and whatever reading the pieces raises."""
        for piece in pieces:
            try:
                self._take(piece)
            except Fault as fault:
                fault.place = fault.place or self.place
                if self._watcher is None:
                    raise
                self._watcher.fault(fault)

    def _take(self, piece: Piece) -> None:
        if isinstance(piece, Article):
            self._writer.article(title(piece.title))
            return
        self.place = piece.place
        if isinstance(piece, Broken):
            raise Fault(piece.message)
        if isinstance(piece, Asked):
            self.flat = piece.flat
            self._add(checks.fields(piece.fields, "the question"), flat=piece.flat)
            return
        self._paragraph = -1
        self._placer = Placer(whole(checks.context(piece.context)), self._unit)
        self._paragraph = self._writer.paragraph(self._placer.context)
        self._sought = 0

    def _add(self, fields: Mapping[str, Any], *, flat: bool) -> None:
        raw = raw_question(fields)
        if self._paragraph < 0:  # its passage cannot be read, as was told
            return
        unmarked = not raw.answers and not raw.accepted and not raw.marked and (raw.marked is False or not flat)
        if unmarked:
            self.counts["unmarked"] += 1
        placed = [self._placed(answer, index) for index, answer in enumerate(raw.answers)]
        if self._handling == "score":
            answers = [_answer(answer, found) for answer, found in zip(raw.answers, placed, strict=True)]
            answers += [Answer(text, -1) for text in raw.accepted if text.strip()]
        else:
            answers = usable(placed, self._handling)
            if not answers and (raw.answers or raw.accepted):
                self.counts["skipped"] += 1
                return
        mended = sum(found.found != "exact" and bool(usable([found], self._handling)) for found in placed)
        id = raw.id if raw.id is not None else self._made_id(raw)
        further = [kept(fields, key) for key in self._keep]
        self._writer.questions.add(id, raw.question, self._paragraph, answers, mended, further)
        if self._watcher is not None:
            self._watcher.question(self.place, id, raw, placed, unmarked=unmarked)

    def _placed(self, answer: RawAnswer, index: int) -> Placed:
        """Where an answer stands. Raises Fault where the reading is to stop, and it does not stand at its offset."""
        start = answer.start
        if type(start) is int and self._placer.stands_in_all(answer.text, start):  # most of what is read
            return Placed(Answer(answer.text, start), "exact")
        if isinstance(start, Fault):
            if self._handling == "stop":
                raise Fault(f"answer {index}: {start}") from start
            start = None
        if start is not None and start >= 0:
            self.vote.add(self._placer, answer.text, start)
        placed = self._placer.place(answer.text, start)
        if self._handling == "stop" and placed.found not in HARMLESS:
            told = "the key 'answer_start' is missing; add it" if start is None else None
            told = told or misplaced(answer.text, start or 0, self._placer.context)
            raise Fault(f"answer {index}: {told}")
        if placed.found != "exact":
            self.counts[placed.found] += 1
            self._sought += len(self._placer.context)
            if self._sought > MOST_SOUGHT:
                self._paragraph = -1  # who reads on does not look for more in it
                raise Fault("too many answers stand elsewhere than at their offsets in so long a context; split it")
        return placed

    def _made_id(self, raw: RawQuestion) -> str:
        """An id from the content: the same in every file that asks this; a repetition has a number behind it."""
        self.counts["made_ids"] += 1
        parts = (self._placer.context, raw.question, *(answer.text for answer in raw.answers))
        digest = hashlib.sha256("\0".join(parts).encode()).digest()[:12]
        count = self._made[digest] = self._made.get(digest, 0) + 1
        return f"made-{digest.hex()}" + (f"-{count}" if count > 1 else "")


def usable(placed: Sequence[Placed], handling: Handling) -> list[Answer]:
    """The answers that are learned from."""
    return [
        found.answer for found in placed if found.answer is not None and (handling != "skip" or found.found in HARMLESS)
    ]


def _answer(raw: RawAnswer, placed: Placed) -> Answer:
    """An answer as it is written, with its place where that is known."""
    return Answer(raw.text, -1 if placed.answer is None else placed.answer.start)


def fault_of(name: str, fault: Fault) -> InputError:
    """The error for a fault in the source called `name`."""
    return InputError(f"{name}: {fault.place or ''}{fault}")
