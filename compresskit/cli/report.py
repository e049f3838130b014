"""`compresskit report`: saved results, rendered and gated again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compresskit.cli import delivery


def report(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="What `compresskit eval -o` wrote.", show_default=False)
    ],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The row that the others are compared with.", show_default="as in the files"),
    ] = None,
    gates: delivery.Gates = None,
    gate_ci: delivery.GateCi = None,
    format_: delivery.Format = None,
    output: delivery.Output = None,
    junit: delivery.JUnit = None,
    html: delivery.Html = None,
    plot: delivery.Plot = None,
) -> None:
    """Render and gate saved results, of several files in one table, without any model.

    Without --gate the rules that the files were gated with are held again.
    """
    from compresskit.evaluate.combine import combined, read_report
    from compresskit.evaluate.gate import gated, parse_rules

    destination = delivery.Delivery(format_ or "table", output, junit, html, plot)
    reports = [read_report(file) for file in files]
    whole = combined(reports, [str(file) for file in files], baseline)
    has_baseline = whole.baseline is not None
    if gates or gate_ci:
        rules = parse_rules(gates or [], has_baseline=has_baseline, ci95=bool(gate_ci))
    else:
        saved = dict.fromkeys((gate.rule, gate.ci95) for each in reports for gate in each.gates)
        rules = [parse_rules([rule], has_baseline=has_baseline, ci95=ci95)[0] for rule, ci95 in saved]
    whole = gated(whole, rules)
    destination.deliver(whole)
    delivery.require_rows(whole)
    delivery.require_gates(whole)
