"""What a reader needs beyond a window of text, and what it is not fed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    BertConfig,
    LlamaConfig,
    LongformerConfig,
    RobertaConfig,
    XmodConfig,
)

from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load
from compresskit.models.tasks.readable import check_readable, check_separators, reads_types
from tests import tiny
from tests.contract import readers
from tests.models.tiny import bpe


def test_a_language_has_to_be_chosen() -> None:
    with pytest.raises(InputError, match=r"reads one language at a time, .*set default_language .* \(en_XX, de_DE\)$"):
        check_readable(XmodConfig(languages=["en_XX", "de_DE"]))
    check_readable(XmodConfig(default_language="en_XX"))
    check_readable(BertConfig())


@pytest.mark.parametrize(
    ("config", "types"), [(BertConfig(), True), (RobertaConfig(type_vocab_size=1), False), (LlamaConfig(), False)]
)
def test_types_of_tokens(config: Any, types: bool) -> None:
    assert reads_types(config) is types


def test_a_tokenizer_that_makes_types_for_a_model_that_takes_none(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    model = AutoModelForQuestionAnswering.from_config(readers.config_of("llama", tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    loaded = load(str(tmp_path / "base"), device="cpu")
    ids = {"input_ids": [5, 6], "token_type_ids": [0, 1]}
    batch = loaded.task.collator(loaded.tokenizer)([ids])
    assert set(batch) == {"input_ids", "attention_mask"}
    assert loaded.task.choices(loaded.model, batch).logits.shape == (2, 8)


def test_a_tokenizer_without_padding(tmp_path: Path) -> None:
    loaded = load(str(readers.checkpoint("llama", tmp_path / "base")), device="cpu")
    assert loaded.tokenizer.pad_token_id is None
    long, short = ({"input_ids": list(range(5, 5 + n)), "token_type_ids": [0] * n} for n in (16, 9))
    batch = loaded.task.collator(loaded.tokenizer)([long, short])
    assert batch["input_ids"][1].tolist() == [*range(5, 14), *[0] * 7]
    assert batch["attention_mask"].sum(dim=1).tolist() == [16, 9]
    both = loaded.task.choices(loaded.model, batch).logits
    alone = loaded.task.choices(loaded.model, loaded.task.collator(loaded.tokenizer)([short])).logits
    torch.testing.assert_close(both[[1, 3], :9], alone[:, :9])


def test_tokens_that_take_a_space_along_do_not_answer_with_it(tmp_path: Path) -> None:
    loaded = load(str(readers.checkpoint("llama", tmp_path / "base")), device="cpu")
    (found,) = loaded.task.answer(loaded, tiny.examples(1), AnswerOptions(64, 8, n_best=40))
    texts = [candidate.text for candidate in found.n_best]
    assert len(texts) > 20
    assert texts == [text.strip() for text in texts]
    assert len(set(texts)) == len(texts)


def test_an_encoder_needs_padding(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path / "base")
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(InputError, match="holds a tokenizer without padding"):
        load(str(folder), device="cpu")


def test_separators_of_a_longformer() -> None:
    tokenizer = bpe()
    check_separators(tokenizer, LongformerConfig(sep_token_id=tokenizer.sep_token_id))
    with pytest.raises(InputError, match="finds the question by three separators"):
        check_separators(tiny.tokenizer(), LongformerConfig(sep_token_id=tiny.tokenizer().sep_token_id))
