from typing import Any, get_args

import pytest

from compresskit.errors import UsageError
from compresskit.methods.prune.config import Method, PruneConfig, parse_block

METHODS: tuple[Method, ...] = get_args(Method)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "l0"}, "--method l0 .*smp, smp-l, movement, soft-movement, magnitude"),
        ({"sparsity": 1.0}, "--sparsity 1 "),
        ({"sparsity": -0.1}, "--sparsity -0.1 "),
        ({"sparsity": 50.0}, "--sparsity 50 .*such as 0.5"),
        ({"sparsity": float("nan")}, "--sparsity nan "),
        ({"warmup": -0.1}, "--warmup"),
        ({"cooldown": -0.1}, "--cooldown"),
        ({"warmup": 0.5, "cooldown": 0.5}, "--warmup 0.5 and --cooldown 0.5"),
        ({"warmup": float("nan")}, "--warmup"),
        ({"method": "Magnitude"}, "did you mean magnitude"),
        ({"block": (0, 4)}, "--block 0x4"),
        ({"block": (4, -1)}, "--block 4x-1"),
        ({"score_lr": 0.0}, "--score-lr"),
        ({"score_lr": float("nan")}, "--score-lr"),
        ({"penalty": -1.0}, "--penalty"),
        ({"penalty": float("nan")}, "--penalty nan"),
        ({"penalty": 1.0, "method": "movement"}, "--penalty .*--method movement"),
        ({"penalty": 1.0, "method": "magnitude"}, "--penalty .*--method magnitude"),
        ({"score_lr": 0.1, "method": "magnitude"}, "--score-lr .*--method magnitude"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruneConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {"sparsity": 0.0}, {"sparsity": 0.999}, {"warmup": 0.5, "cooldown": 0.499}],
)
def test_what_is_not(settings: dict[str, Any]) -> None:
    for method in METHODS:
        PruneConfig(method=method, **settings)


def test_what_each_method_learns() -> None:
    """Table 1 of arXiv 2005.07683, and sections 3.1 and 3.3 of arXiv 2210.06210."""
    configs = {method: PruneConfig(method=method) for method in METHODS}
    assert {m for m, c in configs.items() if c.learns_scores} == {"smp", "smp-l", "movement", "soft-movement"}
    assert {m for m, c in configs.items() if c.learns_weights} == {"movement", "soft-movement", "magnitude"}
    assert {m for m, c in configs.items() if c.regularized} == {"smp", "smp-l", "soft-movement"}


def test_defaults_take_effect_where_nothing_is_given() -> None:
    """Those of arXiv 2210.06210; a penalty of 0 is one that was given."""
    config = PruneConfig()
    assert (config.score_lr, config.penalty) == (None, None)
    assert (config.scores_at, config.pull) == (2e-2, 400.0)
    assert PruneConfig(penalty=0.0).pull == 0
    told = config.describe()
    assert (told["score_lr"], told["penalty"], told["embeddings"]) == (2e-2, 400.0, False)
    assert "mask_embeddings" not in told


@pytest.mark.parametrize(("text", "block"), [("1x1", (1, 1)), ("32x8", (32, 8))])
def test_blocks(text: str, block: tuple[int, int]) -> None:
    assert parse_block(text) == block


@pytest.mark.parametrize("text", ["", "32", "32x", "x32", "0x4", "4x0", "-4x4", "4x4x4", "4 x 4", "4×4"])
def test_what_is_not_a_block(text: str) -> None:
    with pytest.raises(ValueError, match="shape"):
        parse_block(text)
