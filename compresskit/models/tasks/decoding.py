"""Decoding: the likeliest answers of a sequence-to-sequence model, and how likely "unanswerable" is.

A batch is encoded once. The first pass of the decoder scores the unanswerable target, and is the first step of the
answers too. After some steps only the rows with long answers are left. They wait for those of other batches at the same
step, and go on together: a step of few rows takes a GPU as long as one of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from compresskit.models.tasks.hypotheses import Beams, Greedy, Hypothesis, Rows, Search, Target

# The numbers of tokens after which the rows of a batch wait for others. Half of SQuAD's answers have three at most.
STAGES = (3, 6, 12)
# How much begins together, and how much may wait, in parts of the largest batch.
TOGETHER, WAITING = 2.0, 1.0


class Decoder:
    """Finds the answers of one batch after the other."""

    def __init__(self, model: Any, target: Target, how: Search) -> None:
        self._model, self._target, self._how = model, target, how
        self._encoded: list[tuple[Tensor, Tensor, Sequence[int]]] = []
        self._waiting: dict[int, list[Rows]] = {}
        self._largest = 0
        self._nulls: list[Tensor] = []
        self._order: list[int] = []
        self._found: dict[int, list[Hypothesis]] = {}

    @torch.inference_mode()
    def add(self, hidden: Tensor, mask: Tensor, questions: Sequence[int]) -> None:
        """Take in a batch.

        `hidden` (rows, length, width) is the encoder's output, `mask` (rows, length) its attention mask; `questions`
        are the numbers by which `finish` tells what was found.
        """
        self._encoded.append((hidden, mask, questions))
        self._largest = max(self._largest, mask.numel() * self._how.beams)
        # Another batch as large would be too much.
        if sum(mask.numel() for _, mask, _ in self._encoded) * self._how.beams > (TOGETHER - 1) * self._largest:
            self._begin()

    def _begin(self) -> None:
        """Begin the answers of what is encoded."""
        batches, self._encoded = self._encoded, []
        length = max(mask.shape[1] for _, mask, _ in batches)
        hidden = torch.cat([pad(hidden, (0, 0, 0, length - hidden.shape[1])) for hidden, _, _ in batches])
        mask = torch.cat([pad(mask, (0, length - mask.shape[1])) for _, mask, _ in batches])
        questions = [question for _, _, numbers in batches for question in numbers]
        self._found.update({question: [] for question in questions})
        sort = Greedy if self._how.beams == 1 else Beams
        rows = sort(self._model, hidden, mask, self._target, self._how, questions, self._found)
        self._nulls.append(rows.null)
        self._order.extend(questions)
        self._run(rows)
        while self._waits() > WAITING * self._largest:
            self._run_together(max(self._waiting, key=lambda step: sum(each.size for each in self._waiting[step])))

    @torch.inference_mode()
    def finish(self) -> dict[int, tuple[float, list[Hypothesis]]]:
        """For each question the log-probability of the unanswerable target, and the best answers, best first."""
        if self._encoded:
            self._begin()
        while self._waiting:
            self._run_together(min(self._waiting))
        nulls = torch.cat(self._nulls).tolist() if self._nulls else []
        return {question: (null, self._found[question]) for question, null in zip(self._order, nulls, strict=True)}

    def _waits(self) -> int:
        return sum(rows.size for group in self._waiting.values() for rows in group)

    def _run_together(self, step: int) -> None:
        first, *others = self._waiting.pop(step)
        first.join(others)
        self._run(first)

    def _run(self, rows: Rows) -> None:
        """Go on until all is found, or to the next stage."""
        until = next((stage for stage in STAGES if stage > rows.written), None)
        while rows.open and rows.written != until:
            rows.step()
        if rows.open:
            rows.drop_closed()
            self._waiting.setdefault(rows.written, []).append(rows)
