from typing import Any

import pytest

from compresskit.errors import UsageError
from compresskit.methods.prune.config import METHODS, PruneConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "l0"}, "unknown method 'l0'; use smp, smp-l, movement, soft-movement, magnitude"),
        ({"sparsity": 1.0}, "--sparsity 1 is not in"),
        ({"sparsity": -0.1}, "--sparsity -0.1 is not in"),
        ({"sparsity": 50.0}, "--sparsity 50 is not in"),
        ({"sparsity": float("nan")}, "--sparsity nan is not in"),
        ({"warmup": -0.1}, "--warmup"),
        ({"cooldown": -0.1}, "--cooldown"),
        ({"warmup": 0.5, "cooldown": 0.5}, "leave no steps to prune in"),
        ({"warmup": float("nan")}, "--warmup"),
        ({"block": (0, 4)}, "--block 0x4"),
        ({"block": (4, -1)}, "--block 4x-1"),
        ({"score_lr": 0.0}, "--score-lr"),
        ({"score_lr": float("nan")}, "--score-lr"),
        ({"penalty": -1.0}, "--penalty"),
        ({"penalty": float("nan")}, "--penalty"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruneConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"sparsity": 0.0}, {"sparsity": 0.999}, {"warmup": 0.5, "cooldown": 0.499}, {"penalty": 0.0}],
)
def test_what_is_not(settings: dict[str, Any]) -> None:
    for method in METHODS:
        PruneConfig(method=method, **settings)  # type: ignore[arg-type]


def test_what_each_method_learns() -> None:
    """Table 1 of arXiv 2005.07683, and sections 3.1 and 3.3 of arXiv 2210.06210."""
    configs = {method: PruneConfig(method=method) for method in METHODS}  # type: ignore[arg-type]
    assert {m for m, c in configs.items() if c.learns_scores} == {"smp", "smp-l", "movement", "soft-movement"}
    assert {m for m, c in configs.items() if c.learns_weights} == {"movement", "soft-movement", "magnitude"}
    assert {m for m, c in configs.items() if c.regularized} == {"smp", "smp-l", "soft-movement"}
