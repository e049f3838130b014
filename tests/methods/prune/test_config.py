from typing import Any, get_args

import pytest

from compresskit.errors import UsageError
from compresskit.methods.prune.config import Method, PruneConfig, parse_block

METHODS = get_args(Method)


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"method": "l0"}, "--method l0"),
        ({"sparsity": 1.0}, "--sparsity 1"),
        ({"sparsity": -0.1}, "--sparsity -0.1"),
        ({"sparsity": 50.0}, "--sparsity 50"),
        ({"sparsity": float("nan")}, "--sparsity nan"),
        ({"warmup": -0.1}, "--warmup -0.1"),
        ({"cooldown": -0.1}, "--cooldown -0.1"),
        ({"warmup": 0.5, "cooldown": 0.5}, "--warmup 0.5 and --cooldown 0.5"),
        ({"warmup": float("nan")}, "--warmup nan"),
        ({"block": (0, 4)}, "--block 0x4"),
        ({"block": (4, -1)}, "--block 4x-1"),
        ({"score_lr": 0.0}, "--score-lr 0"),
        ({"score_lr": float("nan")}, "--score-lr nan"),
        ({"penalty": -1.0}, "--penalty -1"),
        ({"penalty": float("nan")}, "--penalty nan"),
        ({"method": "magnitude", "score_lr": 0.1}, r"--score-lr \S+ has no effect"),
        ({"method": "magnitude", "penalty": 1.0}, r"--penalty \S+ has no effect"),
        ({"method": "movement", "penalty": 1.0}, r"--penalty \S+ has no effect"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError, match=rf"^{flag} ") as caught:
        PruneConfig(**settings)
    assert caught.value.exit_code == 2


def test_a_method_that_is_not_there_tells_those_that_are() -> None:
    with pytest.raises(UsageError, match=", ".join(METHODS)):
        PruneConfig(method="l0")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [{}, {"sparsity": 0.0}, {"sparsity": 0.999}, {"warmup": 0.5, "cooldown": 0.499}, {"block": (1, 32)}]
)
def test_what_is_not(settings: dict[str, Any]) -> None:
    for method in METHODS:
        PruneConfig(method=method, **settings)


@pytest.mark.parametrize("method", ["smp", "smp-l", "soft-movement"])
def test_no_penalty_is_a_penalty_too(method: Any) -> None:
    assert PruneConfig(method=method, penalty=0.0).pull == 0


@pytest.mark.parametrize("text", ["", "32", "32x", "x4", "0x4", "4x0", "-1x4", "4x4x4", "4 x 4", "4.0x4"])
def test_texts_that_are_not_a_shape(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shape"):
        parse_block(text)


def test_a_shape() -> None:
    assert parse_block("32x4") == (32, 4)


def test_what_each_method_learns() -> None:
    """Table 1 of arXiv 2005.07683, and sections 3.1 and 3.3 of arXiv 2210.06210."""
    configs = {method: PruneConfig(method=method) for method in METHODS}
    assert {m for m, c in configs.items() if c.learns_scores} == {"smp", "smp-l", "movement", "soft-movement"}
    assert {m for m, c in configs.items() if c.learns_weights} == {"movement", "soft-movement", "magnitude"}
    assert {m for m, c in configs.items() if c.regularized} == {"smp", "smp-l", "soft-movement"}
