"""Language models on the command line: examples before the questions, and what is refused in one line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from compresskit.checkpoint.manifest import read_manifest
from compresskit.data.load import load as load_data
from compresskit.data.negatives import SUFFIX, with_negatives
from compresskit.data.shots import drawn
from compresskit.evaluate.predict import answer_one
from compresskit.models.answering import AnswerOptions, WindowOptions
from compresskit.models.prompt import PROMPTS
from compresskit.models.registry import load
from compresskit.models.tasks.causal import CAUSAL
from tests import tiny
from tests.cli.conftest import Run, Trained
from tests.contract import makers

ROOM = ["--max-length", "240", "--stride", "8"]


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.causal(tmp_path_factory.mktemp("causal") / "model", positions=512)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.data(tmp_path_factory.mktemp("data") / "train.json")


@pytest.fixture(scope="module")
def unanswered(data: Path) -> Path:
    """The same questions, none of which has an answer."""
    document = json.loads(data.read_text())
    for paragraph in document["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            question |= {"answers": [], "is_impossible": True}
    path = data.with_name("unanswered.json")
    path.write_text(json.dumps(document))
    return path


def test_predict_shows_examples_before_the_question(causal: Path, data: Path, run: Run) -> None:
    """Those that the seed draws, as `eval` has them."""
    question, context = "what is rome ?", "rome is the capital of italy ."
    words = ["predict", causal, "-q", question, "-c", context, "--device", "cpu", *ROOM]
    loaded = load(str(causal), device="cpu")
    scores = []
    for seed in (0, 1):
        found = json.loads(run(*words, "--shots", "2", "--shots-data", data, "--seed", str(seed)).out)
        shots = tuple(drawn(load_data(str(data), "train"), 2, seed))
        options = AnswerOptions(240, 8, shots=shots)
        expected = answer_one(loaded, question, context, options)
        assert (found["text"], found["score"]) == (expected.text, pytest.approx(expected.score))
        scores.append(found["score"])
    scores.append(json.loads(run(*words).out)["score"])
    assert len(set(scores)) == 3


@pytest.mark.parametrize("verb", ["eval", "predict"])
@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (2, "--shots 2", "--shots 2 needs --shots-data"),
        (2, "--shots-data DATA", "--shots-data DATA has no effect without --shots"),
        (2, "--seed 3", "--seed 3 has no effect without "),
        (2, "--shots 9 --shots-data DATA", "--shots 9 is not "),
        (3, "--shots 2 --shots-data NONE", "NONE has no question with an answer to show; give other --shots-data"),
        (3, "--shots 2 --shots-data nowhere.json", "nowhere.json: no such file"),
    ],
)
def test_examples_that_cannot_be_shown(
    code: int, words: str, told: str, verb: str, causal: Path, data: Path, unanswered: Path, refused
) -> None:
    own = ["--data", str(data)] if verb == "eval" else ["-q", "Who?", "-c", "Rome."]
    known = {"DATA": str(data), "NONE": str(unanswered)}
    line = refused(code, verb, causal, *own, *(known.get(word, word) for word in words.split()))
    assert line.replace(str(data), "DATA").replace(str(unanswered), "NONE").startswith(told)


def test_examples_that_do_not_fit(causal: Path, data: Path, refused, run: Run) -> None:
    """Some are shown with a warning that counts them; where none fits there is nothing to show."""
    words = ["predict", causal, "-q", "Who?", "-c", "rome", "--device", "cpu", "--shots", "3", "--shots-data", data]
    line = refused(2, *words, "--max-length", "96", "--stride", "8")
    assert line.startswith("0 of 3 examples fit before a question in --max-length 96 with --stride 8; with ")
    length = line.split()[-3]
    assert run(*words, "--max-length", length, "--stride", "8").err == ""
    shorter = run(*words, "--max-length", str(int(length) - 1), "--stride", "8")
    assert shorter.code == 0
    assert shorter.err.startswith("warning: 2 of 3 examples fit")


def test_examples_before_a_reader_of_spans(trained: Trained, data: Path, refused) -> None:
    words = ["predict", trained.dense, "-q", "Who?", "-c", "Rome.", "--shots", "2", "--shots-data", data]
    assert refused(2, *words).startswith("--shots 2 has no effect with")


# Vocabularies, formats, lengths


def mamba(folder: Path, vocabulary: int) -> Path:
    """A Mamba with so many rows of embeddings, of which the last are the likeliest tokens, and no padding token."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token, tokenizer.pad_token = tokenizer.sep_token, None
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, state_size=4, tie_word_embeddings=False
    )
    model = MambaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[len(tiny.TOKENS) :] *= 30
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_vocabulary_with_rows_that_the_tokenizer_has_no_token_for(tmp_path: Path, data: Path, run: Run) -> None:
    """They are never written, and the model is trained as any other."""
    folder = mamba(tmp_path / "padded", len(tiny.TOKENS) + 6)
    question = ["-q", "what is rome ?", "-c", "rome is the capital of italy .", "--null-threshold", "1e9"]
    found = json.loads(run("predict", folder, *question, "--n-best", "3").out)
    assert len(found["n_best"]) == 3
    assert all(each["text"] for each in found["n_best"])
    words = ["-o", tmp_path / "out", "--train-data", data, "--max-steps", "2", "--batch-size", "4", "--device", "cpu"]
    assert run("train", folder, *words, "--max-length", "64", "--stride", "8").code == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == len(tiny.TOKENS) + 6


