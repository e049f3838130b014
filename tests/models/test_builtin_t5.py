"""`demo/t5`: the same every time, with a tokenizer for the demo set and any other text; a few steps teach it a lot."""

import string

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast, T5ForConditionalGeneration

from compresskit.data import Split, demo
from compresskit.data.demo import DemoConfig
from compresskit.data.examples import Example
from compresskit.errors import InputError
from compresskit.models import builtin, builtin_t5
from compresskit.models.builtin_words import BLANK
from compresskit.models.loaded import TrainableModel
from compresskit.models.prompt import T5
from compresskit.models.registry import load, load_trainable, require_head
from compresskit.models.source import resolve
from compresskit.models.tasks.target_features import TargetCollator

SMALL = DemoConfig(train_questions=600, eval_questions=60)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return builtin_t5.tokenizer()


def test_it_is_the_same_every_time_and_untrained() -> None:
    folder = builtin.build("demo/t5")
    loaded = load("demo/t5", device="cpu")
    assert loaded.family.name == "seq2seq"
    with builtin.seeded(builtin.SEED):
        again = builtin_t5.model(builtin_t5.tokenizer()).state_dict()
    assert all(torch.equal(again[name], value) for name, value in loaded.model.state_dict().items())
    assert builtin.build("demo/t5") == folder
    with pytest.raises(InputError, match=r"compresskit train demo/t5$"):
        require_head(loaded)


def test_building_it_draws_no_random_number_of_others() -> None:
    before = torch.get_rng_state()
    with builtin.seeded(builtin.SEED):
        builtin_t5.model(builtin_t5.tokenizer())
    assert torch.equal(torch.get_rng_state(), before)


def test_transformers_opens_it() -> None:
    """The suite runs with HF_HUB_OFFLINE=1."""
    folder = builtin.build("demo/t5")
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(folder), T5ForConditionalGeneration)
    ours, theirs = builtin_t5.tokenizer(), AutoTokenizer.from_pretrained(folder)
    text = T5.text("When was Ada Abelsen born?", "Ada Abelsen was born on 3 May 1943.")
    assert theirs(text)["input_ids"] == ours(text)["input_ids"]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_words_are_whole_and_answers_come_back(tokenizer: PreTrainedTokenizerFast, split: Split) -> None:
    for example in demo.examples(split, SMALL):
        tokens = tokenizer.tokenize(T5.text(example.question, example.context))
        assert all((token[0] == BLANK and len(token) > 1) or token in ".,?" for token in tokens)
        text = example.answers[0].text if example.answers else T5.unanswerable
        ids = tokenizer(text_target=text)["input_ids"]
        assert len(ids) == len(text.split()) + 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_any_ascii_is_spelled(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in (string.ascii_letters + string.digits + string.punctuation, "Xylograph's q7z8 <a@b.c>", "a \\ {~}"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


def test_after_a_word_it_looks_at_what_followed_that(tokenizer: PreTrainedTokenizerFast) -> None:
    """What training need not find: how to go on with an answer."""
    model = load("demo/t5", device="cpu").model
    assert isinstance(model, torch.nn.Module)
    read = tokenizer(T5.text("Who leads Dalby?", "Dalby is led by Hanna Barlow."), return_tensors="pt")["input_ids"]
    begun = torch.tensor([[tokenizer.pad_token_id, *tokenizer("Hanna", add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        logits = model(input_ids=read, decoder_input_ids=begun).logits
    assert tokenizer.convert_ids_to_tokens([int(logits[0, -1].argmax())]) == ["▁Barlow"]


def test_a_few_steps_teach_it_to_end_and_to_copy() -> None:
    loaded = load_trainable(resolve("demo/t5"))
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=2e-3)
    examples, losses = list(demo.examples("train", SMALL)), []
    for begin in range(0, SMALL.train_questions, 24):
        loss = _loss(loaded, examples[begin : begin + 24])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def _loss(loaded: TrainableModel, examples: list[Example]) -> torch.Tensor:
    """That of a batch of questions."""
    features = [
        {
            "input_ids": loaded.tokenizer(T5.text(each.question, each.context))["input_ids"],
            "labels": loaded.tokenizer(each.answers[0].text if each.answers else T5.unanswerable)["input_ids"],
        }
        for each in examples
    ]
    choices = loaded.task.choices(loaded.model, TargetCollator(loaded.tokenizer.pad_token_id)(features))
    assert choices.labels is not None
    return torch.nn.functional.cross_entropy(choices.logits, choices.labels)
