"""`demo/mamba`: the same every time, with a tokenizer for the demo set and any other text; its states keep facts."""

import string
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaForCausalLM, PreTrainedTokenizerFast

from compresskit.cli.app import main
from compresskit.data import Split, demo
from compresskit.data.demo import DemoConfig
from compresskit.data.examples import Example
from compresskit.errors import InputError
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.settings import EvalSettings
from compresskit.models import builtin, builtin_mamba, builtin_words
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.prompt import LINES
from compresskit.models.registry import load, load_trainable, require_head
from compresskit.models.source import resolve
from compresskit.models.tasks.causal import CAUSAL

SMALL = DemoConfig(train_questions=480, eval_questions=60)
CONTEXT = "Ada Arndal lives in New Kelby. Dalby is led by Hanna Ekdal."


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return builtin_mamba.tokenizer()


def test_it_is_the_same_every_time_and_untrained() -> None:
    folder = builtin.build("demo/mamba")
    loaded = load("demo/mamba", device="cpu")
    assert loaded.family.name == "causal"
    before = torch.get_rng_state()
    with builtin.seeded(builtin.SEED):
        again = builtin_mamba.model(builtin_mamba.tokenizer()).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
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
def test_words_are_whole_and_answers_come_back(tokenizer: PreTrainedTokenizerFast, split: Split) -> None:
    marks = {builtin_mamba.QUESTION_MARK, builtin_mamba.ANSWER_MARK}
    for example in demo.examples(split, SMALL):
        tokens = tokenizer.tokenize(LINES.text(example.question, example.context))
        words = [token for token in tokens if token not in marks and token not in ".,?"]
        assert all(word[0] == builtin_words.BLANK and len(word) > 1 for word in words)
        text = LINES.target(example.answers[0].text if example.answers else LINES.unanswerable)
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split())
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text.strip()


def test_any_ascii_and_lines_are_spelled(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in (string.ascii_letters + string.digits + string.punctuation, "q7z8\n\nContext: <a@b.c>", "a \\ {~}\n"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_its_states_keep_what_was_told_of_whom(tokenizer: PreTrainedTokenizerFast) -> None:
    """What training need not find, told among the words of the context: how an answer begins, and how it goes on."""
    model = load("demo/mamba", device="cpu").model
    assert isinstance(model, torch.nn.Module)
    right: dict[bool, list[bool]] = {True: [], False: []}
    for example in (each for each in demo.examples("eval", SMALL) if each.answers):
        prompt = tokenizer(LINES.text(example.question, example.context))["input_ids"]
        context = sorted(set(tokenizer(example.context)["input_ids"]))
        answer = tokenizer(example.answers[0].text)["input_ids"]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 :]
        for place, token in enumerate(answer):
            right[place == 0].append(context[int(logits[place, context].argmax())] == token)
    begins, goes_on = (sum(each) / len(each) for each in (right[True], right[False]))
    assert begins > 0.2, "of about 20 words"
    assert goes_on > 0.75


def test_a_few_steps_teach_it_to_end_and_to_copy() -> None:
    loaded = load_trainable(resolve("demo/mamba"))
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-3)
    examples, losses = list(demo.examples("train", SMALL)), []
    for begin in range(0, SMALL.train_questions, 24):
        loss = _loss(loaded, examples[begin : begin + 24])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.35 * sum(losses[:3])


def test_it_is_trained_before_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"compresskit train demo/mamba$"):
        require_head(load("demo/mamba", device="cpu"))
    words = ["train", "demo/mamba", "--max-train-samples", "32", "--max-steps", "1", "--device", "cpu"]
    assert main(["-q", *words, "-o", str(tmp_path / "dense")]) == 0
    assert main(["predict", str(tmp_path / "dense"), "-q", "Who leads Dalby?", "-c", CONTEXT, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip()


def test_it_answers_from_the_first() -> None:
    """Something, in the form of its prompt; what, it has to learn."""
    loaded = load("demo/mamba", device="cpu")
    found = list(loaded.task.answer(loaded, list(demo.examples("eval", SMALL))[:8], AnswerOptions(128, 16)))
    assert len(found) == 8


@pytest.mark.slow
def test_it_learns_more_than_to_answer_nothing(tmp_path: Path) -> None:
    """A third of the questions have no answer."""
    words = ["train", "demo/mamba", "--max-train-samples", "4800", "--lr", "1e-3", "--device", "cpu"]
    assert main(["-q", *words, "-o", str(tmp_path / "dense")]) == 0
    (row,) = evaluate([str(tmp_path / "dense")], "demo", EvalSettings(device="cpu")).rows
    assert row.em is not None
    assert row.has_ans_em is not None
    assert row.em > 55
    assert row.has_ans_em > 45


def _loss(loaded: TrainableModel, examples: list[Example]) -> torch.Tensor:
    """That of a batch of questions."""
    texts = [LINES.target(each.answers[0].text if each.answers else LINES.unanswerable) for each in examples]
    targets = CAUSAL.target(loaded.tokenizer, texts, LINES)
    features = [
        {"input_ids": loaded.tokenizer(LINES.text(each.question, each.context))["input_ids"], "labels": target}
        for each, target in zip(examples, targets, strict=True)
    ]
    choices = loaded.task.choices(loaded.model, loaded.task.collator(loaded.tokenizer)(features))
    assert choices.labels is not None
    return torch.nn.functional.cross_entropy(choices.logits, choices.labels)
