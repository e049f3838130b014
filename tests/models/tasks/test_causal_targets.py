"""What a model that goes on with a text learns to write after a prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compresskit.models.prompt import PROMPTS, Prompt
from compresskit.models.tasks.causal import CAUSAL
from tests.models import texts

ANSWERS = ["I don't know", "Rome", "in Rome", "2", "Ωmega"]


@pytest.mark.parametrize("template", ["lines", "flan", "t5"])
@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_targets_are_what_follows_a_prompt(kind: str, template: str) -> None:
    """The tokens of prompt and answer together are those of both, one after the other: no blank comes between."""
    tokenizer, prompt = getattr(texts, kind)(), replace(PROMPTS[template], lead=" ")
    question, context = "Where does Anna live?", "Anna lives in Rome."
    front = tokenizer(prompt.text(question, context))["input_ids"]
    targets = CAUSAL.target(tokenizer, [prompt.target(answer) for answer in ANSWERS], prompt)
    for answer, target in zip(ANSWERS, targets, strict=True):
        whole = tokenizer(prompt.text(question, context) + prompt.target(answer))["input_ids"]
        assert [*front, *target] == [*whole, tokenizer.eos_token_id]


def test_targets_whose_border_falls_into_a_token() -> None:
    """Then the tokens are those of the text by itself."""
    tokenizer = texts.byte_level()
    prompt = Prompt("{question} {context} Ro", lead="")
    (target,) = CAUSAL.target(tokenizer, ["me"], prompt)
    assert tokenizer.decode(list(target[:-1])) == "me"
    assert [*tokenizer(" Ro")["input_ids"], *target[:-1]] != tokenizer(" Rome")["input_ids"]


def test_what_is_kept_of_a_teacher_is_joined(recwarn: pytest.WarningsRecorder) -> None:
    """In arrays of files, which cannot be written; the padding of a tokenizer may be no token of the model."""
    tokenizer = texts.byte_level()
    tokenizer.add_special_tokens({"pad_token": "<more>"})
    kept = [np.arange(6, dtype=np.float16).reshape(3, 2), np.ones((2, 2), np.float16)]
    for each in kept:
        each.flags.writeable = False
    features = [{"input_ids": [5, 6], "labels": [2] * len(each), "teacher": each} for each in kept]
    batch = CAUSAL.collator(tokenizer)(features)
    assert batch["teacher"].tolist() == np.concatenate(kept).tolist()
    assert int(batch["input_ids"].max()) < tokenizer.pad_token_id
    assert not recwarn.list
