"""The task of generation on a tiny T5: targets, losses and answers against plain loops over transformers' own model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compresskit.checkpoint.manifest import Manifest, Step
from compresskit.data.examples import Answer, Example
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions, WindowOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.prompt import PROMPTS, T5, Prompt
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import Source
from compresskit.models.task import IGNORED
from compresskit.models.tasks import text_answers
from compresskit.models.tasks.generation import GENERATION
from compresskit.models.tasks.hypotheses import Hypothesis
from compresskit.models.tasks.prompt_windows import PromptWindow
from tests import tiny
from tests.contract import makers

CONTEXT = "rome lies in italy ."


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> TrainableModel:
    found = load_trainable(Source("tiny", makers.seq2seq(tmp_path_factory.mktemp("t5") / "t5")))
    found.model.eval()
    return found


def example(question: str, context: str, *answers: Answer) -> Example:
    return Example(question, "t", question, context, answers, not answers, 0)


def test_the_target_is_the_answer_where_the_window_shows_all_of_it(loaded: TrainableModel, tmp_path: Path) -> None:
    """In the other windows, and where there is none, it is the word for unanswerable."""
    context = "the sea . " * 12 + CONTEXT
    asked = [
        example("where is rome ?", context, Answer("rome lies", context.index("rome"))),
        example("who ?", CONTEXT),
    ]
    prompt = Prompt("{question} {context}", unanswerable="no")
    GENERATION.write(loaded.tokenizer, asked, WindowOptions(40, 8, prompt), tmp_path / "f")
    features = GENERATION.open(tmp_path / "f")
    texts = [loaded.tokenizer.decode(features[i]["input_ids"], skip_special_tokens=True) for i in range(len(features))]
    targets = [features[i]["labels"].tolist() for i in range(len(features))]
    assert len(features) >= 2
    assert "rome lies" not in texts[0]
    for text, target in zip(texts, targets, strict=True):
        wanted = "rome lies" if "rome lies" in text and "who" not in text else "no"
        assert target == loaded.tokenizer(wanted)["input_ids"]


@torch.no_grad()
def test_choices_are_the_losses_of_transformers(loaded: TrainableModel, tmp_path: Path) -> None:
    asked = list(tiny.examples(6))
    GENERATION.write(loaded.tokenizer, asked, WindowOptions(64, 8), tmp_path / "f")
    features = GENERATION.open(tmp_path / "f")
    batch = GENERATION.collator(loaded.tokenizer)([features[i] for i in range(len(features))])
    choices = GENERATION.choices(loaded.model, batch)
    expected = loaded.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).loss
    assert choices.labels is not None
    assert len(choices.labels) == int((batch["labels"] != IGNORED).sum())
    torch.testing.assert_close(torch.nn.functional.cross_entropy(choices.logits, choices.labels), expected)


@torch.no_grad()
def log_probability(loaded: TrainableModel, prompt: Prompt, asked: Example, text: str) -> float:
    ids = torch.tensor([loaded.tokenizer(prompt.text(asked.question, asked.context))["input_ids"]])
    labels = torch.tensor([loaded.tokenizer(text)["input_ids"]])
    logits = loaded.model(input_ids=ids, labels=labels).logits[0].log_softmax(-1)
    # The tokenizer begins a text with a token of its own, which every answer has.
    return sum(float(logits[position, token]) for position, token in enumerate(labels[0].tolist()) if position)


@pytest.mark.parametrize("beams", [None, 3])
def test_scores_are_log_probabilities(loaded: TrainableModel, beams: int | None) -> None:
    options = AnswerOptions(64, 8, batch_size=4, null_threshold=1e9, beams=beams, max_answer_length=12)
    asked = list(tiny.examples(8))
    for question, found in zip(asked, GENERATION.answer(loaded, asked, options), strict=True):
        assert found.text == found.span_text
        assert found.null_score == pytest.approx(log_probability(loaded, T5, question, T5.unanswerable), abs=1e-3)
        if found.score is None:  # this model may write nothing but tokens that are no text
            assert found.text == ""
        elif beams is None:
            assert found.score == pytest.approx(log_probability(loaded, T5, question, found.text), abs=1e-3)


def test_the_window_that_is_surest_answers(loaded: TrainableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one with the likeliest text: there "unanswerable" may be likelier still."""
    city = [tiny.TOKENS.index(word) for word in tiny.CITIES[:3]]
    windows = [
        text_answers.Answered(-0.1, [Hypothesis([city[0]], -1.0, -1.0)]),
        text_answers.Answered(-9.0, [Hypothesis([city[1]], -2.0, -2.0), Hypothesis([city[2]], -2.5, -2.5)]),
    ]
    monkeypatch.setattr(text_answers, "encode_prompts", lambda *_: [PromptWindow([1], 0, 0, 1)] * 2)
    monkeypatch.setattr(text_answers, "_answer_windows", lambda *_: windows)
    (found,) = GENERATION.answer(loaded, [example("who ?", CONTEXT)], AnswerOptions(n_best=3))
    assert (found.text, found.score, found.null_score, found.windows) == (tiny.CITIES[1], -2.0, -9.0, 2)
    assert [each.text for each in found.n_best] == [tiny.CITIES[1], tiny.CITIES[2], tiny.CITIES[0]]
    (found,) = GENERATION.answer(loaded, [example("who ?", CONTEXT)], AnswerOptions(null_threshold=-7.5))
    assert found.text == ""


