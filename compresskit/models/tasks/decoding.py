"""Decoding: the likeliest answers of a model that writes, and how likely "unanswerable" is.

Prompts are read once. After some steps only the rows with long answers are left. They wait for those of other batches
at the same step, and go on together: a step of few rows takes a GPU as long as one of many.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compresskit.models.tasks.hypotheses import Beams, Greedy, Hypothesis, Rows, Search, Target
from compresskit.models.tasks.memory import Memory

# The numbers of tokens after which the rows of a batch wait for others. Half of SQuAD's answers have three at most.
STAGES = (3, 6, 12)
# How much begins together, and how much may wait, in parts of the largest batch.
TOGETHER, WAITING = 2.0, 1.0


class Decoder:
    """Finds the answers of one batch after the other."""

    def __init__(self, target: Target, how: Search) -> None:
        self._target, self._how = target, how
        self._unread: list[tuple[Memory, Sequence[int]]] = []
        self._waiting: dict[int, list[Rows]] = {}
        self._largest = 0
        self._nulls: list[Tensor] = []
        self._order: list[int] = []
        self._found: dict[int, list[Hypothesis]] = {}

    @torch.inference_mode()
    def add(self, memory: Memory, questions: Sequence[int]) -> None:
        """Take in a batch of prompts; `questions` are the numbers by which `finish` tells what was found."""
        self._unread.append((memory, questions))
        self._largest = max(self._largest, memory.size * self._how.beams)
        # Another batch as large would be too much.
        if sum(memory.size for memory, _ in self._unread) * self._how.beams > (TOGETHER - 1) * self._largest:
            self._begin()

    def _begin(self) -> None:
        """Begin the answers of what waits to be read."""
        batches, self._unread = self._unread, []
        first, *others = (memory for memory, _ in batches)
        questions = [question for _, numbers in batches for question in numbers]
        self._found.update({question: [] for question in questions})
        sort = Greedy if self._how.beams == 1 else Beams
        rows = sort(first.together(others) if others else first, self._target, self._how, questions, self._found)
        self._nulls.append(rows.null)
        self._order.extend(questions)
        self._run(rows)
        while self._waits() > WAITING * self._largest:
            self._run_together(max(self._waiting, key=lambda step: sum(each.size for each in self._waiting[step])))

    @torch.inference_mode()
    def finish(self) -> dict[int, tuple[float, list[Hypothesis]]]:
        """For each question the log-probability of the unanswerable target, and the best answers, best first."""
        if self._unread:
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