@pytest.mark.parametrize("verb", ["predict", "train"])
def test_a_tokenizer_with_more_tokens_than_the_vocabulary(verb: str, tmp_path: Path, data: Path, refused) -> None:
    """Added tokens count: they too would be looked up in the embeddings."""
    folder = mamba(tmp_path / "padded", len(tiny.TOKENS))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(folder)
    own = ["-q", "Who?", "-c", "Rome."] if verb == "predict" else ["-o", "out", "--train-data", data]
    line = refused(3, verb, folder, *own)
    known = len(tiny.TOKENS)
    assert line.startswith(f"{folder} holds the tokenizer of another model ({known + 1} tokens, {known} known); copy")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_checkpoint_of_mamba_ssm(weights: str, place: Path, refused) -> None:
    """In a folder that is called after the model, transformers would take it for one of another size."""
    folder = place / "mamba-tiny"
    folder.mkdir()
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 50, "ssm_cfg": {}, "rms_norm": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / weights).write_bytes(b"not to be opened")
    line = refused(3, "predict", "mamba-tiny", "-q", "Who?", "-c", "Rome.")
    assert line.startswith("mamba-tiny is in mamba-ssm's own format, ")
    assert "state-spaces/mamba-130m-hf" in line
    assert "docs/reference/mamba.md" in line


def test_the_conversion_that_the_docs_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it stands there, on weights under the names of mamba-ssm."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "mamba.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    torch.manual_seed(0)
    own = MambaForCausalLM(MambaConfig(vocab_size=48, hidden_size=32, num_hidden_layers=2))
    (tmp_path / "own").mkdir()
    tensors = {name.replace("embeddings.", "embedding."): value.clone() for name, value in own.state_dict().items()}
    save_file(tensors, tmp_path / "own" / "model.safetensors")
    (tmp_path / "own" / "config.json").write_text(json.dumps({"d_model": 32, "n_layer": 2, "vocab_size": 47}))
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as offline:
        offline.setattr(AutoTokenizer, "from_pretrained", lambda name: tiny.tokenizer())
        exec(code, {})
    ids = torch.arange(10).unsqueeze(0)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "converted")(ids).logits
        assert torch.equal(found, own.eval()(ids).logits)
    assert load(str(tmp_path / "converted"), device="cpu").family.name == "causal"


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_answers_that_do_not_fit_beside_their_prompts(plan: list[str], tmp_path: Path, refused, run: Run) -> None:
    """43 tokens after a prompt of up to 97, in 128 positions; with the length that is told they fit."""
    folder = makers.causal(tmp_path / "model")
    context = " ".join(["rome is the capital of italy ."] * 14)
    answer = {"text": " ".join(["rome is the capital of italy ."] * 6), "answer_start": 0}
    questions = [
        {"id": "long", "question": "what is rome ?", "answers": [answer], "is_impossible": False},
        {"id": "none", "question": "who is rome ?", "answers": [], "is_impossible": True},
    ]
    document = {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}], "version": "v2.0"}
    (tmp_path / "data.json").write_text(json.dumps(document))
    words = ["train", folder, "-o", "out", "--train-data", tmp_path / "data.json", "--max-steps", "1"]
    words += ["--device", "cpu", "--stride", "16", "--batch-size", "2"]
    line = refused(2, *words, "--max-length", "97", *plan, told=not plan)
    told = re.fullmatch(
        r"--max-length 97 and answers of up to (43) tokens \(1 of them\) are more than the 128 tokens that the model "
        r"reads; lower it to (85), or leave out the longest answers",
        line,
    )
    assert told is not None, line
    assert run(*words, "--max-length", told[2], *plan).code == 0


