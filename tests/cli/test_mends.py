"""Mends that work: each command that an error names ends well, and what was refused then passes."""

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoTokenizer

from tests.cli.conftest import Run, Trained
from tests.cli.mends import commands_in, follow, meant_by

ASKED = ("-q", "Who?", "-c", "Ada wrote it.", "--device", "cpu")


@pytest.fixture
def headless(trained: Trained, place: Path) -> Path:
    """A checkpoint without a head, in a folder whose name a shell would cut in two."""
    folder = place / "no head"
    AutoModel.from_pretrained(trained.dense).save_pretrained(folder)
    AutoTokenizer.from_pretrained(trained.dense).save_pretrained(folder)
    return folder.relative_to(place)


def adapter_on(base: Path, folder: Path) -> Path:
    """An adapter of plain PEFT, which brings no head."""
    model = AutoModelForQuestionAnswering.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(str(folder))
    return folder


def test_a_checkpoint_without_a_head(headless: Path, trained: Trained, run: Run) -> None:
    refused = run("predict", headless, *ASKED)
    assert refused.code == 3
    follow(refused.err, run, trained)
    assert run("predict", "runs/no head-train", *ASKED).code == 0


def test_an_adapter_without_a_head(headless: Path, trained: Trained, run: Run) -> None:
    refused = run("predict", adapter_on(headless, Path("adapter")), *ASKED)
    assert refused.code == 3
    assert [words[0] for words in commands_in(refused.err)] == ["merge", "train"]
    follow(refused.err, run, trained)
    assert run("predict", "runs/adapter-merged-train", *ASKED).code == 0


def test_an_adapter_that_is_to_be_trained(trained: Trained, place: Path, run: Run) -> None:
    refused = run("train", adapter_on(trained.dense, Path("adapter")), *trained.short)
    assert refused.code == 3
    follow(refused.err, run, trained)
    assert run("train", "adapter-merged", "--plan", *trained.short).code == 0


def test_inspect_calls_an_adapter_one(trained: Trained, place: Path, run: Run) -> None:
    done = run("inspect", adapter_on(trained.dense, Path("adapter")))
    assert (done.code, "kind        adapter, of another tool" in done.out) == (0, True)


def test_a_mistyped_path(trained: Trained, place: Path, run: Run) -> None:
    shutil.copytree(trained.dense, "runs/dense")
    for word in ("runs/dnese", "./runs/dnese", "./rnus/dense"):
        refused = run("predict", word, *ASKED)
        assert refused.code == 3, refused.err
        assert run("predict", meant_by(refused.err), *ASKED).code == 0


def test_a_pointer_of_git_lfs(trained: Trained, place: Path, run: Run) -> None:
    shutil.copytree(trained.dense, "pulled")
    Path("pulled/model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    for words in (("predict", "pulled", *ASKED), ("inspect", "pulled"), ("merge", "pulled")):
        done = run(*words)
        assert (done.code, "run `git lfs pull` in pulled\n" in done.err) == (3, True), done.err


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "BertTokenizer"])
def test_a_bert_whose_tokenizer_gives_no_types(name: str, trained: Trained, place: Path, run: Run) -> None:
    """With the class that the warning names there is none."""
    shutil.copytree(trained.dense, name)
    Path(name, "compresskit.json").unlink()
    path = Path(name, "tokenizer_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": name}))
    done = run("predict", name, *ASKED)
    warned = "knows two types of tokens" in done.err and "such as BertTokenizer" in done.err
    assert (done.code, warned) == (0, name != "BertTokenizer")


def test_a_bert_whose_tokenizer_holds_its_types_back(trained: Trained, place: Path, run: Run) -> None:
    """The right class alone does not mend it."""
    shutil.copytree(trained.dense, "few")
    Path("few/compresskit.json").unlink()
    path = Path("few/tokenizer_config.json")
    settings = json.loads(path.read_text())
    for names, warned in ((["input_ids", "attention_mask"], True), (["input_ids", "token_type_ids"], False)):
        path.write_text(json.dumps({**settings, "model_input_names": names}))
        done = run("predict", "few", *ASKED)
        assert (done.code, "add token_type_ids to model_input_names" in done.err) == (0, warned), done.err


def test_each_fault_is_told_once(trained: Trained, place: Path, run: Run, monkeypatch) -> None:
    shutil.copytree(trained.dense, "runs/dense")
    Path("answers.json").write_text("{}")
    done = run("eval", "answers.json", "runs/dnese", "--data", trained.eval_data, "--format", "json")
    assert done.code == 3
    assert "did you mean runs/dense?" in done.out
    assert "did you mean" not in done.err
    done = run("eval", "answers.json", "--baseline", "runs/dnese", "--data", trained.eval_data)
    assert (done.code, done.out, done.err.count("did you mean runs/dense?")) == (3, "", 1)
