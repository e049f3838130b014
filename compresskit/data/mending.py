"""What may be done with data that are not as they should be, and how that is told. Nothing here is slow to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

BadData = Literal["mend", "skip", "stop"]
Handling = BadData | Literal["score"]
"""What is done with an answer that does not stand at its offset: it is looked for; its question is left out; the
reading stops. Scoring needs no offset, so that it takes each answer as it is written."""

COUNTS: Mapping[str, str] = {
    "made_ids": "questions without an id have one made from their content",
    "unmarked": "questions have no answers and do not say so: they count as unanswerable",
    "white_space": "answers stand beside their offset, over white space",
    "units": "answers stand at their offset in another unit than characters",
    "nearest": "answers stand elsewhere than their offset says (taken: the nearest occurrence)",
    "loose": "answers stand in the context but for white space, case or Unicode form",
    "absent": "answers have no offset (taken: the first occurrence)",
    "nowhere": "answers do not stand in their context",
    "skipped": "questions are left out: their answers do not stand at their offsets",
}
"""What is counted while data are read, as a message says it after the number."""


def told(counts: Mapping[str, int]) -> Sequence[str]:
    """What was counted, each as a message says it."""
    return [f"{counts[key]:,} {words}" for key, words in COUNTS.items() if counts.get(key)]
