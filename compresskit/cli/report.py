"""`compresskit report`: saved results, rendered and gated again."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from compresskit.cli.flags import with_flags
from compresskit.evaluate.delivery import Delivery, GateOptions, require_gates, require_rows
from compresskit.options import option


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Which saved results, and which of their rows the others are compared with."""

    files: tuple[Path, ...] = option(MISSING, "What `compresskit eval -o` wrote.", metavar="FILE…", argument=True)
    baseline: str | None = option(
        None, "The row that the others are compared with.", metavar="NAME", shown="as in the files"
    )


@with_flags()
def report(options: ReportOptions, gating: GateOptions, delivery: Delivery) -> None:
    """Render and gate saved results, of several files in one table, without any model.

    Without --gate the rules that the files were gated with are held again.
    """
    from compresskit.evaluate.combine import combined, read_report
    from compresskit.evaluate.gate import gated, parse_rules
    from compresskit.evaluate.slices import check_keys

    delivery.check_apart(options.files)
    reports = [read_report(file) for file in options.files]
    whole = combined(reports, [str(file) for file in options.files], options.baseline)
    check_keys(whole, delivery.slices)
    has_baseline = whole.baseline is not None
    if gating.gates or gating.gate_ci:
        rules = parse_rules(gating.gates, has_baseline=has_baseline, ci95=gating.gate_ci)
    else:
        saved = dict.fromkeys((gate.rule, gate.ci95) for each in reports for gate in each.gates)
        rules = [parse_rules([rule], has_baseline=has_baseline, ci95=ci95)[0] for rule, ci95 in saved]
    gating.check_effect(rules)
    whole = gated(whole, rules, gating)
    delivery.deliver(whole)
    require_rows(whole)
    require_gates(whole)
