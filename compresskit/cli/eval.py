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
    from compresskit.evaluate.config import configured, globbed_runs
    from compresskit.evaluate.verdict import judge, rules_of

    runs = {"runs": tuple(globbed_runs(text, Path()) for text in given["runs"])} if "runs" in given else {}
    config = configured({**given, **runs}, Path())
    config.check_places(Path())
    rules = rules_of(config)
    if config.options.prove_gates:
        _prove(config, rules)
    else:
        judge(config, rules)


def _prove(config: EvalConfig, rules: Sequence[Rule]) -> None:
    """Show that each gate can fail and can hold."""
    from compresskit import console
    from compresskit.evaluate.prove import prove
    from compresskit.evaluate.report.proof import render

    if config.delivery.files:
        console.warn("--prove-gates prints its proofs, and writes none of the report's files")
    options = config.options
    baseline = next(iter(options.baselines), None)  # of several runs the first stands for it
    proven = prove(rules, options.data, config.settings, baseline, config.gating, options.cache)
    console.out(render(proven, config.delivery.format))
    proven.require()
