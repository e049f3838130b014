"""Files of answers as programs write them: the official format, and those of `predict`, run_qa and `evaluate`.

Which one it is, is told by the content:

- one object, question id to text: the official format. Beside a file `PREFIXpredictions.json`, as run_qa calls it, its
  `PREFIXnull_odds.json` (question id to null score - score) is read too;
- one object, question id to a list of candidates: run_qa's n-best file, in which an empty text stands for "no answer";
- JSON lines with "id", "text", "span_text", "score" and "null_score": what `predict --input` prints;
- a list of objects with "id", "prediction_text" and perhaps "no_answer_probability": what `evaluate` takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compresskit.errors import InputError
from compresskit.evaluate.answers import text_of
from compresskit.models.answering import Candidate, Prediction
from compresskit.text import from_json, kind_of

_PREDICTIONS, _NULL_ODDS = "predictions.json", "null_odds.json"
_OF_A_LINE = {"id", "text", "null_score"}
_MEND = "give one JSON object, question id to text, or a file of predict, of run_qa's n best, or for evaluate"


def read_predictions(path: Path, null_threshold: float = 0.0) -> Mapping[str, Prediction]:
    """The predictions in a file, by question id; where there are null scores, with them.

    Of n best candidates the best is taken, or "no answer" where its score exceeds that one's by more than
    `null_threshold`; any other file has decided already. Raises InputError where the file is missing, broken, too
    large, of no known form, or has two answers to a question.
    """
    value = _value(path)
    if isinstance(value, dict):
        made = _of_object(value, path, null_threshold)
    elif isinstance(value, list):
        of = _of_predict if value and "text" in _fields(value[0], path, "entry 1") else _of_evaluate
        made = (of(_fields(each, path, f"entry {n}"), path, f"entry {n}") for n, each in enumerate(value, start=1))
    else:
        raise InputError(f"{path}: holds {kind_of(value)}, not answers; {_MEND}")
    found: dict[str, Prediction] = {}
    for prediction in made:
        if prediction.id in found:
            raise InputError(f"{path}: has two answers to {prediction.id!r}; leave one out")
        found[prediction.id] = prediction
    return found


def null_odds_of(path: Path) -> Path | None:
    """The file of null odds that belongs to a file of answers; None where there is none."""
    if not path.name.endswith(_PREDICTIONS):
        return None
    beside = path.with_name(path.name.removesuffix(_PREDICTIONS) + _NULL_ODDS)
    return beside if beside.is_file() else None


def _value(path: Path) -> Any:
    """The value of a JSON file; the list of the values of its lines where each has one."""
    text = text_of(path)
    try:
        value = from_json(text)
    except ValueError as error:
        values = list(_lines(text, path))
        if not values:
            raise InputError(f"{path}: cannot be read as JSON ({error}); {_MEND}") from error
        return values
    return [value] if isinstance(value, dict) and value.keys() >= _OF_A_LINE else value


def _lines(text: str, path: Path) -> Iterator[Any]:
    """The values of JSON lines; none where the first is not one, InputError where a later one is not."""
    # JSON may hold other ends of lines as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                yield from_json(line)
        except ValueError as error:
            if number == 1:
                return
            raise InputError(f"{path}, line {number}: cannot be read as JSON ({error}); {_MEND}") from error


def _of_object(value: Mapping[str, Any], path: Path, null_threshold: float) -> Iterator[Prediction]:
    beside = null_odds_of(path)
    odds = _odds(beside) if beside is not None else None
    for question, answer in value.items():
        if isinstance(answer, list):
            yield _of_candidates(question, answer, path, null_threshold)
        elif not isinstance(answer, str):
            raise InputError(f"{path}: the answer to {question!r} is {kind_of(answer)}, not a text; {_MEND}")
        elif odds is None:
            yield Prediction(question, answer, None, None, answer)
        elif question not in odds:
            raise InputError(f"{beside}: has nothing of {question!r}, which {path.name} answers; remove it, or mend it")
        else:
            yield Prediction(question, answer, 0.0, odds[question], answer)


def _odds(path: Path) -> Mapping[str, float]:
    mend = "give question id to number, or remove it"
    try:
        value = from_json(text_of(path))
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {mend}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds {kind_of(value)}, not null odds; {mend}")
    return {question: _number(value, question, path, "the null odds") for question in value}


def _of_candidates(question: str, candidates: Sequence[Any], path: Path, null_threshold: float) -> Prediction:
    where = f"a candidate for {question!r}"
    scored = [(_text(each, "text", path, where), _score(each, path, where)) for each in candidates]
    if not scored:
        raise InputError(f"{path}: has no candidate for {question!r}; {_MEND}")
    null = max((score for text, score in scored if not text), default=None)
    best = sorted((Candidate(*each) for each in scored if each[0]), key=lambda candidate: -candidate.score)
    if not best:
        return Prediction(question, "", None, null, "")
    unanswerable = null is not None and null - best[0].score > null_threshold
    return Prediction(question, "" if unanswerable else best[0].text, best[0].score, null, best[0].text, tuple(best))


def _score(candidate: Any, path: Path, where: str) -> float:
    """A candidate's score: as it is told, or from its logits, or (of a search in beams) from its probability."""
    if "score" in candidate:
        return _number(candidate, "score", path, where)
    if "start_logit" in candidate:
        return _number(candidate, "start_logit", path, where) + _number(candidate, "end_logit", path, where)
    return math.log(max(_number(candidate, "probability", path, where), 1e-300))


def _of_predict(line: Mapping[str, Any], path: Path, where: str) -> Prediction:
    text = _text(line, "text", path, where)
    null = None if line.get("null_score") is None else _number(line, "null_score", path, where)
    score = None if line.get("score") is None else _number(line, "score", path, where)
    span = _text(line, "span_text", path, where) if "span_text" in line else text
    return Prediction(_text(line, "id", path, where), text, score, null, span)


def _of_evaluate(entry: Mapping[str, Any], path: Path, where: str) -> Prediction:
    text, null = _text(entry, "prediction_text", path, where), None
    if entry.get("no_answer_probability") is not None:
        null = _number(entry, "no_answer_probability", path, where)
    return Prediction(_text(entry, "id", path, where), text, None if null is None else 0.0, null, text)


def _fields(value: Any, path: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {where} is {kind_of(value)}, not an answer; {_MEND}")
    return value


def _text(value: Any, key: str, path: Path, where: str) -> str:
    found = _fields(value, path, where).get(key)
    if not isinstance(found, str):
        told = f"has no {key}" if found is None else f"has {kind_of(found)} as {key}, not a text"
        raise InputError(f"{path}: {where} {told}; {_MEND}")
    return found


def _number(value: Mapping[str, Any], key: str, path: Path, where: str) -> float:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        told = f"has no {key}" if found is None else f"has {kind_of(found)} as {key}, not a number"
        raise InputError(f"{path}: {where} {told}; {_MEND}")
    return float(found)
