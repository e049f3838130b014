"""One evaluation from its configuration to the verdict: what `compresskit eval` does, and a recipe at its end."""

from __future__ import annotations

from collections.abc import Sequence

from compresskit.evaluate.blind import BlindSet
from compresskit.evaluate.config import EvalConfig
from compresskit.evaluate.delivery import require_gates, require_rows
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.gate import Rule, check_asked, check_judged, gated, parse_rules
from compresskit.evaluate.harness import check_language_figures
from compresskit.evaluate.look import PREFIX
from compresskit.evaluate.metrics import check_metrics
from compresskit.evaluate.refs import judged


def rules_of(config: EvalConfig) -> Sequence[Rule]:
    """The rules that an evaluation has to hold. No checkpoint need be there yet.

    Raises UsageError for a rule or a figure that cannot be, or that has no effect; MissingError for a package.
    """
    options, settings, gating = config.options, config.settings, config.gating
    check_metrics(settings.metrics)
    rules = parse_rules(gating.gates, has_baseline=options.baseline is not None, ci95=gating.gate_ci)
    gating.check_effect(rules)
    asked = settings.metrics if options.blind is None else (*settings.metrics, PREFIX)
    check_asked(rules, asked, settings.harness)
    return rules


def judge(config: EvalConfig, rules: Sequence[Rule]) -> None:
    """Measure the checkpoints, deliver the report, and require that every row and every gate holds.

    Raises GateFailed where a gate does not, the error of a row that could not be scored, and what `evaluate` raises.
    """
    options, settings = config.options, config.settings
    check_language_figures(options.measured, settings)
    check_judged(rules, has_others=bool(judged(options.measured, options.baselines)))
    blind = options.blind and BlindSet.read(options.blind, options.blind_record, options.data, settings)
    report = evaluate(options.checkpoints, options.data, settings, options.baseline, extras=config.extras(rules))
    report = blind.looked(report) if blind else report
    report = gated(report, rules, config.gating)
    config.delivery.deliver(report)
    require_rows(report)
    require_gates(report)
