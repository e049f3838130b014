from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import UsageError
from compresskit.models.lstm.variants import PRESETS, LstmOptions
from compresskit.options import options_of

VECTORS = {"embeddings": "v.txt"}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("1", {"attention": "additive", "pooling": "flatten", "residual": False}),
        ("2", {"attention": "additive", "pooling": "flatten", "residual": False}),
        ("3", {"attention": "multi-head", "pooling": "max", "residual": True}),
        ("4", {"attention": "self", "pooling": "max", "residual": True}),
        ("bidaf", {"attention": "flow", "characters": True, "highway": 2, "modelling_layers": 2}),
    ],
)
def test_the_published_models(variant: str, expected: dict[str, Any]) -> None:
    options = LstmOptions.choose(variant=variant, **VECTORS)
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.dropout > 0
    assert (options.l2 > 0) == (variant in "234")


@pytest.mark.parametrize("variant", PRESETS)
def test_what_is_given_wins_over_the_preset(variant: str) -> None:
    given = {"attention": "self", "residual": False, "dropout": 0.5, "l2": 0.25, "layers": 3, **VECTORS}
    options = LstmOptions.choose(variant=variant, hidden_size=None, **given)
    assert {name: getattr(options, name) for name in given} == given
    assert options.hidden_size == PRESETS[variant].get("hidden_size", 128)


def test_help_says_which_defaults_a_variant_changes() -> None:
    changed = {name for preset in PRESETS.values() for name in preset}
    told = {name for name, known in options_of(LstmOptions).items() if known.option.shown == "as --variant says"}
    assert told == changed


@pytest.mark.parametrize("variant", ["2", "3", "4"])
def test_variants_that_need_vectors(variant: str) -> None:
    with pytest.raises(UsageError, match=rf"--variant {variant} stands on (GloVe|fastText) vectors; give the file as"):
        LstmOptions.choose(variant=variant)
    assert LstmOptions.choose(variant=variant, embeddings="random").vector_file is None
    assert LstmOptions.choose(variant=variant, **VECTORS).vector_file == Path("v.txt")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"variant": "5"}, "--variant '?5'? is not one of 1, 2, 3, 4, bidaf"),
        ({"attention": "hard"}, "--attention hard is not one of additive, multi-head, self, flow"),
        ({"pooling": "mean"}, "--pooling mean is not one of flatten, max"),
        ({"dropout": 1.0}, "--dropout 1 .*at least 0 and below 1"),
        ({"l2": -1.0}, "--l2 -1 .*at least 0"),
        ({"l2": float("nan")}, "--l2 nan .*finite"),
        ({"layers": 0}, "--layers 0 .*at least 1"),
        ({"buckets": 0}, "--buckets 0 .*at least 1"),
        ({"highway": -1}, "--highway -1 .*at least 0"),
        ({"hidden_size": 65, "attention": "multi-head"}, "--hidden-size 65 is not even"),
        ({"freeze_embeddings": True}, "--freeze-embeddings keeps random vectors random"),
    ],
)
def test_what_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        LstmOptions.choose(**given)
