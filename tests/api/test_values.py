"""Keywords as values of options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import compresskit as ck
from compresskit.api.described import options_of_verb
from compresskit.api.evaluating import evaluation_options
from compresskit.api.reading import answer_options
from compresskit.api.values import ELSEWHERE, reference, values_of
from compresskit.recipe.verbs import VERBS


def prune(**keywords: Any) -> dict[str, Any]:
    return values_of("prune", options_of_verb("prune"), keywords)


class Named:
    ref = "owner/name"


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("output", "runs/half", Path("runs/half")),
        ("train_data", Path("train.json"), "train.json"),
        ("teacher", Named(), "owner/name"),
        ("sparsity", np.float32(0.5), 0.5),
        ("sparsity", 0, 0),
        ("max_steps", np.int64(7), 7),
        ("block", "32x16", (32, 16)),
        ("block", (32, 16), (32, 16)),
        ("distill", True, True),
        ("dtype", torch.bfloat16, "bfloat16"),
        ("device", torch.device("cpu"), "cpu"),
        (
            "prompt_template",
            "lines",
            ck.Prompt("Context: {context}\nQuestion: {question}\nAnswer:", "I don't know", ("\n",), " "),
        ),
    ],
)
def test_a_value_is_what_the_dataclass_takes(name: str, given: object, taken: object) -> None:
    found = prune(**{name: given})[name]
    assert found == taken
    assert type(found) is type(taken)


def test_what_is_none_was_not_given() -> None:
    assert prune(teacher=None, sparsity=None, epochs=2) == {"epochs": 2}


@pytest.mark.parametrize("given", ["em>=70", ["em>=70"], ("em>=70",), (each for each in ["em>=70"])])
def test_a_list_takes_one_text_too(given: object) -> None:
    assert values_of("evaluate", evaluation_options(), {"gates": given}) == {"gates": ("em>=70",)}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sparcity": 0.5}, "ck.prune takes no keyword sparcity; did you mean sparsity?"),
        ({"max-steps": 5}, "ck.prune takes no keyword max-steps; did you mean max_steps?"),
        ({"num_train_epochs": 5}, "ck.prune takes no keyword num_train_epochs; here it is epochs"),
        ({"r": 8}, "ck.prune takes no keyword r; did you mean lr?"),  # it has no rank
    ],
)
def test_an_unknown_keyword_is_a_usage_error_and_a_type_error(keywords: dict[str, Any], message: str) -> None:
    for kind in (ck.UsageError, TypeError, ck.KeywordError):
        with pytest.raises(kind) as caught:
            prune(**keywords)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"sparsity": 1},
            "sparsity 1 is not at least 0 and below 1; it is the fraction of weights removed, such as 0.5",
        ),
        ({"max_steps": 2.5}, "max_steps 2.5 is not a whole number"),
        ({"max_steps": True}, "max_steps True is not a whole number"),
        ({"max_steps": "8"}, "max_steps '8' is not a whole number"),
        (
            {"method": "smq"},
            "method smq is not one of smp, smp-l, movement, soft-movement, magnitude; did you mean smp?",
        ),
        ({"block": "32"}, "block 32 cannot be read; give ROWSxCOLUMNS, such as 32x32"),
        ({"output": 7}, "output 7 is not a text"),
    ],
)
def test_a_wrong_value_names_the_keyword(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ck.UsageError) as caught:
        prune(**keywords)
    assert str(caught.value) == message


def test_names_from_elsewhere_lead_to_a_keyword_that_is_there() -> None:
    known = {**evaluation_options(), **answer_options()}
    for verb in VERBS:
        known.update(options_of_verb(verb))
    assert set(ELSEWHERE.values()) <= set(known)
    assert not set(ELSEWHERE) & set(known)


def test_what_names_a_checkpoint() -> None:
    assert [reference(each) for each in ("bert", Path("runs/a"), Named())] == ["bert", "runs/a", "owner/name"]
    with pytest.raises(ck.UsageError, match="model is int; give a name, a path or a Checkpoint"):
        ck.train(7)  # type: ignore[arg-type]
