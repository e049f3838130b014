"""Everything that is wrong with a data set, and what is in it: the same reading as that of training and scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from compresskit.data import Split
from compresskit.data.building import HARMLESS
from compresskit.data.checks import Place
from compresskit.data.examples import ExampleSet
from compresskit.data.findings import FAULTS, KINDS, Findings
from compresskit.data.load import load_as
from compresskit.data.offsets import Found
from compresskit.data.repeats import find_repeats
from compresskit.data.store import numbers
from compresskit.errors import InputError
from compresskit.text import to_json

SCHEMA = "compresskit.data/1"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some lengths, what 95 % of them do not exceed, and the greatest."""

    median: float
    p95: float
    most: int


def spread(lengths: NDArray[Any]) -> Spread | None:
    """The spread of lengths; None where there are none."""
    if not len(lengths):
        return None
    median, p95 = np.percentile(lengths, [50, 95])
    return Spread(float(median), float(p95), int(lengths.max()))


def check(ref: str, split: Split, findings: Findings) -> ExampleSet:
    """Read a whole data set, and put all that is wrong with it into `findings`.

    `ref` is what `load` takes. Raises what `load` raises, but for what is wrong with the content.
    """
    examples = load_as(ref, split, "score", watcher=None if ref == "demo" else findings)
    if ref == "demo":  # it is made here
        return examples
    if not len(examples) and not findings.counts["unreadable"]:
        findings.add("unreadable", Place(""), None, "there are no questions in it; give data with questions")
    find_repeats(examples, findings)
    return examples


def summary(ref: str, split: Split | None, examples: ExampleSet, findings: Findings) -> dict[str, Any]:
    """What is in a data set that was checked, as JSON values; `split` is None where it has none."""
    info, counts = examples.info, findings.counts
    found: dict[str, Any] = {"schema": SCHEMA, "data": ref, "split": split, "sha256": info.sha256}
    found |= {key: getattr(info, key) for key in ("questions", "unanswerable", "articles", "paragraphs")}
    found |= {
        "answers_per_question": _answers_per_question(examples),
        "characters": {name: each and asdict(each) for name, each in _characters(examples).items()},
        "offsets_count": findings.unit,
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "training": {
            "mend": {"questions": info.questions - findings.left_out["mend"], "left_out": findings.left_out["mend"]},
            "skip": {"questions": info.questions - findings.left_out["skip"], "left_out": findings.left_out["skip"]},
            "stop": not any(counts[kind] for kind in get_args(Found) if kind not in HARMLESS),
        },
        "whole": findings.is_whole,
        "readable": not (counts["unreadable"] or counts["same_id"]),
        "usable": not any(counts[kind] for kind in FAULTS),
    }
    if not findings.is_whole:
        found["sha256"] = None  # that of a part is nobody's
    return found


def require_usable(ref: str, counts: Mapping[str, int]) -> None:
    """InputError where something can neither be read nor mended."""
    wrong = [f"{told}: {counts[kind]:,}" for kind, told in FAULTS.items() if counts.get(kind)]
    if wrong:
        raise InputError(f"{ref} cannot be used without loss ({'; '.join(wrong)}); correct what is told of each")


def json_lines(found: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    """The lines of the JSON of a summary with every finding, one a line, so that none but one is held at a time."""
    yield f"{to_json(found, indent=2).removesuffix('}').rstrip()},"
    yield '  "findings": ['
    last = None
    for each in findings.all():
        if last is not None:
            yield f"    {last},"
        last = to_json(each)
    if last is not None:
        yield f"    {last}"
    yield "  ]"
    yield "}"


def _answers_per_question(examples: ExampleSet) -> dict[str, int]:
    lengths = numbers(pc.list_value_length(examples.store.question_table.column("texts")))
    found, counts = np.unique(lengths, return_counts=True)
    return {str(number): int(count) for number, count in zip(found, counts, strict=True)}


def _characters(examples: ExampleSet) -> dict[str, Spread | None]:
    """The lengths of the texts, in characters: of each context and question once, and of every answer."""
    questions, paragraphs = examples.store.question_table, examples.store.paragraph_table
    columns: dict[str, pa.ChunkedArray] = {
        "context": paragraphs.column("context"),
        "question": questions.column("question"),
        "answer": pc.list_flatten(questions.column("texts")),
    }
    return {name: spread(numbers(pc.utf8_length(column))) for name, column in columns.items()}
