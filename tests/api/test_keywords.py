"""The typed keywords are those of the options, which are the flags of the command line."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest
import torch
import typer

import compresskit as ck
from compresskit.api import keywords
from compresskit.api.evaluating import NOT_FOR_CALLS
from compresskit.cli.app import app
from tests.api import write_keywords

VERBS = ("train", "prune", "lora", "qlora", "quantize", "merge", "export")


def flags(verb: str) -> set[str]:
    """The names of what a verb of the command line takes."""
    command: Any = typer.main.get_command(app)
    return {each.name for each in command.commands[verb].params if each.name not in ("help", "plan")}


def keys(title: str) -> set[str]:
    known = {"Reference": str, "Prompt": ck.Prompt, "torch": torch}
    return set(typing.get_type_hints(getattr(keywords, title), localns=known))


def test_the_file_is_what_the_options_say() -> None:
    assert write_keywords.FILE.read_text() == write_keywords.text(), "run python -m tests.api.write_keywords"


@pytest.mark.parametrize("verb", VERBS)
def test_a_function_takes_what_its_verb_takes(verb: str) -> None:
    found = keys(f"{verb.capitalize()}Keywords")
    assert found == flags(verb) - {"model"}
    call = getattr(ck, verb)
    assert next(iter(inspect.signature(call).parameters)) == "model"
    assert set(inspect.signature(call).parameters) == found | {"model"}
    assert all(f"\n    {name}: " in call.__doc__ for name in found)


def test_evaluate_and_predict_take_what_their_verbs_take() -> None:
    assert keys("EvaluateKeywords") == flags("eval") - set(NOT_FOR_CALLS)
    own = {"checkpoint", "question", "context", "input", "output", "device"}
    assert keys("AnswerKeywords") == flags("predict") - own
    assert {"question", "context", "ref", "device"} < set(inspect.signature(ck.predict).parameters)


def test_texts_name_keywords_and_no_flags() -> None:
    told = write_keywords.text()
    assert "--" not in told
    assert "Optimizer steps, in place of `epochs`. Default: as `epochs` says." in told
