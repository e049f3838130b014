"""What may be done with data that are not as they should be, and how that is told. Nothing here is slow to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

BadData = Literal["mend", "skip", "stop"]
Handling = BadData | Literal["score"]
"""What is done with an answer that does not stand at its offset: it is looked for; its question is left out; the
reading stops. Scoring needs no offset, so that it takes each answer as it is written."""

COUNTS: Mapping[str, str] = {
    "made_ids": "questions whose id is made from their content",
    "unmarked": "questions without answers that do not say so (taken as unanswerable)",
    "white_space": "answers beside their offset, over white space",
    "units": "answers whose offset counts another unit than characters",
    "nearest": "answers elsewhere than their offset says (taken: the nearest occurrence)",
    "loose": "answers that stand in the context but for white space, case or Unicode form",
    "absent": "answers without an offset (taken: the first occurrence)",
    "nowhere": "answers that stand nowhere in their context",
    "skipped": "questions left out, since no answer of theirs stands where it should",
}
"""What is counted while data are read, as a message calls it."""


def told(counts: Mapping[str, int]) -> Sequence[str]:
    """What was counted, each as a message says it."""
    return [f"{words}: {counts[key]:,}" for key, words in COUNTS.items() if counts.get(key)]
