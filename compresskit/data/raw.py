"""A question as people and tools write it, brought into one shape: whatever has one meaning only is taken.

Ids that are numbers, truth as 0, 1 or "true", offsets as text, answers as an object, as two lists, or not at all.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compresskit.data import checks
from compresskit.data.checks import MISSING, Fault, Object
from compresskit.text import whole

_TRUE, _FALSE = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n")
KEYS = {"id", "qid", "title", "context", "question", "is_impossible", "answers", "detected_answers"} | {
    *("answers.text", "answers.answer_start", "answer_text", "answer_start", "answer")
}
"""All keys of a row that are looked at."""
_LONGEST_KEPT = 200
_NOT_TOLD = ("", "null", "none", "nan")


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer's text, and its offset as told: a whole number, None where none is told, or the fault of it."""

    text: str
    start: int | Fault | None


@dataclass(frozen=True, slots=True)
class RawQuestion:
    """A question in one shape.

    `id` is None where it has none. `marked` is what it says of having no answer, None where it says nothing. `accepted`
    are texts that count as answers too, without saying where they stand.
    """

    id: str | None
    question: str
    marked: bool | None
    answers: Sequence[RawAnswer]
    accepted: Sequence[str] = ()


def raw_question(fields: Mapping[str, Any]) -> RawQuestion:
    """The question in these keys. Raises Fault for what has no meaning, or more than one."""
    id = question_id(fields)
    question = whole(checks.string(fields.get("question", MISSING), "question"))
    marked = truth(fields.get("is_impossible", MISSING), "is_impossible")
    answers, accepted = _answers(fields)
    answers = [answer for answer in answers if answer.text.strip()]
    if marked and (answers or any(text.strip() for text in accepted)):
        raise Fault("'is_impossible' is true, but there are answers; remove one or the other")
    return RawQuestion(id, question, marked, answers, accepted)


def question_id(fields: Mapping[str, Any]) -> str | None:
    """The id as a text, None where there is none; that of MRQA is `qid`. Raises Fault for one that is no id."""
    value = next((fields[key] for key in ("id", "qid") if fields.get(key) is not None), None)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return whole(value)
    number = _whole_number(value)
    if number is None:
        raise Fault(f"'id' is {checks.kind(value)}, not a text or a whole number")
    return str(number)


def kept(fields: Mapping[str, Any], key: str) -> str | None:
    """The value of a further key as a short text, by which questions are told apart; None where there is none.

    A table's columns are known in small letters. Raises Fault for what is no short text, number, date or truth.
    """
    value = fields.get(key, fields.get(key.lower()))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list | tuple):
        raise Fault(
            f"{key!r} is {checks.kind(value)}, and slices are told apart by texts and numbers; take another key"
        )
    number = None if isinstance(value, str) else _whole_number(value)
    text = whole(str(value if number is None else number)).strip()
    if len(text) > _LONGEST_KEPT:
        raise Fault(
            f"{key!r} holds a text of {len(text):,} characters, too long to tell slices apart; take another key"
        )
    return text or None


def title(value: object) -> str:
    """A title as a text; nothing needs one, so what is none is empty."""
    return whole(value) if isinstance(value, str) else ""


def truth(value: object, key: str) -> bool | None:
    """What `value` says: yes, no, or nothing. Raises Fault where it may mean anything."""
    if value is None or value is MISSING:
        return None
    if isinstance(value, bool):
        return value
    number = _whole_number(value) if isinstance(value, numbers.Number) else None
    word = str(value if number is None else number).strip().lower()  # NaN is what pandas writes for nothing
    if word in _NOT_TOLD:
        return None
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise Fault(f"{key!r} is {checks.kind(value)}, not true or false")


def _whole_number(value: object) -> int | None:
    """A number that is whole (12, 12.0), or the text of one; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = int(value) if value.strip().isdecimal() and len(value) < 20 else float(value)
        except ValueError:
            return None
    if isinstance(value, int):
        return value
    if isinstance(value, numbers.Number) and math.isfinite(float(value)) and float(value).is_integer():  # type: ignore[arg-type]
        return int(value)  # type: ignore[call-overload, no-any-return]
    return None


def offset(value: object) -> int | Fault | None:
    """An offset as a whole number (some tools write -1 for none); None where none is told (null, NaN)."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value is MISSING or (isinstance(value, str) and value.strip().lower() in _NOT_TOLD):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    number = _whole_number(value)
    if number is None:
        shown = checks.quoted(value) if isinstance(value, str) else checks.kind(value)
        return Fault(f"'answer_start' is {shown}, not a whole number")
    return number


