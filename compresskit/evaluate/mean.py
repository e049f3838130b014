"""Rows that are the mean of several runs: made of the rows of single checkpoints, which are measured as any other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.ratio import RATIOS, ratio_of
from compresskit.evaluate.refs import same
from compresskit.evaluate.row import FIGURES, Report, Row, figure_of
from compresskit.evaluate.runs import Layout, Runs
from compresskit.text import counted

_OF_ONE = frozenset(("p_value", "questions_won", "questions_lost", "best_null_threshold"))
"""Figures that tell of a single checkpoint, and have no mean."""
_SHARED = ("family", "method", "peak_memory_kind", "null_threshold", "arithmetic")
"""What a mean has where all of its runs have the same."""
_ITS_OWN = frozenset(("seed", "model", "checkpoint", "teacher", "device"))
"""Options that runs of one may have different: their seed, what stands on it, and where they were made."""


def with_means(
    rows: Sequence[Row], outcomes: Sequence[Outcome], runs: Sequence[Runs]
) -> tuple[list[Row], list[Outcome], Layout]:
    """The rows and outcomes of single checkpoints with the means behind them, and how they hang together."""
    all_rows, all_outcomes, members = list(rows), list(outcomes), {}
    for each in runs:
        own = [at for ref in each.refs for at, row in enumerate(rows) if same(row.path, ref)]
        members[len(all_rows)] = own
        all_rows.append(mean_row(each, [rows[at] for at in own]))
        all_outcomes.append(mean_outcome([outcomes[at] for at in own]))
    return all_rows, all_outcomes, Layout.of(all_rows, members)


def mean_row(runs: Runs, rows: Sequence[Row]) -> Row:
    """The row of several runs: each figure is the mean of theirs, None where one of them has none.

    Whole numbers, such as bytes, are rounded. What is no figure is there where all runs have the same. Without a score
    of each run there is no mean, but an error that names those that are lost.
    """
    plain = Row(runs.name, ",".join(runs.refs), "-", "-", rows[0].baseline)
    if lost := [row for row in rows if row.error is not None]:
        told = f"of its {counted(len(rows), 'run')} {', '.join(row.name for row in lost)} could not be scored"
        return replace(plain, error=f"{told}: {lost[0].error}", error_code=lost[0].error_code)
    found: dict[str, Any] = {key: _mean([row.value(key) for row in rows]) for key in FIGURES if key not in _OF_ONE}
    found |= {key: _common([getattr(row, key) for row in rows], getattr(plain, key)) for key in _SHARED}
    found |= {key: _entries([getattr(row, key) for row in rows]) for key in ("device", "versions", "settings")}
    ranges = [row.questions_per_s_range for row in rows if row.questions_per_s_range is not None]
    found["questions_per_s_range"] = (
        (min(low for low, _ in ranges), max(high for _, high in ranges)) if len(ranges) == len(rows) else None
    )
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    found["metrics"] = {name: _mean([row.metrics.get(name) for row in rows]) for name in names}
    found["created"] = max((row.created for row in rows if row.created is not None), default=None)
    return replace(plain, **found, kept=any(row.kept for row in rows))


def _mean(values: Sequence[float | None]) -> float | int | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    mean = statistics.fmean(known)
    return round(mean) if all(isinstance(value, int) for value in known) else mean


def _common(values: Sequence[Any], otherwise: Any) -> Any:
    return values[0] if all(value == values[0] for value in values) else otherwise


def _entries(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all mappings have alike."""
    first = found[0]
    return {key: value for key, value in first.items() if all(key in each and each[key] == value for each in found)}


