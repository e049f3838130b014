"""Questions that a training does not learn from: whole paragraphs, so that no text is learned from and asked about."""

from __future__ import annotations

import hashlib

import numpy as np

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError


def hold_out(examples: ExampleSet, share: float, seed: int) -> tuple[ExampleSet, ExampleSet]:
    """What is left to learn from, and what is held out: about the fraction `share` of the questions.

    Paragraphs are drawn with `seed`, and held out with all of their questions. One whose text is the same but for white
    space goes with them, as in flat rows, where each question has its own copy. Raises InputError where nothing would
    be left.
    """
    drawn = examples.sample_paragraphs(max(1, round(share * len(examples))), seed)
    texts = {_key(context) for _, context in drawn.paragraphs()}
    numbers = [number for number, context in examples.paragraphs() if _key(context) in texts]
    out = np.isin(examples.paragraph_numbers(), numbers)
    if out.all():
        raise InputError(
            f"{examples.info.path}: --eval-steps holds out whole paragraphs, and no other would be left to learn from; "
            "give --select-on eval with --eval-data"
        )
    return examples.select(np.flatnonzero(~out)), examples.select(np.flatnonzero(out))


def _key(context: str) -> bytes:
    return hashlib.sha256(" ".join(context.split()).encode()).digest()[:16]
