"""Figures of language models: perplexity against a loop over single tokens, the harness on a task made here."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.data.shots import drawn
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.evaluate import evaluate as evaluation
from compresskit.evaluate import harness
from compresskit.evaluate.evaluate import evaluate
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.answering import AnswerOptions
from compresskit.models.prompt import PROMPTS
from compresskit.models.registry import load
from compresskit.models.tasks import language, text_answers
from tests import tiny

OPTIONS = AnswerOptions(max_length=24, stride=8, batch_size=3)
SETTINGS = EvalSettings(max_length=24, stride=8, batch_size=3, device="cpu", latency_questions=2)
VOCABULARY = len(tiny.TOKENS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("language")
    torch.manual_seed(0)
    causal = GPT2Config(
        vocab_size=VOCABULARY, n_positions=256, n_embd=16, n_layer=2, n_head=2, bos_token_id=3, eos_token_id=3
    )
    seq2seq = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    seq2seq.decoder_start_token_id = 0
    models = {"causal": GPT2LMHeadModel(causal), "seq2seq": T5ForConditionalGeneration(seq2seq)}
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "[SEP]"
    for name, model in models.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {name: root / name for name in models}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Paragraphs shorter and longer than a window, and than two."""
    paragraphs = []
    for index, count in enumerate((3, 30, 55, 24, 25)):
        context = " ".join(tiny.WORDS[(index + word) % len(tiny.WORDS)] for word in range(count))
        answer = {"text": context.split()[1], "answer_start": context.index(context.split()[1])}
        questions = [
            {"id": f"a{index}", "question": "what is rome ?", "answers": [answer], "is_impossible": False},
            {"id": f"n{index}", "question": "who is rome ?", "answers": [], "is_impossible": True},
        ]
        paragraphs.append({"context": context, "qas": questions})
    path = tmp_path_factory.mktemp("data") / "eval.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return str(path)


@torch.no_grad()
def naive_causal(model, tokenizer, texts: list[str], length: int, stride: int) -> float:
    """Predict token after token; a token sees what is in front of it in its window."""
    losses = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        starts = [0]
        while starts[-1] + length < len(ids):
            starts.append(starts[-1] + length - stride)
        done = 0
        for start in starts:
            for position in range(done, min(start + length, len(ids))):
                if position > start:
                    logits = model(torch.tensor([ids[start:position]])).logits[0, -1]
                    losses.append(-float(logits.log_softmax(-1)[ids[position]]))
            done = min(start + length, len(ids))
    return math.exp(sum(losses) / len(losses))


@torch.no_grad()
def naive_seq2seq(model, tokenizer, examples) -> float:
    losses = []
    for example in examples:
        if example.answers:
            prompt = f"question: {example.question}  context: {example.context}"
            ids = torch.tensor([tokenizer(prompt)["input_ids"]])
            target = tokenizer(example.answers[0].text)["input_ids"]
            for position, token in enumerate(target):
                decoder = torch.tensor([[0, *target[:position]]])
                logits = model(input_ids=ids, decoder_input_ids=decoder).logits[0, -1]
                losses.append(-float(logits.log_softmax(-1)[token]))
    return math.exp(sum(losses) / len(losses))


def test_perplexity_is_that_of_a_plain_loop(folders: dict[str, Path], data: str) -> None:
    examples = load_data(data, "eval")
    causal = load(str(folders["causal"]), device="cpu")
    texts = [context for _, context in examples.paragraphs()]
    expected = naive_causal(causal.model, causal.tokenizer, texts, 24, 8)
    assert language.perplexity(causal, examples, OPTIONS) == pytest.approx(expected, rel=1e-4)
    seq2seq = load(str(folders["seq2seq"]), device="cpu")
    expected = naive_seq2seq(seq2seq.model, seq2seq.tokenizer, examples)
    options = AnswerOptions(max_length=200)  # no context is cut
    assert seq2seq.task.perplexity(seq2seq, examples, options) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_paragraphs_without_a_token_are_passed_over(folders: dict[str, Path], size: int) -> None:
    """Whether a batch has others or not; padding outside of the model's vocabulary is not read."""
    causal = load(str(folders["causal"]), device="cpu")
    causal.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A", special_tokens=[])
    causal.tokenizer.add_special_tokens({"pad_token": "<more>"})
    assert causal.tokenizer.pad_token_id >= VOCABULARY
    long, short = " ".join(tiny.WORDS[:20]), " ".join(tiny.WORDS[5:8])
    data: Any = SimpleNamespace(paragraphs=lambda: [("t", text) for text in ("", long, "   ", short)])
    expected = naive_causal(causal.model, causal.tokenizer, [long, short], 24, 8)
    options = AnswerOptions(max_length=24, stride=8, batch_size=size)
    assert language.perplexity(causal, data, options) == pytest.approx(expected, rel=1e-4)
    data.paragraphs = lambda: [("t", "")]
    with pytest.raises(InputError, match="perplexity needs text to predict"):
        language.perplexity(causal, data, options)


