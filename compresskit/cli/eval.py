"""`compresskit eval`: the table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from compresskit.cli.flags import Settings, with_flags
from compresskit.evaluate.config import PARTS


@with_flags()
def eval_(given: Annotated[dict[str, Any], Settings(PARTS)]) -> None:
    """Measure checkpoints side by side: exact match, F1, size, memory, latency."""
    from compresskit.evaluate.config import configured
    from compresskit.evaluate.delivery import require_gates, require_rows
    from compresskit.evaluate.evaluate import evaluate
    from compresskit.evaluate.gate import gated, parse_rules
    from compresskit.evaluate.harness import check_language_figures
    from compresskit.evaluate.metrics import check_metrics

    config = configured(given, Path())
    options, settings, gating = config.options, config.settings, config.gating
    config.check_places(Path())
    check_metrics(settings.metrics)
    check_language_figures(options.checkpoints, settings)
    rules = parse_rules(gating.gates, has_baseline=options.baseline is not None, ci95=gating.gate_ci)
    gating.check_effect(rules)
    report = evaluate(options.checkpoints, options.data, settings, options.baseline, extras=options.extras)
    report = gated(report, rules, gating)
    config.delivery.deliver(report)
    require_rows(report)
    require_gates(report)
