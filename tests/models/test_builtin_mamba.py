"""`demo/mamba`: the same every time, with a tokenizer for the demo set; a few steps teach it a lot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaForCausalLM, PreTrainedTokenizerFast

from compresskit.data import demo
from compresskit.data.demo import DemoConfig
from compresskit.models import builtin, builtin_mamba
from compresskit.models.answering import AnswerOptions
from compresskit.models.prompt import LINES
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from compresskit.models.tasks.causal import CAUSAL, CausalCollator

SMALL = DemoConfig(train_questions=600, eval_questions=60)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return builtin_mamba.tokenizer()


def test_it_is_the_same_every_time() -> None:
    folder = builtin.build("demo/mamba")
    loaded = load("demo/mamba", device="cpu")
    assert loaded.family.name == "causal"
    with builtin.seeded(builtin.SEED):
        again = builtin_mamba.model(builtin_mamba.tokenizer()).state_dict()
    assert all(torch.equal(again[name], value) for name, value in loaded.model.state_dict().items())
    assert builtin.build("demo/mamba") == folder


def test_transformers_opens_it() -> None:
    """The suite runs with HF_HUB_OFFLINE=1."""
    folder = builtin.build("demo/mamba")
    assert isinstance(AutoModelForCausalLM.from_pretrained(folder), MambaForCausalLM)
    ours, theirs = builtin_mamba.tokenizer(), AutoTokenizer.from_pretrained(folder)
    text = LINES.text("When was Ada Abelsen born?", "Ada Abelsen was born on 3 May 1943.")
    assert theirs(text)["input_ids"] == ours(text)["input_ids"]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_answers_come_back(tokenizer: PreTrainedTokenizerFast, split: demo.Split) -> None:
    for example in demo.examples(split, SMALL):
        text = LINES.target(example.answers[0].text if example.answers else LINES.unanswerable)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert str(tokenizer.decode(ids, skip_special_tokens=True)).strip() == text.strip()


def test_a_few_steps_teach_it() -> None:
    loaded = load_trainable(resolve("demo/mamba"))
    model: Any = loaded.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    examples, losses = list(demo.examples("train", SMALL)), []
    for begin in range(0, SMALL.train_questions, 24):
        features = [
            {"input_ids": prompt, "labels": target}
            for each in examples[begin : begin + 24]
            for prompt in [loaded.tokenizer(LINES.text(each.question, each.context))["input_ids"]]
            for target in CAUSAL.target(
                loaded.tokenizer, [LINES.target(each.answers[0].text if each.answers else LINES.unanswerable)], LINES
            )
        ]
        choices = CAUSAL.choices(model.train(), CausalCollator(0)(features))
        assert choices.labels is not None
        loss = torch.nn.functional.cross_entropy(choices.logits, choices.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_it_answers_from_the_first() -> None:
    """Something, in the form of its prompt; what, it has to learn."""
    loaded = load("demo/mamba", device="cpu")
    found = list(loaded.task.answer(loaded, list(demo.examples("eval", SMALL))[:8], AnswerOptions(128, 16)))
    assert len(found) == 8
