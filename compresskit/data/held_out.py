"""Questions that a training does not learn from: whole paragraphs, so that no text is learned from and asked about."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from compresskit.data.examples import ExampleSet
from compresskit.errors import InputError


def hold_out(examples: ExampleSet, share: float, seed: int) -> tuple[ExampleSet, ExampleSet]:
    """What is left to learn from, and what is held out: about the fraction `share` of the questions.

    Texts are drawn with `seed`, and held out with all of their questions, until the next one would be too much. A
    paragraph whose text is the same but for white space goes with it, as in flat rows, where each question has its own
    copy. Raises InputError where nothing would be left.
    """
    texts: dict[bytes, int] = {}
    known = {number: texts.setdefault(_key(context), len(texts)) for number, context in examples.paragraphs()}
    own = np.array([known[number] for number in examples.paragraph_numbers().tolist()])
    order = random.Random(seed).sample(range(len(texts)), len(texts))
    counts = np.cumsum(np.bincount(own)[order])
    fitting = int(np.searchsorted(counts, round(share * len(examples)), side="right"))
    out = np.isin(own, order[: max(fitting, 1)])
    if out.all():
        raise InputError(
            f"{examples.info.path}: --eval-steps holds out whole paragraphs, and no other would be left to learn from; "
            "give --select-on eval with --eval-data"
        )
    return examples.select(np.flatnonzero(~out)), examples.select(np.flatnonzero(out))


def _key(context: str) -> bytes:
    return hashlib.sha256(" ".join(context.split()).encode()).digest()[:16]
