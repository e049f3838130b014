"""Measure checkpoints side by side, each in a fresh process, and put their rows into one report."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import compresskit
from compresskit import console
from compresskit.checkpoint.manifest import package_versions
from compresskit.data.load import load as load_data
from compresskit.errors import CompresskitError, RunFailed, UsageError
from compresskit.evaluate.job import EvalSettings, Job, Outcome
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.stats import bootstrap_interval, mcnemar

_WORKER = "compresskit.evaluate.worker"
_SECONDS_TO_END = 10.0


def evaluate(
    checkpoints: Sequence[str],
    data_ref: str,
    settings: EvalSettings,
    baseline: str | None = None,
    names: Sequence[str] | None = None,
) -> Report:
    """Measure every one of ``checkpoints`` (alias, Hub id or folder) on ``data_ref`` and return the report.

    ``baseline`` is the checkpoint the others are compared with; where it is not among them it becomes the
    first row (see `with_differences`). A checkpoint whose process crashes (a
    signal, out of memory) is a row with ``error``; the others go on. ``names`` are those of the rows, in place of
    names made from the references.

    Raises UsageError where there is no checkpoint, and whatever `CompresskitError` the data or a checkpoint
    raises.
    """
    refs = _with_baseline(checkpoints, baseline)
    if not refs:
        raise UsageError("no checkpoint to evaluate; name at least one alias, Hub id or folder")
    info = load_data(data_ref, "eval").info
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    device: Mapping[str, str | int] = {}
    for ref, name in zip(refs, names or _unique_names(refs), strict=True):
        outcome = _measure_apart(ref, name, data_ref, settings)
        outcomes.append(outcome)
        device = outcome.device or device
        is_baseline = baseline is not None and _same(ref, baseline)
        row = outcome.row or Row(name=name, path=ref, family="-", method="-", baseline=False, error=outcome.error)
        rows.append(replace(row, baseline=is_baseline))
        if row.error is not None:
            console.warn(f"{ref}: {row.error}")
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={**package_versions(), "compresskit": compresskit.__version__},
        device=device,
        dataset=Dataset(info.path, info.sha256, info.questions, info.unanswerable),
        rows=tuple(with_differences(rows, outcomes)),
    )


def with_differences(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> list[Row]:
    """Return ``rows`` with what sets them apart from the baseline row; as they are where there is none.

    ``delta_em`` is the difference in EM in points, ``delta_em_ci95`` its bootstrap interval over paragraphs, and
    ``p_value`` McNemar's, over the same questions.
    """
    base = next((index for index, row in enumerate(rows) if row.baseline), None)
    if base is None:
        return list(rows)
    return [
        replace(row, delta_em=0.0 if row.em is not None else None)
        if index == base
        else _compared(row, rows[base], outcomes[index], outcomes[base])
        for index, row in enumerate(rows)
    ]


def _compared(row: Row, base: Row, own: Outcome, other: Outcome) -> Row:
    if row.em is None or base.em is None:
        return row
    row = replace(row, delta_em=row.em - base.em)
    if own.question_em is None or other.question_em is None:
        return row
    difference = np.asarray(own.question_em) - np.asarray(other.question_em)
    interval = bootstrap_interval(difference, np.asarray(own.paragraph))
    p_value = mcnemar(won=int((difference > 0).sum()), lost=int((difference < 0).sum()))
    return replace(row, delta_em_ci95=interval, p_value=p_value)


def _with_baseline(checkpoints: Sequence[str], baseline: str | None) -> list[str]:
    """Return the checkpoints, each once, the baseline in front where it is not among them."""
    refs: list[str] = []
    for ref in checkpoints:
        if not any(_same(ref, other) for other in refs):
            refs.append(ref)
    if baseline is not None and not any(_same(ref, baseline) for ref in refs):
        refs.insert(0, baseline)
    return refs


def _same(one: str, other: str) -> bool:
    """Return whether two references mean one checkpoint: the same text, or the same folder."""
    if one == other:
        return True
    return Path(one).exists() and Path(other).exists() and os.path.samefile(one, other)


def _unique_names(refs: Sequence[str]) -> list[str]:
    """Return a name for each reference: the folder's, with more of its path where two clash, or itself."""
    parts = [Path(ref).resolve().parts[1:] or (ref,) if Path(ref).is_dir() else (ref,) for ref in refs]
    depth = [1] * len(refs)
    while True:
        names = ["/".join(part[-count:]) for part, count in zip(parts, depth, strict=True)]
        clashes = [
            index for index, name in enumerate(names) if names.count(name) > 1 and depth[index] < len(parts[index])
        ]
        if not clashes:
            return names
        for index in clashes:
            depth[index] += 1


def _measure_apart(ref: str, name: str, data_ref: str, settings: EvalSettings) -> Outcome:
    """Run the worker on one checkpoint; raise its error again where it is one meant for the user."""
    predictions = None
    if settings.predictions_dir is not None:
        predictions = settings.predictions_dir / (re.sub(r"[^\w.-]+", "-", name) + ".json")
    with tempfile.TemporaryDirectory(prefix="compresskit-eval-") as folder:
        job = Job(
            ref=ref,
            name=name,
            data=data_ref,
            settings=settings,
            result=Path(folder, "outcome.json"),
            predictions=predictions,
            quiet=console.is_quiet(),
            verbose=console.is_verbose(),
        )
        code = _run_worker(job)
        # The worker writes its outcome whole or not at all; without one, it was ended from outside.
        if not job.result.exists():
            return Outcome(error=_how_it_ended(code))
        outcome = Outcome.from_json(job.result.read_text(encoding="utf-8"))
    if outcome.error_class is not None:
        classes = {known.__name__: known for known in CompresskitError.__subclasses__()}
        raise classes.get(outcome.error_class, RunFailed)(outcome.error)
    return outcome


def _run_worker(job: Job) -> int:
    """Start the worker, hand it the job, wait, and return its exit code; an interrupt ends it too.

    What the worker writes goes to stderr: stdout belongs to the report.
    """
    # -P: a file torch.py where the user happens to stand must not be imported.
    command = [sys.executable, "-P", "-m", _WORKER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=2, env=_environment(), text=True, encoding="utf-8"
    ) as process:
        try:
            process.communicate(job.to_json())
            return process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def _environment() -> dict[str, str]:
    """Return our environment, in which the worker finds this package even if it is not installed."""
    root = str(Path(compresskit.__file__).resolve().parents[1])
    if Path(root).name in {"site-packages", "dist-packages"}:
        return dict(os.environ)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _how_it_ended(code: int) -> str:
    """Return one line about a worker that left no outcome."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; most likely out of memory, give a smaller --batch-size" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"
