"""`compresskit eval`: the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from compresskit.cli.flags import Settings, with_flags
from compresskit.evaluate.config import PARTS

if TYPE_CHECKING:
    from compresskit.evaluate.config import EvalConfig
    from compresskit.evaluate.gate import Rule


@with_flags()
def eval_(given: Annotated[dict[str, Any], Settings(PARTS)]) -> None:
    """Measure checkpoints side by side: exact match, F1, size, memory, latency."""
    from compresskit.evaluate.config import configured
    from compresskit.evaluate.delivery import require_gates, require_rows
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.gate import check_asked, check_judged, gated, parse_rules
    from compresskit.evaluate.harness import check_language_figures
    from compresskit.evaluate.metrics import check_metrics
    from compresskit.evaluate.refs import judged

    config = configured(given, Path())
    options, settings, gating = config.options, config.settings, config.gating
    config.check_places(Path())
    check_metrics(settings.metrics)
    rules = parse_rules(gating.gates, has_baseline=options.baseline is not None, ci95=gating.gate_ci)
    gating.check_effect(rules)
    check_asked(rules, settings.metrics, settings.harness)
    if options.prove_gates:
        _prove(config, rules)
        return
    check_language_figures(options.checkpoints, settings)
    check_judged(rules, has_others=bool(judged(options.checkpoints, options.baseline)))
    report = evaluate(options.checkpoints, options.data, settings, options.baseline, extras=config.extras(rules))
    report = gated(report, rules, gating)
    config.delivery.deliver(report)
    require_rows(report)
    require_gates(report)


def _prove(config: EvalConfig, rules: Sequence[Rule]) -> None:
    """Show that each gate can fail and can hold."""
    from compresskit import console
    from compresskit.evaluate.prove import prove
    from compresskit.evaluate.report.proof import render

    if config.delivery.files:
        console.warn("--prove-gates prints its proofs, and writes none of the report's files")
    options = config.options
    proven = prove(rules, options.data, config.settings, options.baseline, config.gating, options.cache)
    console.out(render(proven, config.delivery.format))
    proven.require()
