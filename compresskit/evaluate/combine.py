"""Several saved reports as one, so that results of several machines stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compresskit.checkpoint.reading import read_text
from compresskit.errors import InputError
from compresskit.evaluate.compare import with_differences
from compresskit.evaluate.look import common
from compresskit.evaluate.ratio import RATIOS
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.slices import slices_against

MOST_LISTS = 200_000
"""Lists and objects in a saved report; each is compared with the schema. A row has some hundred."""


def read_report(path: Path) -> Report:
    """Read a saved report; InputError where the file is missing, or is not a report."""
    text = read_text(path, "give the JSON that compresskit eval -o wrote")
    if text.count("[") + text.count("{") > MOST_LISTS:
        raise InputError(f"{path}: holds more than {MOST_LISTS:,} lists and objects, which no report does")
    return Report.from_json(text, str(path))


def combined(reports: Sequence[Report], sources: Sequence[str], baseline: str | None = None) -> Report:
    """One report with the rows of all; its gates are to be held again.

    `sources` says where each came from, for errors, and for the names of rows that clash: those get the source's
    stem behind them. A row that is the same in every figure appears once. `baseline` is the name of the row that the
    others are compared with; by default it is that of the first report that has one. A row that was compared with
    another baseline before loses what was paired with it, and keeps the plain difference.

    Raises InputError where the reports stand on different questions, or no row has the name `baseline`.
    """
    first = reports[0]
    for report, source in zip(reports, sources, strict=True):
        ours, theirs = (replace(each.dataset, path="", nothing=None, blind=None) for each in (first, report))
        if ours != theirs:
            raise InputError(
                f"{source}: stands on {_data(report)}, and {sources[0]} on {_data(first)}; "
                "give reports of the same questions"
            )
    base = _baseline(reports, baseline)
    rows: list[Row] = []
    seen: list[Row] = []
    for report, source in zip(reports, sources, strict=True):
        names: dict[str | None, str] = {}  # of this report's rows, as they are called here
        begin = len(rows)
        for row in report.rows:
            compared = row if base is None else _against(row, base, report.baseline)
            known = _as_measured(compared)  # measured once, and told again from the cache
            if known in seen:
                index = seen.index(known)
                names[row.name] = rows[index].name
                rows[index] = _told_twice(rows[index], compared)
                continue
            seen.append(known)
            names[row.name] = _free_name(compared.name, Path(source).stem, rows)
            rows.append(replace(compared, name=names[row.name]))
        names |= {run.name: run.name for row in report.rows for run in row.runs or ()}
        rows[begin:] = [_named_after(row, names) for row in rows[begin:]]
    nothing = next((each.dataset.nothing for each in reports if each.dataset.nothing is not None), None)
    dataset = replace(first.dataset, nothing=nothing, blind=common(reports, sources))
    return replace(first, dataset=dataset, rows=tuple(rows), gates=(), passed=True)


_DIFFERENCES = ("delta_em", "delta_f1")


def _data(report: Report) -> str:
    data = report.dataset
    return f"{data.questions} questions of {data.path} (sha256 {data.sha256[:12]})"


def _baseline(reports: Sequence[Report], name: str | None) -> Row | None:
    rows = [row for report in reports for row in report.rows]
    if name is None:
        return next((row for row in rows if row.baseline), None)
    base = next((row for row in rows if name in (row.name, row.path)), None)
    if base is None:
        raise InputError(f"no row is called {name!r}; take one of {', '.join(row.name for row in rows)}")
    return base


def _against(row: Row, base: Row, former: Row | None) -> Row:
    """A row compared with `base`: with all its statistics where `former` was it, else plain differences."""
    if former is not None and _same_answers(former, base):
        return row  # a former baseline is the same one, measured on another machine, and stays one
    is_base = row == base
    unpaired = _unpaired(row, base)
    runs = None if row.runs is None else tuple(replace(_unpaired(run, base), baseline=is_base) for run in row.runs)
    sd = None if row.sd is None else {key: each for key, each in row.sd.items() if key not in _DIFFERENCES}
    return replace(unpaired, baseline=is_base, runs=runs, sd=sd)


def _unpaired(row: Row, base: Row) -> Row:
    """A row with plain differences from `base`, and nothing that was paired with another baseline."""
    no_ratios: dict[str, Any] = dict.fromkeys(RATIOS)
    unpaired = replace(
        row,
        delta_em_ci95=None,
        delta_f1_ci95=None,
        p_value=None,
        turns={},
        questions_won=None,
        questions_lost=None,
        slices=slices_against(row.slices, base.slices),
        flips=(),
        **no_ratios,
    )
    return with_differences(unpaired, base)


def _same_answers(one: Row, other: Row) -> bool:
    """Whether two rows are one checkpoint with the same score, perhaps measured on two machines."""

    def key(row: Row) -> tuple[object, ...]:
        return (row.sha256, row.em, row.f1, row.has_ans_em, row.has_ans_f1, row.no_ans_em, row.null_threshold)

    if one.runs is not None and other.runs is not None and len(one.runs) == len(other.runs):
        return all(_same_answers(ours, theirs) for ours, theirs in zip(one.runs, other.runs, strict=True))
    return one == other or (one.sha256 is not None and key(one) == key(other))


def _named_after(row: Row, names: Mapping[str | None, str]) -> Row:
    """A row, and its runs, that compute the same as others under the names that these have now."""
    runs = None if row.runs is None else tuple(_named_after(run, names) for run in row.runs)
    return replace(row, same_as=names.get(row.same_as), runs=runs)


def _as_measured(row: Row) -> Row:
    """A row without whether it was measured in its own call, or told again from the cache or a blind set's record."""
    blind = None if row.blind is None else replace(row.blind, recorded=False)
    runs = None if row.runs is None else tuple(map(_as_measured, row.runs))
    return replace(row, kept=False, blind=blind, runs=runs)


def _told_twice(one: Row, other: Row) -> Row:
    """A row that two reports tell: measured now, and scored now on the blind set, where one of them did that."""
    blind = one.blind
    if blind is not None and other.blind is not None:
        blind = replace(blind, recorded=blind.recorded and other.blind.recorded)
    runs = None if one.runs is None else tuple(map(_told_twice, one.runs, other.runs or ()))
    return replace(one, kept=one.kept and other.kept, blind=blind, runs=runs)


def _free_name(name: str, stem: str, rows: Sequence[Row]) -> str:
    """`name`, or where a row has it already, the name with the file's stem and if need be a number."""
    taken = {row.name for row in rows}
    candidates = [name, f"{name} ({stem})", *(f"{name} ({stem} {count})" for count in range(2, len(rows) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)