def mean_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean scores of each question; none where a run has none. Windows are those of the first run."""
    if not all(len(each.question_em) for each in outcomes):
        return Outcome()
    em, f1 = (
        np.mean([getattr(each, key) for each in outcomes], axis=0).tolist() for key in ("question_em", "question_f1")
    )
    return Outcome(question_em=em, question_f1=f1, paragraph=outcomes[0].paragraph, windows=outcomes[0].windows)


def folded(rows: Sequence[Row], layout: Layout) -> list[Row]:
    """The rows of the report: each mean stands where the first of its runs did, and holds them all."""
    mean_of = {run: mean for mean, runs in layout.runs.items() for run in runs}
    found: dict[int, Row] = {}
    for at, row in enumerate(rows):
        if layout.is_single(at) and at not in mean_of:
            found[at] = row
        elif (mean := mean_of.get(at)) is not None and mean not in found:
            found[mean] = _whole(rows[mean], [rows[run] for run in layout.runs[mean]])
    result = list(found.values())
    return [row if row.runs is None else replace(row, same_as=_same_as(row, result)) for row in result]


def _whole(mean: Row, runs: Sequence[Row]) -> Row:
    """A mean with its runs, and what is known of them once they were compared."""
    turns = {
        key: np.mean([run.turns[key] for run in runs], axis=0).tolist()
        for key in runs[0].turns
        if len({len(run.turns.get(key, ())) for run in runs}) == 1
    }
    ratios: dict[str, Any] = {name: ratio_of(turns.get(key, ())) for name, key in RATIOS.items()}
    overlaps = [run.overlap for run in runs]
    most: dict[str, int] | None = None
    if all(each is not None for each in overlaps):
        most = {key: max((each or {})[key] for each in overlaps) for key in overlaps[0] or {}}
    return replace(mean, runs=tuple(runs), sd=deviations(runs), turns=turns, overlap=most, **ratios)


def deviations(runs: Sequence[Row]) -> dict[str, float]:
    """The sample standard deviation (n - 1) of each figure that a sample of questions gives, where each run has it."""
    names = dict.fromkeys(name for run in runs for name in (*FIGURES, *run.named))
    found = {}
    for name in names:
        figure, values = figure_of(name), [value for run in runs if (value := run.value(name)) is not None]
        if figure is not None and figure.sampled and name not in _OF_ONE and len(values) == len(runs):
            found[name] = statistics.stdev(values)
    return found


def _same_as(mean: Row, rows: Iterable[Row]) -> str | None:
    """The row that a mean computes the same as: where each run computes the same as one of that row's checkpoints."""
    owner = {single.name: row.name for row in rows for single in row.runs or (row,)}
    owners = {owner.get(run.same_as or "") for run in mean.runs or ()}
    found = owners.pop() if len(owners) == 1 else None
    return None if found == mean.name else found


def told_of_runs(report: Report) -> list[str]:
    """A line on what ± means, and of how many runs each mean is; and on runs that compute the same."""
    means = [row for row in report.rows if row.runs is not None]
    if not means:
        return []
    told = ", ".join(f"{row.name} {len(row.runs or ())}" for row in means)
    lines = [f"mean ± standard deviation over runs: {told}; their intervals are over whole paragraphs and over runs"]
    return lines + [line for row in means for line in (*_unlike(row), *_alike(row))]


def _unlike(mean: Row) -> list[str]:
    """A line where runs differ in more than their seed, as where a glob found more than was meant."""
    runs = mean.runs or ()
    told = f"the runs of {mean.name} differ in more than their seed"
    for key in ("family", "method"):
        if len(found := dict.fromkeys(getattr(run, key) for run in runs)) > 1:
            return [f"{told}, in their {key} ({', '.join(found)}): their mean is that of no checkpoint"]
    options = [_options(run) for run in runs]
    keys = dict.fromkeys(key for each in options for key in each)
    if unlike := [key for key in keys if any(each.get(key) != options[0].get(key) for each in options)]:
        named = ", ".join(f"--{key.replace('_', '-')}" for key in unlike)
        return [f"{told}, in {named}: their mean is that of no checkpoint"]
    return []


def _options(run: Row) -> dict[str, Any]:
    """What the last step of a run was told to do, but for what every run has of its own; empty where unknown."""
    steps: Any = (run.manifest or {}).get("steps")
    last: Any = steps[-1] if isinstance(steps, list) and steps else {}
    config: Any = last.get("config") if isinstance(last, Mapping) else None
    return {key: value for key, value in config.items() if key not in _ITS_OWN} if isinstance(config, Mapping) else {}


def _alike(mean: Row) -> list[str]:
    """A line for each run that computes the same as another of its own row: it tells nothing of the spread."""
    names = {run.name for run in mean.runs or ()}
    return [
        f"{run.name} computes the same as {run.same_as}, so the seed decides nothing there, and the spread says little"
        for run in mean.runs or ()
        if run.same_as in names
    ]
