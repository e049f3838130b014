"""`compresskit eval`: the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from compresskit.cli import options as flags
from compresskit.errors import GateFailed, RunFailed, UsageError


def eval_(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(metavar="CKPT…", help="Folders, Hub ids or aliases.", show_default=False),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="DATA", help="SQuAD-format JSON (plain or .gz), a Hub data set, or demo.")
    ] = flags.DEFAULT_DATA,
    baseline: Annotated[
        str | None, typer.Option(metavar="CKPT", help="The checkpoint that the others are compared with.")
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Fail (exit code 1) unless every row but the baseline holds it: 'em>=base-1', 'size<=0.3x', "
            "'latency<=20ms'. May be repeated.",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="What is printed: table, json, markdown, csv or junit.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = "table",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the JSON there too.", rich_help_panel=flags.OUTPUT),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the gates' verdicts as JUnit XML.", rich_help_panel=flags.OUTPUT),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write each checkpoint's predictions there, id to text.", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    null_threshold: Annotated[
        float, typer.Option(metavar="T", help="Unanswerable where null score - score is above this.")
    ] = 0.0,
    batch_size: flags.EvalBatchSize = 32,
    max_length: flags.MaxLength = flags.DEFAULT_MAX_LENGTH,
    stride: flags.Stride = flags.DEFAULT_STRIDE,
    device: flags.Device = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Numbers that weights are held in.", rich_help_panel=flags.MACHINE),
    ] = "float32",
) -> None:
    """Measure checkpoints side by side: exact match, F1, size, memory, latency."""
    from compresskit import console
    from compresskit.checkpoint.store import write_text
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.gate import explain, gated, parse_rules
    from compresskit.evaluate.job import EvalSettings
    from compresskit.evaluate.report import check_format, render

    for name, path in (("--output", output), ("--junit", junit)):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{name} {path}: there is no folder {path.parent}; make it first")
    settings = EvalSettings(
        batch_size=batch_size,
        max_length=max_length,
        stride=stride,
        null_threshold=null_threshold,
        device=device,
        dtype=dtype,
        predictions_dir=predictions,
    )
    check_format(format_)
    rules = parse_rules(gate or [], has_baseline=baseline is not None)
    report = gated(evaluate(checkpoints or [], data, settings, baseline), rules)
    if output is not None:
        write_text(output, report.to_json())
    if junit is not None:
        write_text(junit, f"{render(report, 'junit')}\n")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{render(report, 'markdown')}\n")
    console.out(render(report, format_))
    if lost := [row.name for row in report.rows if row.error is not None]:
        raise RunFailed(f"{', '.join(lost)} could not be measured; mend it as its row says, or leave it out")
    if failed := [explain(verdict) for verdict in report.gates if not verdict.passed]:
        raise GateFailed("; ".join(failed))
