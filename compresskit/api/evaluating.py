"""`evaluate`: checkpoints measured side by side, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.api.checkpoint import Checkpoint, Reference
from compresskit.api.described import of_options
from compresskit.api.report import Report
from compresskit.api.surroundings import as_found
from compresskit.api.values import reference, values_of
from compresskit.errors import UsageError
from compresskit.evaluate.config import PARTS, config_of
from compresskit.options import Known, options_of

if TYPE_CHECKING:
    from typing import Unpack

    from compresskit.api.keywords import EvaluateKeywords

NOT_FOR_CALLS = ("checkpoints", "runs", "format", "output", "junit", "html", "plot", "prove_gates")
"""Options of the command that are arguments here, that print, or that write what `Report.save` writes."""


def evaluation_options() -> Mapping[str, Known]:
    """The options of `evaluate`, by the names of their fields."""
    known = {name: each for kind in PARTS for name, each in options_of(kind).items()}
    return {name: each for name, each in known.items() if name not in NOT_FOR_CALLS}


@of_options(evaluation_options)
def evaluate(
    checkpoints: Reference | Iterable[Reference] = (),
    *,
    runs: Mapping[str, Iterable[Reference]] | None = None,
    **options: Unpack[EvaluateKeywords],
) -> Report:
    """Measure checkpoints side by side on `data`: exact match, F1, bytes, memory, latency; judge them by `gates`.

    Each of `checkpoints` (a folder, an alias, a Hub id, a file of answers, a `Checkpoint`) is measured in a process of
    its own, which needs no `if __name__ == "__main__"` of the caller. With a `baseline` the others are compared with
    it. `runs` are checkpoints that differ in their seed alone, by the name of the row that is their mean; `baseline`
    takes such a name too. A gate that fails raises nothing: `Report.check` does. A checkpoint that cannot be scored is
    a row with `error`.

    Raises UsageError for a value that cannot be or has no effect; InputError for broken data, a broken baseline, or
    where there is no row with a score; MissingError for what this machine lacks.

    Example:
        >>> report = ck.evaluate(["runs/dense", half], data="dev.json", baseline="runs/dense", gates=["em>=base-1"])
        >>> report["half"].em, report.passed
        (71.2, True)
    """
    from compresskit.evaluate.delivery import require_rows
    from compresskit.evaluate.verdict import measured, rules_of

    values = values_of("evaluate", evaluation_options(), options)
    refs = [checkpoints] if isinstance(checkpoints, str | os.PathLike | Checkpoint) else list(checkpoints)
    values["checkpoints"] = tuple(reference(each, "a checkpoint") for each in refs)
    values["runs"] = tuple(_runs(runs or {}))
    with as_found():
        config = config_of(values)
        config.check_places(Path())
        report = measured(config, rules_of(config))
        if all(row.error is not None for row in report.rows):
            require_rows(report)
        return Report(report, shown=config.delivery.slices)


def _runs(runs: Mapping[str, Iterable[Reference]]) -> Iterator[str]:
    """Each row of several runs as the command line writes it. Raises UsageError for what names no checkpoints."""
    if not isinstance(runs, Mapping):
        raise UsageError(f"runs is {type(runs).__name__}; give a dict such as {{'dense': ['runs/dense-1', …]}}")
    for name, own in runs.items():
        if isinstance(own, str | os.PathLike | Checkpoint):
            own = [own]
        if not isinstance(own, Iterable):
            raise UsageError(f"the runs of {name} are {type(own).__name__}; give a list of checkpoints")
        yield f"{name}={','.join(reference(each, 'a run') for each in own)}"


def read_report(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, baseline: str | None = None
) -> Report:
    """Read saved reports (`Report.save("eval.json")`, `compresskit eval -o`), several as one with the rows of all.

    `baseline` is the name of the row that the others are compared with, by default as in the files. The gates of a
    single file are those that it was judged by; of several, `Report.gated` holds them again.

    Raises InputError where a file is missing, is no report, or stands on other questions than the first.
    """
    from compresskit.evaluate import combine

    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(file) for file in files]
    if not paths:
        raise UsageError("no report to read; name at least one file")
    with as_found():
        reports = [combine.read_report(path) for path in paths]
        if len(paths) == 1 and baseline is None:
            return Report(reports[0])
        return Report(combine.combined(reports, [str(path) for path in paths], baseline))