def test_a_model_that_gives_no_numbers(folders: dict[str, Path], data: str) -> None:
    loaded = load(str(folders["causal"]), device="cpu")
    torch.nn.init.constant_(loaded.model.get_parameter("transformer.wte.weight"), float("nan"))
    with pytest.raises(InputError, match="not numbers"):
        language.perplexity(loaded, load_data(data, "eval"), OPTIONS)


def test_a_perplexity_that_no_float_holds(folders: dict[str, Path], data: str) -> None:
    """Its row tells of none; the answers can be scored all the same."""
    for name in ("causal", "seq2seq"):
        loaded = load(str(folders[name]), device="cpu")
        model: Any = loaded.model
        output = model.get_output_embeddings()
        output.register_forward_hook(lambda _, __, logits: logits * 1e6)
        assert loaded.task.perplexity(loaded, load_data(data, "eval"), replace(OPTIONS, max_length=64)) == math.inf
    row = Row("a", "a", "causal", "-", False, metrics={"ppl": math.inf})
    found = Outcome.from_json(Outcome(row=row).to_json()).row
    assert found is not None
    assert found.metrics == {"ppl": None}


@pytest.mark.usefixtures("measured_here")
def test_rows_of_language_models_beside_a_reader(folders: dict[str, Path], data: str, tmp_path: Path) -> None:
    settings = EvalSettings(max_length=64, stride=8, device="cpu", latency_questions=0, metrics=("ppl",))
    reader = tiny.checkpoint(tmp_path / "reader")
    report = evaluate([str(folders["causal"]), str(reader)], data, settings, baseline=str(reader))
    causal, asked = report.rows
    assert (causal.family, causal.error) == ("causal", None)
    assert 1 < (causal.metrics["ppl"] or 0) < 1000
    assert causal.params_total == sum(
        p.numel() for p in GPT2LMHeadModel.from_pretrained(folders["causal"]).parameters()
    )
    assert asked.metrics == {"ppl": None}
    assert None not in (asked.em, causal.em)


def others(data: str, folder: Path) -> str:
    """A file like `data` that asks other questions."""
    path = folder / "others.json"
    path.write_text(Path(data).read_text().replace('"question": "', '"question": "And '))
    return str(path)


def test_examples_must_not_be_of_the_questions(folders: dict[str, Path], data: str) -> None:
    settings = replace(SETTINGS, max_length=200, shots=1, shots_data=data)
    with pytest.raises(
        UsageError, match=r"--shots-data .* shares 10 questions with the evaluation data; show examples"
    ):
        evaluate([str(folders["causal"])], data, settings)


