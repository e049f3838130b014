"""What may be lost of EM and F1: how far a re-run may lie below the baseline, for all questions and for slices."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compresskit.evaluate.derive.prediction import Uncertainty, failing, of_interval, of_values, room
from compresskit.evaluate.derive.source import Source, pairs_of, runs_of
from compresskit.evaluate.row import FIGURES, Interval, Row
from compresskit.evaluate.slice import STANDARD, Slice, SliceName
from compresskit.evaluate.slices import stands_out
from compresskit.evaluate.units import per_cent, signed
from compresskit.text import counted

ANSWERED, UNANSWERABLE = SliceName("answerable", "yes"), SliceName("answerable", "no")
_MOST = 100.0
_OF_MODELS = "windows"  # which tell of the tokenizer, and which made-up rows do not have


@dataclass(frozen=True, slots=True)
class Quality:
    """A figure that may be gated: EM or F1, of all questions or of one slice."""

    metric: str
    part: SliceName | None = None

    @property
    def stem(self) -> str:
        """It as a rule names it."""
        return self.metric if self.part is None else f"{self.metric}[{self.part.key}={self.part.value}]"

    def of(self, row: Row) -> Row | Slice:
        """What has the figure in a row."""
        return row if self.part is None else self.part.of(row.slices)

    def value(self, row: Row) -> float | None:
        """The figure of a row; None where it was not measured."""
        return self.of(row).value(self.metric)

    def paired(self, row: Row) -> tuple[float | None, Interval | None]:
        """The difference from the baseline in points, and its 95 % interval; None where it was not compared so."""
        own, figure = self.of(row), FIGURES[f"delta_{self.metric}"]
        return own.value(f"delta_{self.metric}"), own.interval(figure)

    def questions(self, row: Row, all_questions: int) -> int:
        """How many questions it is a mean over."""
        own = self.of(row)
        return own.questions if isinstance(own, Slice) else all_questions

    def of_nothing(self, source: Source) -> float | None:
        """The most that answering nothing can have of it, per cent; None where that is no loss.

        How many of a slice's questions are unanswerable a report does not say: at most all that there are.
        """
        data = source.report.dataset
        if self.part == UNANSWERABLE or (self.part is not None and self.part == SliceName("answer_length", "none")):
            return None
        if self.part is not None and self.part.key in ("answerable", "answer_length"):
            return 0.0
        if self.part is None and data.nothing is not None:
            return data.nothing[self.metric]
        return min(100.0, 100.0 * data.unanswerable / max(self.questions(source.baseline, data.questions), 1))


def qualities(source: Source) -> Iterator[Quality]:
    """The figures that matter: EM, F1, EM with and without an answer, and of slices that lost beyond chance."""
    yield Quality("em")
    yield Quality("f1")
    asked = source.baseline.slices or {}
    if len(asked.get("answerable", {})) > 1:
        yield Quality("em", ANSWERED)
        yield Quality("em", UNANSWERABLE)
    for key in STANDARD:
        if key in ("answerable", _OF_MODELS):
            continue
        for value in asked.get(key, {}):
            part = SliceName(key, value)
            if any(stands_out(part.of(row.slices)) < 0 for row in source.rows):
                yield Quality("em", part)


@dataclass(frozen=True, slots=True)
class Limit:
    """The offset from the baseline above which a re-run of a row stays, in points, and why, in sentences."""

    row: str
    offset: float
    reason: str


def limit_of(quality: Quality, row: Row, source: Source, sure: float) -> Limit | str:
    """The limit of one row, or in words why there is none: from its runs where it has some, else from its interval."""
    runs = runs_of(row)
    return _by_runs(quality, row, runs, source, sure) if len(runs) > 1 else _by_interval(quality, row, source, sure)


def _by_interval(quality: Quality, row: Row, source: Source, sure: float) -> Limit | str:
    base, (delta, interval) = quality.value(source.baseline), quality.paired(row)
    if base is None or delta is None or interval is None:
        return f"{row.name} was not compared with the baseline question by question, over several paragraphs"
    if max(abs(each) for each in (base, delta, *interval)) > _MOST or interval[0] > interval[1]:
        return f"the difference of {row.name} from the baseline cannot be"
    parts = [of_interval(interval)]
    questions = quality.questions(row, source.report.dataset.questions)
    offset = delta - max(room(parts, sure), 100.0 / questions)
    seen = (
        f"{row.name}: {_told(delta, base, quality)}; 95 % interval over paragraphs {signed(interval[0])} to "
        f"{signed(interval[1])}. On {counted(questions, 'other question')} like these it stays at or above "
        f"{signed(offset)} with {_share(sure)}"
    )
    return Limit(row.name, offset, f"{seen}; {_fails(offset, parts)}.")


def _by_runs(quality: Quality, row: Row, runs: Sequence[Row], source: Source, sure: float) -> Limit | str:
    base_runs = runs_of(source.baseline)
    own, base = ([quality.value(run) for run in each] for each in (runs, base_runs))
    values, base_values = ([each for each in found if each is not None] for found in (own, base))
    if len(values) < len(own) or len(base_values) < len(base):
        return f"not all runs of {row.name} and of the baseline have it"
    if max(map(abs, (*values, *base_values))) > _MOST:
        return f"the figures of {row.name} or of the baseline cannot be"
    at = statistics.fmean(base_values)
    delta = statistics.fmean(values) - at
    parts, told = _of_runs(quality, values, base_values, pairs_of(row, source.baseline))
    offset = delta - max(room(parts, sure), 100.0 / quality.questions(runs[0], source.report.dataset.questions))
    again = "one more run of each" if len(base_values) > 1 else "one more run"
    seen = (
        f"{row.name}: {_told(delta, at, quality)}; {told}. On these questions {again} stays at or above "
        f"{signed(offset)} with {_share(sure)}"
    )
    return Limit(row.name, offset, f"{seen}; {_fails(offset, parts)}.")


def _of_runs(
    quality: Quality, values: Sequence[float], base_values: Sequence[float], pairs: Sequence[tuple[Row, Row]] | None
) -> tuple[list[Uncertainty], str]:
    """What is uncertain of one more run, and in words by what that is known: by pairs of one seed where there are."""
    if pairs is not None:
        both = [(quality.value(one), quality.value(other)) for one, other in pairs]
        less = [one - other for one, other in both if one is not None and other is not None]
        return [of_values(less)], f"standard deviation of the difference {_spread(less, 'pairs of one seed')}"
    told = f"standard deviation {_spread(values)}"
    if len(base_values) < 2:
        return [of_values(values)], told
    return [of_values(values), of_values(base_values)], f"{told}, of the baseline's {_spread(base_values)}"


def _told(delta: float, base: float, quality: Quality) -> str:
    of = "" if quality.part is None else f" of {quality.part.key}={quality.part.value}"
    return f"{quality.metric.upper()}{of} {per_cent(base + delta)}, {signed(delta)} against the baseline's"


def _spread(values: Sequence[float], of: str = "runs") -> str:
    return f"{statistics.stdev(values):.2f} over {len(values)} {of}"


def _share(sure: float) -> str:
    return f"{100 * sure:g} %"


def _fails(offset: float, parts: Sequence[Uncertainty]) -> str:
    return f"a true difference of {signed(failing(offset, parts))} fails the gate in four of five cases"
