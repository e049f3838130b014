"""All that is found wrong with a data set: each piece with its place and its mend, kept on the disk."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compresskit.checkpoint.temporary import temporary_folder
from compresskit.data import checks
from compresskit.data.building import usable
from compresskit.data.checks import Fault, Place
from compresskit.data.examples import Answer
from compresskit.data.mending import COUNTS
from compresskit.data.offsets import Placed, Unit
from compresskit.data.raw import RawAnswer, RawQuestion

FAULTS: Mapping[str, str] = {
    "unreadable": "pieces that cannot be read",
    "same_id": "questions whose id stands already before them",
    "nowhere": COUNTS["nowhere"],
}
"""The kinds of what no reading can mend, as a person is told of them."""
MENDED: Mapping[str, str] = {key: told for key, told in COUNTS.items() if key not in ("nowhere", "skipped")}
"""The kinds of what every reading mends."""
NOTES: Mapping[str, str] = {
    "same_question": "questions that were asked of the same passage before",
    "same_context": "passages whose text stood there before",
}
"""The kinds of what is no fault, and may be meant."""
_UNSEEN = "not looked at: what stands behind that, and up to a megabyte before it"
KINDS: Mapping[str, str] = {**FAULTS, **MENDED, **NOTES}


class Findings:
    """Takes what reading a data set tells (see `building.Watcher`); use it as a context manager.

    `counts` are the findings of each kind, `first` the first `shown` of each as JSON objects; `all` gives every one.
    """

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self.unit: Unit = "characters"
        self.is_whole = True  # whether the source was read to its end
        self._folder = temporary_folder()

    def __enter__(self) -> Findings:
        folder = self._folder.__enter__()
        self._all = (folder / "findings.jsonl").open("w+", encoding="utf-8")
        self._places = (folder / "places.jsonl").open("wb+")
        self.begin("characters")
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()
        self._places.close()
        self._folder.__exit__(None, None, None)

    def begin(self, unit: Unit) -> None:
        """Begin anew; see `Watcher`."""
        self.unit, self.is_whole = unit, True
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self.left_out = {"mend": 0, "skip": 0}
        self._begins = array("q")  # where the place of each question is written
        for file in (self._all, self._places):
            file.seek(0)
            file.truncate()

    def fault(self, fault: Fault) -> None:
        """A piece cannot be read."""
        self.add("unreadable", fault.place or Place(""), None, str(fault))

    def stopped(self, message: str) -> None:
        """The source cannot be read any further."""
        self.is_whole = False
        self.add("unreadable", Place(""), None, f"{message} ({_UNSEEN})")

    def question(self, place: Place, id: str, raw: RawQuestion, placed: Sequence[Placed], *, unmarked: bool) -> None:
        """A question was read: what is to be mended of it."""
        self._begins.append(self._places.tell())
        self._places.write(json.dumps([place.words, place.path, id]).encode() + b"\n")
        if raw.id is None:
            self.add("made_ids", place, id, f"it has no id, and gets {id}; give it one")
        if unmarked:
            self.add("unmarked", place, id, "it has no answers, and does not say so; set 'is_impossible' to true")
        for index, (answer, found) in enumerate(zip(raw.answers, placed, strict=True)):
            if found.found != "exact":
                message = f"answer {index}, {_told(answer, found)}"
                self.add(found.found, place, id, message, answer=index, mend=_mend(found.answer))
        if raw.answers or raw.accepted:
            self.left_out["mend"] += not usable(placed, "mend")
            self.left_out["skip"] += not usable(placed, "skip")

    def place(self, row: int) -> tuple[Place, str]:
        """The place and the id of a question by its number in the set."""
        self._places.seek(self._begins[row])
        words, path, id = json.loads(self._places.readline())
        return Place(words, path), id

    def add(self, kind: str, place: Place, id: str | None, message: str, **more: Any) -> None:
        """Keep one finding of a kind of `KINDS`."""
        self.counts[kind] += 1
        found = {"kind": kind, "place": place.words, "path": place.path, "id": id, "message": message, **more}
        if len(self.first[kind]) < self._shown:
            self.first[kind].append(found)
        self._all.write(json.dumps(found) + "\n")

    def all(self) -> Iterator[dict[str, Any]]:
        """Every finding, in the order of the data; what stands twice comes behind them."""
        self._all.flush()
        self._all.seek(0)
        for line in self._all:
            yield json.loads(line)


def _told(raw: RawAnswer, placed: Placed) -> str:
    """What is wrong with where an answer stands, and the mend."""
    text = checks.quoted(raw.text)
    if isinstance(raw.start, Fault):
        text = f"{text}: {raw.start}"
    elif raw.start is None:
        text = f"{text}, has no 'answer_start'"
    elif placed.found != "units":
        text = f"{text}, does not stand at 'answer_start' {raw.start}"
    else:
        text = f"{text}, has an 'answer_start' ({raw.start}) that does not count characters"
    if placed.answer is None:
        return f"{text}, and stands nowhere in the context; correct the text"
    found = placed.answer
    written = f" as {checks.quoted(found.text)}" if found.text != raw.text else ""
    return f"{text}; it stands at {found.start}{written}: correct it"


def _mend(found: Answer | None) -> dict[str, Any] | None:
    return None if found is None else {"text": found.text, "answer_start": found.start}