def test_prompts_that_leave_no_room_for_an_answer(causal: Path, run: Run, refused) -> None:
    """A model of attention reads as many tokens as it has positions, and no more."""
    context = " ".join(["rome is the capital of italy ."] * 80)
    words = ["predict", causal, "-q", "what is rome ?", "-c", context, "--device", "cpu", "--max-length", "512"]
    line = refused(2, *words)
    assert re.match(r"a prompt of 5\d\d tokens leaves no room for an answer, .*; lower --max-length to 483, or", line)
    assert run(*words[:-1], "483").code == 0


def test_the_word_for_unanswerable_takes_room_too(causal: Path, tmp_path: Path, run: Run, refused) -> None:
    """50 words and an end; the last token is not read: 51 - 1 + 462 are the 512 positions."""
    template, context = {"template": "{context} {question}"}, " ".join(["rome is the capital of italy ."] * 80)
    words = ["predict", causal, "-q", "what is rome ?", "-c", context, "--device", "cpu"]
    words += ["--prompt-template", tmp_path / "prompt.json", "--max-length"]
    (tmp_path / "prompt.json").write_text(json.dumps({**template, "unanswerable": "rome " * 50}))
    assert re.match(
        r"a prompt of 4\d\d tokens leaves no room .*; lower --max-length to 462, or", refused(2, *words, "483")
    )
    assert run(*words, "462").code == 0
    (tmp_path / "prompt.json").write_text(json.dumps({**template, "unanswerable": "rome " * 500}))
    assert "the word for unanswerable of 501, leaves no room for a prompt in the 512 of " in refused(2, *words, "400")


@pytest.mark.parametrize("model", ["causal", "mamba"])
def test_targets_that_no_layer_has(model: str, causal: Path, data: Path, tmp_path: Path, refused) -> None:
    folder = causal if model == "causal" else mamba(tmp_path / "mamba", len(tiny.TOKENS))
    line = refused(2, "lora", folder, "-o", "out", "--train-data", data, "--targets", "nope", "--device", "cpu")
    assert line.startswith("--targets nope matches nothing in ")
    assert {"causal": "q_proj", "mamba": "x_proj"}[model] in line


# Constructed negatives


def test_constructed_negatives_are_taught_as_unanswerable(tmp_path: Path, data: Path, run: Run) -> None:
    """One for every answerable question, each after its own prompt; the run counts them."""
    folder = mamba(tmp_path / "model", len(tiny.TOKENS))
    words = ["-o", tmp_path / "out", "--train-data", data, "--max-steps", "2", "--batch-size", "4", "--device", "cpu"]
    done = run("train", folder, *words, "--max-length", "64", "--stride", "8", "--negatives", "1", "--seed", "3")
    assert done.code == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    found = manifest.steps[-1].data
    assert found is not None
    assert (found.questions, found.unanswerable) == (16 + 4 + 16, 4 + 16)
    examples = with_negatives(load_data(str(data), "train"), 1.0, 3)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompt = replace(PROMPTS["lines"], unanswerable="nobody lives there")
    CAUSAL.write(tokenizer, examples, WindowOptions(200, 8, prompt), tmp_path / "features")
    features = CAUSAL.open(tmp_path / "features")
    assert len(features) == len(examples)
    for example, feature in zip(examples, map(features.__getitem__, range(len(features))), strict=True):
        answer = example.answers[0].text if example.answers else prompt.unanswerable
        assert feature["labels"].tolist() == CAUSAL.target(tokenizer, [prompt.target(answer)], prompt)[0]
        asked = tokenizer(prompt.text(example.question, example.context))["input_ids"]
        assert feature["input_ids"].tolist() == asked[:-1]  # without the end that the tokenizer adds
    assert sum(example.id.endswith(SUFFIX) for example in examples) == 16