@pytest.mark.usefixtures("measured_here")
def test_examples_before_the_questions(folders: dict[str, Path], data: str, tmp_path: Path) -> None:
    """They are in the prompt, as many as fit, and the row tells of them."""
    loaded = load(str(folders["causal"]), device="cpu")
    shots = tuple(drawn(load_data(data, "train"), 2, 0))
    prompt = text_answers.prompt_of(loaded, None)
    own = text_answers.with_shots(loaded, prompt, AnswerOptions(1000, 8, shots=shots))
    told = [shot.answers[0].text if shot.answers else "I don't know" for shot in shots]
    parts = [f"{prompt.text(shot.question, shot.context)} {answer}" for shot, answer in zip(shots, told, strict=True)]
    assert own.text("Q?", "C") == "\n\n".join([*parts, prompt.text("Q?", "C")])
    length = 8 + text_answers.LEAST_ROOM + len(loaded.tokenizer(parts[0] + "\n\n")["input_ids"])
    one = text_answers.with_shots(loaded, prompt, AnswerOptions(length, 8, shots=shots))
    assert one.text("Q?", "C") == "\n\n".join([parts[0], prompt.text("Q?", "C")])
    with pytest.raises(UsageError, match="0 of 2 examples fit before a question in --max-length 120 with --stride 8; "):
        text_answers.with_shots(loaded, prompt, AnswerOptions(120, 8, shots=shots))
    ref = others(data, tmp_path)
    settings = replace(SETTINGS, max_length=200, shots=1, shots_data=ref, prompt_template=PROMPTS["plain"])
    (row,) = evaluate([str(folders["causal"])], data, settings).rows
    assert row.error is None
    assert (row.settings["shots"], row.settings["shots_data"]) == (1, ref)
    assert row.settings["prompt_template"] == PROMPTS["plain"].to_dict()


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize("ref", ["demo", "rajpurkar/squad_v2"])
def test_examples_are_from_the_training_set_of_the_data(
    ref: str, folders: dict[str, Path], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is one, and other data are not given."""
    asked: list[tuple[str, str]] = []

    def loaded(name: str, split: Any, **_: Any) -> ExampleSet:
        asked.append((name, split))
        return load_data(data if split == "eval" else others(data, tmp_path), split)

    monkeypatch.setattr(evaluation, "load_data", loaded)
    settings = replace(SETTINGS, max_length=200, shots=1, latency_questions=0)
    (row,) = evaluate([str(folders["causal"])], ref, settings).rows
    assert row.error is None
    assert asked == [(ref, "eval"), (ref, "train")]
    assert row.settings["shots_data"] == ref
    assert replace(settings, shots_data="own.json").for_data(ref).shots_data == "own.json"
    assert SETTINGS.for_data(ref) == SETTINGS


def test_the_harness_has_to_be_there(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    harness.check_language_figures([str(folders["causal"])], SETTINGS)
    with pytest.raises(MissingError, match="pip install 'lm_eval"):
        harness.check_language_figures([str(folders["causal"])], replace(SETTINGS, harness=("hellaswag",)))


@pytest.mark.parametrize(
    ("flag", "settings"),
    [("--metrics ppl", replace(SETTINGS, metrics=("ppl",))), ("--harness", replace(SETTINGS, harness=("hellaswag",)))],
)
def test_figures_of_language_models_have_no_effect_on_readers(
    flag: str, settings: EvalSettings, tmp_path: Path
) -> None:
    reader = str(tiny.checkpoint(tmp_path / "reader"))
    with pytest.raises(UsageError, match=flag):
        harness.check_language_figures([reader], settings)
    # What cannot be opened gets a row that says so.
    harness.check_language_figures([reader, str(tmp_path / "nothing")], replace(settings, harness=()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_the_harness_scores_a_task(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """A task of four examples in a YAML file: its accuracy arrives, under the harness's own name."""
    pytest.importorskip("lm_eval")
    choices = list(tiny.CITIES)
    lines = [
        {"question": f"what is {country} ?", "choices": choices, "label": i} for i, country in enumerate(tiny.COUNTRIES)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "cities.yaml").write_text(
        f"""
task: cities
dataset_path: json
dataset_kwargs: {{data_files: {tmp_path / "data.jsonl"}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
    )
    settings = EvalSettings(max_length=48, stride=8, device="cpu", harness=(str(tmp_path / "cities.yaml"),))
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    model, tokenizer = auto.from_pretrained(folders[kind]), AutoTokenizer.from_pretrained(folders[kind])
    found = harness.harness(model, tokenizer, kind, 48, settings)
    assert list(found) == ["cities/acc"]
    assert found["cities/acc"] in {0.0, 0.25, 0.5, 0.75, 1.0}
    with pytest.raises(Exception, match="knows no task 'nothing'"):
        harness.harness(model, tokenizer, kind, 48, replace(settings, harness=("nothing",)))
