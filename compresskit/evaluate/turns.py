"""Checkpoints measured in turns, so that their times and memory can be compared: round by round, each once a round.

What slows a machine for minutes slows all checkpoints of a round, and leaves the ratio of two of them as it is. The
order within a round is drawn; every second round has the order of the one before in reverse, so that what slows the
machine steadily does not favour whoever comes first.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol

from compresskit import console
from compresskit.evaluate import machine
from compresskit.evaluate.figures import Group
from compresskit.evaluate.measurement import Measurement
from compresskit.evaluate.process import how_it_ended, started
from compresskit.evaluate.ratio import RATIOS, ratio_of
from compresskit.evaluate.row import FIGURES, Row
from compresskit.text import counted

ROUNDS = 6
"""The fewest whose least and greatest ratio are ends of a 95 % interval; even, so that each order has its reverse."""

_WORKER = "compresskit.evaluate.turn"
_SINGLES = 20
_SECONDS_TOGETHER = 1.0
_CUDA_CONTEXT = 2**30

FREE = "free_bytes"
"""What is free on the CUDA device, beside the costs of a checkpoint."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds there are, and the keys of the figures that are measured in them."""

    rounds: int
    figures: frozenset[str]

    @property
    def fresh(self) -> bool:
        """Whether each round needs processes of its own: what loading takes, and memory, are told once a process."""
        return any(FIGURES[key].group is Group.MEMORY or key == "load_s" for key in self.figures)


class TurnFailed(Exception):
    """A checkpoint could not be measured; the text says why in one line. Its row has no ratio then."""


class Runner(Protocol):
    """A loaded checkpoint in a process of its own; `costs` are what loading it and answering a batch took."""

    costs: Mapping[str, float]

    def round(self, singles: int, together: int) -> Mapping[str, float]:
        """Its figures of one round, by the keys of a row; raises TurnFailed."""
        ...


Start = Callable[[Measurement], AbstractContextManager[Runner]]


class _Process:
    def __init__(self, asked: IO[str], told: IO[str], wait: Callable[[], int]) -> None:
        self._asked, self._told, self._wait = asked, told, wait
        self.costs: Mapping[str, float] = self._heard()

    def round(self, singles: int, together: int) -> Mapping[str, float]:
        try:
            self._asked.write(json.dumps({"singles": singles, "together": together}) + "\n")
            self._asked.flush()
        except BrokenPipeError:
            raise TurnFailed(how_it_ended(self._wait())) from None
        return self._heard()

    def _heard(self) -> dict[str, float]:
        line = self._told.readline()
        if not line.endswith("\n"):
            raise TurnFailed(how_it_ended(self._wait()))
        found = json.loads(line)
        if "error" in found:
            raise TurnFailed(found["error"])
        return {key: float(value) for key, value in found.items() if value is not None}


