"""What makes a question valid, whatever its source; and the mending of offsets off by white space."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from compresskit.data.examples import Answer

MAX_SHIFT = 8
"""How many white-space characters may stand between an offset and the answer for the offset to be mended."""

_SHOWN = 60


class Missing(Enum):
    """Stands for the value of a key that is not there."""

    MISSING = "nothing"


MISSING = Missing.MISSING


class Fault(ValueError):
    """What is wrong with a piece of data, and the mend; the catcher knows where it stands."""


def kind(value: object) -> str:
    """How to call the type of a value of JSON in a message."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a string" if isinstance(value, str) else f"the number {value}"


def quoted(text: str) -> str:
    """`text` on one line, cut to a readable length."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


def string(value: object, key: str) -> str:
    """`value` as the string under `key`. Raises Fault."""
    if isinstance(value, str):
        return value
    if value is MISSING:
        raise Fault(f"the key {key!r} is missing; add it")
    raise Fault(f"{key!r} is {kind(value)}, not a string")


def context(value: object) -> str:
    """`value` as the text of a paragraph. Raises Fault."""
    text = string(value, "context")
    if not text.strip():
        raise Fault("'context' is empty; remove the paragraph or give it its text")
    return text


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A question as found, its types not checked yet.

    Each value is as JSON has it, or MISSING. `answers` is a list of (text, answer_start), or what stands in place
    of a list.
    """

    id: object
    question: object
    is_impossible: object
    answers: object


@dataclass(frozen=True, slots=True)
class Question:
    """A checked question; `repaired` is how many of its answers were mended."""

    id: str
    question: str
    answers: tuple[Answer, ...]
    repaired: int


def question(raw: RawQuestion, context: str) -> Question:
    """Check `raw`, a question about `context`. Raises Fault."""
    id = string(raw.id, "id")
    if not id:
        raise Fault("'id' is empty; give every question an id of its own")
    text = string(raw.question, "question")
    impossible = False if raw.is_impossible is MISSING else raw.is_impossible
    if not isinstance(impossible, bool):
        raise Fault(f"'is_impossible' is {kind(impossible)}, not true or false")
    pairs = raw.answers
    if pairs is MISSING:
        raise Fault("the key 'answers' is missing; add it (an empty list if the question has no answer)")
    if not isinstance(pairs, list):
        raise Fault(f"'answers' is {kind(pairs)}, not a list")
    if impossible and pairs:
        raise Fault("'is_impossible' is true, but there are answers; remove one or the other")
    if not impossible and not pairs:
        raise Fault("there are no answers; add one, or set 'is_impossible' to true")
    checked = [_answer(text, start, context, i) for i, (text, start) in enumerate(pairs)]
    return Question(id, text, tuple(answer for answer, _ in checked), sum(mended for _, mended in checked))


def _answer(raw_text: object, raw_start: object, context: str, index: int) -> tuple[Answer, bool]:
    """The answer at `index` of a question about `context`, and whether it had to be mended. Raises Fault."""
    try:
        text = string(raw_text, "text")
        if raw_start is MISSING:
            raise Fault("the key 'answer_start' is missing; add it")
        if isinstance(raw_start, bool) or not isinstance(raw_start, int):
            raise Fault(f"'answer_start' is {kind(raw_start)}, not a whole number")
    except Fault as fault:
        raise Fault(f"answer {index}: {fault}") from fault
    words = text.split()
    if not words:
        raise Fault(f"answer {index}: 'text' is empty; a question without answer has an empty list of answers")
    if raw_start >= 0:
        if context.startswith(text, raw_start) and not (text[0].isspace() or text[-1].isspace()):
            return Answer(text, raw_start), False
        mended = _mend(text, words, raw_start, context)
        if mended is not None:
            return mended, True
    raise Fault(f"answer {index}: {_misplaced(text, raw_start, context)}")


def _mend(text: str, words: list[str], start: int, context: str) -> Answer | None:
    """The answer at or just behind `start`, if nothing but white space keeps it from standing there.

    White space may surround the answer's text, stand between the offset and the text, or be other white space
    than that of the context between the same words. The mended text is always a piece of the context.
    """
    pattern = re.compile(r"\s+".join(map(re.escape, words)))
    leading = len(text) - len(text.lstrip())
    for begin in dict.fromkeys((min(start + leading, len(context)), min(start, len(context)))):
        here = begin
        while here < len(context) and here - begin < MAX_SHIFT and context[here].isspace():
            here += 1
        if found := pattern.match(context, here):
            return Answer(found[0], here)
    return None


def _misplaced(text: str, start: int, context: str) -> str:
    if start < 0:
        return f"'answer_start' is {start}; it counts characters from 0"
    stands = f"{quoted(text)} does not stand at 'answer_start' {start}"
    there = context[start : start + len(text)]
    stands += f" (there: {quoted(there)})" if there else f" (the context ends at {len(context)})"
    first = context.find(text)
    if first < 0:
        return f"{stands} nor anywhere in the context; correct the text"
    return f"{stands}; its first occurrence is at {first}; correct the offset"