def _answers(fields: Mapping[str, Any]) -> tuple[list[RawAnswer], list[str]]:
    """The answers, and further texts that are accepted, in whichever keys they are."""
    found = fields.get("detected_answers")
    if isinstance(found, list) and found:  # MRQA: where the answers stand, apart from the answers
        return [each for index, item in enumerate(found) for each in _detected(item, index)], _texts(fields)
    value = fields.get("answers")
    return answers_of(_of_columns(fields) if value is None else value), []


def _of_columns(fields: Mapping[str, Any]) -> object:
    """The answers of a row that has them in columns of their own."""
    for text, start in (
        ("answers.text", "answers.answer_start"),
        ("answer_text", "answer_start"),
        ("answer", "answer_start"),
    ):
        value = fields.get(text)
        if isinstance(value, Mapping) or (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            return value  # answers with their offsets, under another name
        if value is not None:
            return {"text": value, "answer_start": fields.get(start)}
    return None


def answers_of(value: object) -> list[RawAnswer]:
    """Answers as one object, a list of objects or of texts, or an object of two lists. Raises Fault."""
    if value is None:
        return []
    if isinstance(value, str):
        return [RawAnswer(whole(value), None)]
    if isinstance(value, Mapping):
        texts = value.get("text", MISSING)
        return _of_lists(value, texts) if isinstance(texts, list) else [_answer(value, 0)]
    if not isinstance(value, list):
        raise Fault(f"'answers' is {checks.kind(value)}, not a list")
    return [_answer(item, index) for index, item in enumerate(value)]


def _of_lists(value: Mapping[str, Any], texts: list[Any]) -> list[RawAnswer]:
    starts = value.get("answer_start")
    if starts is None:
        starts = [None] * len(texts)
    if not isinstance(starts, list) or len(texts) != len(starts):
        raise Fault("'answers' does not hold two lists of one length, 'text' and 'answer_start'")
    pairs = zip(texts, starts, strict=True)
    return [_answer({"text": text, "answer_start": start}, index) for index, (text, start) in enumerate(pairs)]


def _answer(item: object, index: int) -> RawAnswer:
    if isinstance(item, str):
        return RawAnswer(whole(item), None)
    if type(item) is dict or (
        type(item) is Object and item.twice is None
    ):  # as SQuAD has it, which is most of what is read
        text, start = item.get("text"), item.get("answer_start")
        if type(text) is str and type(start) is int:
            return RawAnswer(whole(text), start)
    try:
        fields = checks.fields(item, "it")
        text = fields.get("text", MISSING)
        if text is None and fields.get("answer_start") is None:
            return RawAnswer("", None)
        text = str(text) if isinstance(text, int) and not isinstance(text, bool) else text  # a year
        start = offset(fields.get("answer_start", fields.get("start")))
        return RawAnswer(whole(checks.string(text, "text")), start)
    except Fault as fault:
        raise Fault(f"answer {index}: {fault}") from fault


def _detected(item: object, index: int) -> list[RawAnswer]:
    """A detected answer of MRQA: one for every place where it was found (`char_spans`: first and last character)."""
    try:
        fields = checks.fields(item, "it")
        text = whole(checks.string(fields.get("text", MISSING), "text"))
    except Fault as fault:
        raise Fault(f"detected answer {index}: {fault}") from fault
    spans = fields.get("char_spans")
    starts = [span[0] for span in spans if isinstance(span, list) and span] if isinstance(spans, list) else []
    return [RawAnswer(text, offset(start)) for start in starts or [None]]


def _texts(fields: Mapping[str, Any]) -> list[str]:
    """The texts of `answers` where that is a list of them."""
    found = fields.get("answers")
    return [whole(text) for text in found if isinstance(text, str)] if isinstance(found, list) else []
