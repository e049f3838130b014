"""What is read of a folder: tokenizers that a language model can be used with, and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions
from compresskit.models.folder import read_config
from compresskit.models.registry import load
from tests import tiny
from tests.contract import makers


def changed(folder: Path, change: Any) -> Path:
    """A checkpoint with another tokenizer."""
    makers.causal(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


def answers(folder: Path) -> list[float | None]:
    loaded = load(str(folder), device="cpu")
    return [each.null_score for each in loaded.task.answer(loaded, tiny.examples(6), AnswerOptions(64, 8))]


def without_padding(tokenizer: Any) -> None:
    tokenizer.pad_token = None


def with_other_padding(tokenizer: Any) -> None:
    """One more than the model knows."""
    tokenizer.add_special_tokens({"pad_token": "<more>"})


@pytest.mark.parametrize("change", [without_padding, with_other_padding])
def test_a_language_model_needs_no_padding(change: Any, tmp_path: Path) -> None:
    expected = answers(makers.causal(tmp_path / "plain"))
    folder = changed(tmp_path / "changed", change)
    assert AutoTokenizer.from_pretrained(folder).pad_token_id in (None, len(tiny.TOKENS))
    assert answers(folder) == pytest.approx(expected, abs=1e-5)


def test_a_token_that_the_model_does_not_know(tmp_path: Path) -> None:
    folder = changed(tmp_path / "more", lambda tokenizer: tokenizer.add_tokens(["more"]))
    known = len(tiny.TOKENS)
    with pytest.raises(InputError, match=rf"tokenizer of another model \({known + 1} tokens, {known} known\)"):
        load(str(folder), device="cpu")


def test_settings_of_writing_are_read_before_transformers_does(tmp_path: Path) -> None:
    """It keeps whatever stands there, and writes it into what a method leaves."""
    makers.causal(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"output_hidden_states": "\\ud800"}')
    with pytest.raises(InputError, match=r"generation_config\.json is not valid JSON"):
        read_config(tmp_path)