@contextmanager
def _start(measurement: Measurement) -> Iterator[Runner]:
    """The process of a checkpoint, until the block ends; raises TurnFailed where it cannot be loaded."""
    with started(_WORKER, measurement, subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield _Process(process.stdin, process.stdout, process.wait)


@dataclass
class _Part:
    """A checkpoint that takes part: its row, what to measure, and its figures so far, one a round."""

    row: Row
    measurement: Measurement
    found: list[Mapping[str, float]] = field(default_factory=list)
    costs: list[Mapping[str, float]] = field(default_factory=list)
    error: str | None = None

    def pairs(self, key: str, bases: Sequence[_Part]) -> list[list[float]]:
        """A figure and the baseline's, of each round in which both were told; of several baselines their mean.

        What is told once a process is there once where processes are kept.
        """
        rounds = [*zip(self.costs, *(base.costs for base in bases), strict=True)]
        rounds += zip(self.found, *(base.found for base in bases), strict=True)
        return [
            [own[key], statistics.fmean(other[key] for other in others)]
            for own, *others in rounds
            if key in own and all(key in other for other in others)
        ]


def in_turns(
    rows: Sequence[Row], measurements: Sequence[Measurement], plan: Plan, start: Start | None = None
) -> tuple[list[Row], dict[str, Any]]:
    """The rows with their ratios to the baseline, and what slowed the GPU meanwhile, for `device.load`.

    A row that could not be scored, or is a file of answers, takes no part and stays as it is; so do all of them where
    the baseline takes none. One that fails here is warned of, and has no ratio. Several rows that are marked as the
    baseline are runs of it, and their mean is what the others are compared with.
    """
    pairs = zip(rows, measurements, strict=True)
    parts = [_Part(row, each) for row, each in pairs if row.error is None and not Path(each.ref).is_file()]
    bases = [part for part in parts if part.row.baseline]
    if not bases or len(bases) < sum(row.baseline for row in rows) or len(parts) < 2:
        return list(rows), {}
    states = _all_rounds(parts, bases, plan, start or _start)
    for part in parts:
        if part.error is not None:
            console.warn(f"{part.row.name} cannot be measured in turns, and has no ratio: {part.error}")
    has_base = all(base.error is None for base in bases)
    done = {part.row.name: part for part in parts if part.error is None and has_base}
    return [_with_ratios(row, done.get(row.name), bases) for row in rows], machine.slowed(states)


def _with_ratios(row: Row, part: _Part | None, bases: Sequence[_Part]) -> Row:
    if part is None:
        return row
    turns = {key: pairs for key in FIGURES if (pairs := part.pairs(key, bases))}
    ratios: dict[str, Any] = {name: ratio_of(turns.get(key, ())) for name, key in RATIOS.items()}
    return replace(row, turns=turns, **ratios)


def _all_rounds(parts: Sequence[_Part], bases: Sequence[_Part], plan: Plan, start: Start) -> list[Mapping[str, Any]]:
    """Measure every part in each round, and return what the GPU's state was after each measurement."""
    amounts = _amounts(parts, plan)
    states: list[Mapping[str, Any]] = []
    on_gpu = any(part.row.device.get("kind") == "cuda" for part in parts)
    names = [part.row.name for part in parts]
    console.info(f"{', '.join(names)}: measured in turns, {counted(plan.rounds, 'round')}")
    with ExitStack() as stack, console.progress(plan.rounds * len(parts), "measure in turns") as bar:
        alive = [] if plan.fresh else _alive(parts, start, stack)
        for number, index in enumerate(_sequence(len(parts), plan.rounds, parts[0].measurement.settings.seed), start=1):
            part = parts[index]
            if part.error is None and all(base.error is None for base in bases):
                _once(part, amounts, start, alive[index] if alive else None)
            states += [machine.gpu()] if on_gpu else []
            bar.update(number)
    return states


def _once(part: _Part, amounts: Mapping[str, int], start: Start, alive: Runner | None) -> None:
    """Measure a part once, by the process that is kept for it or else by a fresh one."""
    try:
        with start(part.measurement) if alive is None else nullcontext(alive) as runner:
            part.found.append(runner.round(**amounts))
            if alive is None or not part.costs:
                part.costs.append(runner.costs)
    except TurnFailed as error:
        part.error = str(error)


def _sequence(count: int, rounds: int, seed: int) -> Iterator[int]:
    for order in orders(count, rounds, seed):
        yield from order


def orders(count: int, rounds: int, seed: int) -> Iterator[list[int]]:
    """The order of each round: drawn with `seed`, and in every second round the reverse of the one before."""
    draw, order = random.Random(seed), list(range(count))
    for number in range(rounds):
        if number % 2:
            order = order[::-1]
        else:
            draw.shuffle(order)
        yield list(order)


def _amounts(parts: Sequence[_Part], plan: Plan) -> dict[str, int]:
    """How many questions a round asks, of each checkpoint the same: one at a time, and in batches.

    In batches it is as many as the slowest answers in a second, and one batch at least.
    """
    settings = parts[0].measurement.settings
    singles = min(settings.latency_questions, _SINGLES) if plan.figures & {"latency_ms_p50", "latency_ms_p95"} else 0
    rate = min(part.row.questions_per_s or 0.0 for part in parts)
    together = max(settings.batch_size, int(rate * _SECONDS_TOGETHER)) if "questions_per_s" in plan.figures else 0
    return {"singles": singles, "together": together}


def _alive(parts: Sequence[_Part], start: Start, stack: ExitStack) -> list[Runner]:
    """A process for each part, all loaded at once; none where they do not fit beside each other."""
    found: list[Runner] = []
    with ExitStack() as own:
        for part in parts:
            free = machine.free_memory() if part.row.peak_memory_kind == "rss" else _free_on_gpu(found)
            if not _fits(part.row, free):
                return []
            try:
                found.append(own.enter_context(start(part.measurement)))
            except TurnFailed:  # alone it may have room; else the first round tells why not
                return []
        stack.enter_context(own.pop_all())
    return found


def _free_on_gpu(runners: Sequence[Runner]) -> float | None:
    return runners[-1].costs.get(FREE) if runners else None


def _fits(row: Row, free: float | None) -> bool:
    """Whether a checkpoint has room in what is free, with as much again to spare; so where nothing is known."""
    context = _CUDA_CONTEXT if row.peak_memory_kind == "cuda" else 0
    return free is None or 2 * (row.peak_memory_bytes or 0) + context <= free