def manifest(loaded: TrainableModel, prompt: Prompt) -> Manifest:
    step = Step("train", {"prompt_template": prompt.to_dict()}, 0, None, 1.0, {})
    return Manifest(loaded.family.name, "full", None, [step])


def test_it_is_asked_as_it_was_trained(loaded: TrainableModel, capsys: pytest.CaptureFixture[str]) -> None:
    text_answers._warn_once.cache_clear()
    trained = replace(loaded, manifest=manifest(loaded, PROMPTS["plain"]))
    assert text_answers.prompt_of(loaded, None) == T5
    assert text_answers.prompt_of(trained, None) == PROMPTS["plain"]
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert text_answers.prompt_of(trained, T5) == T5
    assert capsys.readouterr().err.count("was trained with the prompt") == 1
    broken = replace(
        loaded, manifest=Manifest("seq2seq", "full", None, [Step("t", {"prompt_template": 3}, 0, None, 1, {})])
    )
    with pytest.raises(InputError, match="the manifest of tiny is not a prompt"):
        text_answers.prompt_of(broken, None)


def test_what_overflows_in_fp16_stays_in_fp32(tmp_path: Path) -> None:
    folder = makers.seq2seq(tmp_path / "t5")
    exact = load(str(folder), device="cpu").model.state_dict()
    half = load(str(folder), device="cpu", dtype="float16").model.state_dict()
    for name, tensor in half.items():
        if ".wo." in name:
            assert torch.equal(tensor, exact[name])
        else:
            assert torch.equal(tensor, exact[name].half())
    assert any(".wo." in name for name in half)


def test_teachers(loaded: TrainableModel, tmp_path: Path) -> None:
    reader = load_trainable(Source("reader", tiny.checkpoint(tmp_path / "reader")))
    assert GENERATION.pairing(reader, loaded) is None  # its answers teach
    other = load_trainable(Source("other", makers.seq2seq(tmp_path / "other")))
    other.tokenizer.add_tokens(["more"])
    with pytest.raises(InputError, match="has another vocabulary than the student"):
        GENERATION.pairing(other, loaded)


@pytest.fixture
def spoiled(tmp_path: Path) -> TrainableModel:
    found = load_trainable(Source("spoiled", makers.seq2seq(tmp_path / "t5")))
    torch.nn.init.constant_(found.model.get_parameter("shared.weight"), float("nan"))
    return found


def test_logits_that_are_not_numbers(spoiled: TrainableModel) -> None:
    with pytest.raises(InputError, match="spoiled gives logits that are not numbers"):
        list(GENERATION.answer(spoiled, [example("who ?", CONTEXT)], AnswerOptions()))
