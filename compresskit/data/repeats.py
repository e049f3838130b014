"""What stands twice in a data set: ids, questions about one passage, passages."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from compresskit.data.examples import ExampleSet
from compresskit.data.findings import Findings
from compresskit.data.overlap import hash_of, in_order, question_keys, text_hash


def find_repeats(examples: ExampleSet, findings: Findings) -> None:
    """Add what stands twice to the findings of the whole set `examples`; 32 bytes a question are held meanwhile."""
    store = examples.store
    for first, again in repeats(hash_of(store.id(row).encode()) for row in range(store.questions)):
        if store.id(first) == store.id(again):
            place, id = findings.place(again)
            told = f"the id stands already in {findings.place(first)[0].words}; give every question its own"
            findings.add("same_id", place, id, told)
    for first, again in repeats(_same_question(examples)):
        _note(findings, "same_question", first, again, "the same is asked of the same passage in")
    begins = np.searchsorted(examples.paragraph_numbers(), [paragraph for paragraph, _ in examples.paragraphs()])
    for first, again in repeats(text_hash(context) for _, context in examples.paragraphs()):
        _note(findings, "same_context", int(begins[first]), int(begins[again]), "its passage has the text of that of")


def repeats(hashes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The number of each hash that was there before, behind that of its first; of eight bytes each."""
    values = np.frombuffer(array("Q", hashes), dtype=np.uint64)
    _, first, own = np.unique(values, return_index=True, return_inverse=True)
    before = first[own]
    for again in np.flatnonzero(before != np.arange(len(values))).tolist():
        yield int(before[again]), again


def _same_question(examples: ExampleSet) -> Iterator[int]:
    for example, context in in_order(examples):
        (key,) = question_keys(example.question, context, ())
        yield key


def _note(findings: Findings, kind: str, first: int, again: int, what: str) -> None:
    place, id = findings.place(again)
    findings.add(kind, place, id, f"{what} {findings.place(first)[0].words}; leave one out, unless you mean it")
