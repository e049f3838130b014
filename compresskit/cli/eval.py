"""`compresskit eval`: the table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from compresskit.cli import delivery
from compresskit.cli import options as flags

TIMING = "Timing"
METRICS = "Figures"


def _threshold(text: str) -> float | Literal["auto"]:
    return "auto" if text == "auto" else float(text)


def eval_(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CKPT…",
            help="Folders (full, overlay, PEFT, quantized, ONNX), Hub ids, aliases, or files of answers.",
            show_default="what pyproject.toml or compresskit.yaml says",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="SQuAD-format JSON (plain or .gz), a Hub data set, or demo.",
            show_default="rajpurkar/squad_v2",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="CKPT", help="The checkpoint that the others are compared with.")
    ] = None,
    gates: delivery.Gates = None,
    gate_ci: delivery.GateCi = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Ask whole paragraphs with at most N questions, drawn with --seed."),
    ] = None,
    null_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T|auto",
            parser=_threshold,
            help="Unanswerable where null score - score is above this; auto: the best on --tune-data.",
            show_default="0",
        ),
    ] = None,
    tune_data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Other questions, on which --null-threshold auto is chosen.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,…",
            help="Overlap with the gold answers: bleu, rouge; perplexity of a language model: ppl.",
            rich_help_panel=METRICS,
        ),
    ] = None,
    harness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK,…",
            help="Tasks of lm-evaluation-harness for a language model: names, or YAML files.",
            rich_help_panel=METRICS,
        ),
    ] = None,
    show_flips: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Tell N questions lost against the baseline, and N won.",
            show_default="0",
            rich_help_panel=METRICS,
        ),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Do all timing N times.", show_default="1", rich_help_panel=TIMING),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache",
            help="Take the row of an unchanged checkpoint from an earlier run.",
            show_default="--cache",
            rich_help_panel=TIMING,
        ),
    ] = None,
    format_: delivery.Format = None,
    output: delivery.Output = None,
    junit: delivery.JUnit = None,
    html: delivery.Html = None,
    plot: delivery.Plot = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write each checkpoint's answers there, id to text.", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Windows of full length in one batch.",
            show_default="32",
            rich_help_panel=flags.MACHINE,
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS", min=16, help="Tokens of one window.", show_default="384", rich_help_panel=flags.DATA
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=0,
            help="Tokens that neighbouring windows share.",
            show_default="128",
            rich_help_panel=flags.DATA,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=flags.LARGEST_SEED,
            help="Seed of --limit.",
            show_default="0",
            rich_help_panel=flags.DATA,
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(
            help="Where to compute; auto takes a GPU where there is one.",
            show_default="auto",
            rich_help_panel=flags.MACHINE,
        ),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Numbers that weights are held in.", show_default="float32", rich_help_panel=flags.MACHINE),
    ] = None,
) -> None:
    """Measure checkpoints side by side: exact match, F1, size, memory, latency."""
    given = dict(locals())
    from compresskit.evaluate.config import configured
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.gate import gated, parse_rules
    from compresskit.evaluate.language import check_harness
    from compresskit.evaluate.metrics import check_metrics

    given["format"] = given.pop("format_")
    config = configured(given, Path())
    destination = delivery.Delivery(config.format, config.output, config.junit, config.html, config.plot)
    check_metrics(config.settings.metrics)
    check_harness(config.settings.harness)
    rules = parse_rules(config.gates, has_baseline=config.baseline is not None, ci95=config.gate_ci)
    report = evaluate(config.checkpoints, config.data, config.settings, config.baseline, extras=config.extras)
    report = gated(report, rules)
    destination.deliver(report)
    delivery.require_rows(report)
    delivery.require_gates(report)
