"""One evaluation from its configuration to the verdict: what `compresskit eval` does, and a recipe at its end."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from compresskit.data.load import load as load_data
from compresskit.data.load import require_reader
from compresskit.errors import InputError
from compresskit.evaluate.blind import BlindSet
from compresskit.evaluate.blind_record import check_none_blind
from compresskit.evaluate.config import EvalConfig, EvalOptions
from compresskit.evaluate.delivery import require_gates, require_rows
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.gate import Rule, check_asked, check_judged, gated, parse_rules
from compresskit.evaluate.harness import check_language_figures
from compresskit.evaluate.look import PREFIX
from compresskit.evaluate.metrics import check_metrics
from compresskit.evaluate.refs import judged
from compresskit.evaluate.row import Report
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.kinds import require_packages
from compresskit.models.source import Source


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
    report = measured(config, rules)
    config.delivery.deliver(report)
    require_rows(report)
    require_gates(report)


def measured(config: EvalConfig, rules: Sequence[Rule]) -> Report:
    """Measure the checkpoints: the report, with a verdict for every rule. Raises what `evaluate` raises."""
    options, settings = config.options, config.settings
    _require_packages(options, settings)
    check_language_figures(options.measured, settings)
    check_judged(rules, has_others=bool(judged(options.measured, options.baselines)))
    blind = _blind_set(config)
    report = evaluate(options.checkpoints, options.data, settings, options.baseline, extras=config.extras(rules))
    report = blind.looked(report) if blind else report
    return gated(report, rules, config.gating)


def check_data(config: EvalConfig) -> None:
    """Raise what is wrong with the data of an evaluation, before hours go into what it measures.

    That is what reading them raises, and UsageError where a blind set is looked at otherwise. The blind set's record is
    made where there is none.
    """
    options = config.options
    check_none_blind(options.data, config.settings)
    load_data(options.data, "eval")
    _blind_set(config)


def _blind_set(config: EvalConfig) -> BlindSet | None:
    options = config.options
    if options.blind is None:
        return None
    return BlindSet.read(options.blind, options.blind_record, options.data, config.settings)


def _require_packages(options: EvalOptions, settings: EvalSettings) -> None:
    """MissingError where a package is not installed that opens one of the checkpoints, or reads the data."""
    for ref in (*options.measured, *options.baselines):
        if Path(ref).is_dir():
            require_packages(Source(ref, Path(ref)))
    for data in filter(None, (options.data, settings.tune_data, settings.shots_data)):
        with contextlib.suppress(InputError):  # whoever reads it says so
            require_reader(data)
