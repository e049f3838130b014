"""What becomes of a report: files, the summary of a CI job, the terminal, and the exit code."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compresskit.checkpoint.outputs import check_apart, check_file
from compresskit.errors import CompresskitError, GateFailed, InputError, RunFailed, UsageError
from compresskit.options import OUTPUT, check, option, refuse

if TYPE_CHECKING:
    from compresskit.evaluate.gate import Rule
    from compresskit.evaluate.row import Report


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Which rules every row but the baseline has to hold, and what passes although it is not sure."""

    gates: tuple[str, ...] = option(
        (),
        "Fail (exit code 1) unless every row but the baseline holds it: 'em>=base-1', 'size<=0.3x', "
        "'latency<=20ms'; the baseline, where it is 'baseline.em>=70'. May be repeated.",
        flag="--gate",
        metavar="RULE",
    )
    gate_ci: bool = option(False, "The worse end of the 95 % interval has to hold gates on EM and F1.", negatable=True)
    undecided: Literal["fail", "pass"] = option(
        "fail", "What becomes of a gate of which the data cannot tell whether it holds."
    )
    allow_weak_baseline: bool = option(
        False, "Let gates compare with a baseline that does not beat answering nothing.", negatable=True
    )

    def __post_init__(self) -> None:
        check(self)

    def check_effect(self, rules: Sequence[Rule]) -> None:
        """UsageError for an option that changes nothing of these rules."""
        from compresskit.evaluate.timed import all_of, is_in_turns

        every = list(all_of(*rules))
        if self.undecided == "pass" and not any(rule.ci95 or is_in_turns(rule) for rule in every):
            raise UsageError(
                "--undecided pass has no effect without --gate-ci and a gate on EM or F1, or a gate that compares time "
                "or memory with the baseline; leave it out"
            )
        if self.allow_weak_baseline and not any(rule.is_relative for rule in every):
            refuse(self, ("allow_weak_baseline",), "without a gate that compares with the baseline")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a report goes: `format` is what is printed, the rest are files, None for those not wanted.

    `slices` are the keys whose slices the printed table tells.

    Raises UsageError for an unknown format, and for a file that cannot come to be: before anything is measured.
    """

    format: str = option("table", "What is printed: table, json, markdown, csv or junit.", metavar="NAME", panel=OUTPUT)
    slices: tuple[str, ...] = option(
        (),
        "Tell the figures of each slice of the questions by KEY: question, answerable, answer_length, context_length, "
        "windows, title, or a column of the data. May be repeated.",
        flag="--slice",
        metavar="KEY",
        panel=OUTPUT,
    )
    output: Path | None = option(None, "Write the JSON there too.", short="-o", metavar="FILE", panel=OUTPUT)
    junit: Path | None = option(None, "Write the gates' verdicts as JUnit XML.", metavar="FILE", panel=OUTPUT)
    html: Path | None = option(None, "Write a page with everything, in one file.", metavar="FILE", panel=OUTPUT)
    plot: Path | None = option(None, "Draw EM against bytes and latency (.png, .svg).", metavar="FILE", panel=OUTPUT)

    def __post_init__(self) -> None:
        from compresskit.evaluate.report import check_format, plot

        check_format(self.format)
        taken: dict[str, str] = {}
        for name, path in self.files.items():
            check_file(path, flag=f"--{name}")
            if (other := taken.setdefault(os.path.realpath(path), name)) != name:
                raise UsageError(f"--{name} {path}: is the file of --{other} too; give each its own")
        if self.plot is not None:
            plot.check(self.plot)

    @property
    def files(self) -> dict[str, Path]:
        """The files that are wanted, by the option that names them."""
        named: dict[str, Path | None] = {name: getattr(self, name) for name in ("output", "junit", "html", "plot")}
        return {name: path for name, path in named.items() if path is not None}

    def check_apart(self, inputs: Iterable[Path]) -> None:
        """UsageError where a file would be written over one of the `inputs`, or into a folder of theirs."""
        read = list(inputs) if self.files else []
        for name, path in self.files.items():
            check_apart(path, read, f"--{name}")

    def deliver(self, report: Report) -> None:
        """Write and print the report; of the processes of a launcher, the first one does.

        What can be written is, and the report is printed, whatever else fails; then RunFailed names what failed.
        """
        from compresskit import console
        from compresskit.evaluate.report import markdown, render
        from compresskit.evaluate.shard import Shard

        report = replace(report, shown=self.slices)
        if Shard.from_environment().rank:
            return
        failed = self.write(report)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(f"{markdown.render(report)}\n")
            except OSError as error:
                console.warn(f"the job's summary {summary} cannot be written ({error.strerror}); check the runner")
        console.out(render(report, self.format))
        if failed:
            raise RunFailed("; ".join(failed))

    def write(self, report: Report) -> list[str]:
        """Write the files that are wanted; a line for each that could not be written."""
        return [line for line in (self._write(name, path, report) for name, path in self.files.items()) if line]

    def _write(self, name: str, path: Path, report: Report) -> str | None:
        """Write one file; return in one line why it could not be written."""
        from compresskit import console
        from compresskit.checkpoint.store import write_text
        from compresskit.evaluate.report import html, json, junit, plot

        path = path.resolve()  # a link stays one, and what it leads to is written
        try:
            if name == "output":
                write_text(path, f"{json.render(report)}\n")
            elif name == "junit":
                write_text(path, f"{junit.render(report)}\n")
            elif name == "html":
                write_text(path, html.render(report))
            else:
                plot.save_plot(report, path)
        except InputError as error:  # nothing to draw is nothing to fail for
            console.warn(str(error))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            return f"--{name} {path}: cannot be written ({reason}); make room, or choose another"
        return None


def require_rows(report: Report) -> None:
    """The error of the rows that could not be scored: of their own kind where they share one, else InputError."""
    lost = [row for row in report.rows if row.error is not None]
    if not lost:
        return
    codes = {row.error_code for row in lost}
    kinds = {kind.exit_code: kind for kind in CompresskitError.__subclasses__()}
    kind = kinds.get(codes.pop() or 0, InputError) if len(codes) == 1 else InputError
    if len(report.rows) == 1:
        ref, error = lost[0].path, lost[0].error or ""
        raise kind(error if error.startswith(ref) else f"{ref}: {error}")
    raise kind(f"{', '.join(row.name for row in lost)} could not be scored; mend as the rows say, or leave out")


def require_gates(report: Report) -> None:
    """GateFailed, naming rule, row, figure and limit, where a gate did not hold."""
    from compresskit.evaluate.report.gate_lines import gate_lines

    if failed := gate_lines([gate for gate in report.gates if not gate.passed]):
        raise GateFailed("; ".join(line.text for line in failed))
