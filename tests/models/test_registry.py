"""From what the user types to a model: names, folders, and everything that can be wrong with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForQuestionAnswering, GPT2Config, GPT2LMHeadModel

from compresskit.checkpoint.store import sha256_weights
from compresskit.errors import CompresskitError, InputError, MissingError, UsageError
from compresskit.models.registry import (
    Source,
    base_of,
    known_aliases,
    load,
    load_source,
    require_head,
    resolve,
    resolve_base,
)
from tests.models import tiny
from tests.models.tiny import KINDS, Kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save("bert", tmp_path / "bert")


# What opens.


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_opens_as_transformers_opens_it(kind: Kind, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind)
    (folder / "log.jsonl").write_text("{}\n")
    loaded = load(str(folder), device="cpu")
    theirs = AutoModelForQuestionAnswering.from_pretrained(folder)
    assert type(loaded.model) is type(theirs)
    assert not loaded.model.training
    ours = loaded.model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    assert (loaded.ref, loaded.path, loaded.manifest, loaded.revision) == (str(folder), folder, None, None)
    assert require_head(loaded) is loaded
    assert loaded.tokenizer.model_max_length == tiny.POSITIONS
    names = {path.name for path in loaded.deploy_files()}
    assert names == {path.name for path in folder.iterdir()} - {"log.jsonl"}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_another_format(folder: Path, dtype: str) -> None:
    assert {parameter.dtype for parameter in load(str(folder), dtype=dtype).model.parameters()} == {
        getattr(torch, dtype)
    }


def test_weights_in_several_files(tmp_path: Path, folder: Path) -> None:
    one = load(str(folder), device="cpu")
    one.model.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    one.tokenizer.save_pretrained(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    ours = load(str(tmp_path / "sharded"), device="cpu").model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in one.model.state_dict().items())


def test_the_built_in_model_is_the_same_every_time_and_has_no_head() -> None:
    loaded = load("demo/bert", device="cpu")
    assert loaded.missing_head
    again = load("demo/bert", device="cpu").model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in loaded.model.state_dict().items())
    with pytest.raises(InputError, match=r"demo/bert has no trained .* head; .*: compresskit train demo/bert$"):
        require_head(loaded)


@pytest.mark.parametrize("head", ["none", "mlm"])
def test_a_base_without_head_opens_but_may_not_answer(head: str, tmp_path: Path) -> None:
    loaded = load(str(tiny.save("bert", tmp_path / "base", head=head)), device="cpu")
    assert loaded.missing_head
    with pytest.raises(InputError, match="no trained question-answering head; fine-tune it first"):
        require_head(loaded)


def test_an_alias_is_the_hubs_id(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked = []
    snapshot = folder.rename(folder.with_name("0123abcd"))

    def snapshot_download(hub_id: str, revision: str | None = None, **_: Any) -> str:
        asked.append((hub_id, revision))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load("bert", device="cpu").revision == "0123abcd"
    assert load("someone/model", device="cpu").ref == "someone/model"
    assert asked == [("google-bert/bert-base-uncased", None), ("someone/model", None)]
    base = base_of(resolve("bert"), Path("out"))
    assert (base.ref, base.revision) == ("google-bert/bert-base-uncased", "0123abcd")
    assert base.sha256 == sha256_weights(snapshot)
    assert resolve_base(Path("out"), base).path == snapshot
    assert asked[-1] == (base.ref, "0123abcd"), "an overlay's base is that of its own revision"


# What is not there.


@pytest.mark.parametrize(
    ("ref", "near"),
    [
        ("brt", "bert"),
        ("Bert", "bert"),
        ("demo/brt", "demo/bert"),
        ("demo/bret", "demo/bert"),
        ("demobert", "demo/bert"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(ref: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"^unknown model '{ref}'; did you mean {near}\?$"):
        resolve(ref)


@pytest.mark.parametrize("ref", ["zzzzzz", "demo/zzzzzzzzzzzz"])
def test_a_name_like_none_lists_all(ref: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(ref)
    assert all(alias in str(caught.value) for alias in known_aliases())
    assert "a Hub id has the form owner/name" in str(caught.value)


@pytest.mark.parametrize("ref", ["./nowhere", "../no/where", "/no/where", "~/nowhere", "a/b/c", "."])
def test_a_path_is_a_path(ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if ref == ".":
        assert resolve(ref) == Source(".", Path("."))
        return
    with pytest.raises(InputError, match=f"^there is no folder {ref}$"):
        resolve(ref)


def test_without_a_hub_the_mend_is_named() -> None:
    """The suite runs with HF_HUB_OFFLINE=1."""
    with pytest.raises(MissingError) as caught:
        load("nobody/nothing-here")
    message = str(caught.value)
    assert message.startswith("there is no folder nobody/nothing-here here, and the Hub cannot be reached")
    assert "`hf download nobody/nothing-here --local-dir DIR`" in message
    assert "demo/bert" in message
    assert "\n" not in message


RESPONSE: Any = SimpleNamespace(headers={}, request=None)  # the Hub's client keeps no more of it


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            RepositoryNotFoundError("none", response=RESPONSE),
            InputError,
            "there is no folder a/b here, and the Hub has no such model",
        ),
        (HfHubHTTPError("500", response=RESPONSE), MissingError, "hf download a/b"),
        (ConnectionError("no route"), MissingError, "hf download a/b"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_hub_says(
    error: Exception, kind: type[CompresskitError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(kind, match=words):
        resolve("a/b")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(folder: Path) -> None:
    with pytest.raises(MissingError, match="no CUDA device here; use --device cpu"):
        load(str(folder), device="cuda")


@pytest.mark.parametrize(("device", "dtype"), [("tpu", "float32"), ("cpu", "int3")])
def test_unknown_devices_and_formats(folder: Path, device: str, dtype: str) -> None:
    with pytest.raises(UsageError, match=r"unknown d(evice 'tpu'; use auto|type 'int3'; use float32)"):
        load(str(folder), device=device, dtype=dtype)


# What is broken.


def drop(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5])


def lose_tensors(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in ("bert.encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.1.output.dense.bias"):
        del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


def gpt2(folder: Path) -> None:
    shutil.rmtree(folder)
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.bpe().save_pretrained(folder)


def slow_tokenizer(folder: Path) -> None:
    drop("tokenizer.json")(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')


def text(name: str, content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(content)

    return damage


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGED = {
    "an empty folder": (empty, "bert is no checkpoint: it has no config.json"),
    "no configuration": (drop("config.json"), "bert is no checkpoint: it has no config.json"),
    "a broken configuration": (text("config.json", "{"), r"config\.json cannot be read"),
    "a configuration of no model": (text("config.json", "{}"), r"config\.json cannot be read"),
    "an unknown model": (text("config.json", '{"model_type": "brt"}'), r"config\.json cannot be read \(.*brt"),
    "no weights": (drop("model.safetensors"), "holds no safetensors weights; convert"),
    "truncated weights": (truncate, r"model\.safetensors is no whole safetensors file \(.*copy or download it again"),
    "a cut header": (cut_header, r"model\.safetensors is no whole safetensors file"),
    "missing tensors": (lose_tensors, r"lacks 2 tensors of a bert model, such as bert\.encoder\.layer\.0\.attention"),
    "another family": (gpt2, r"is a gpt2 model, of none of the families that compresskit knows \(encoder\)"),
    "a slow tokenizer": (slow_tokenizer, r"no fast tokenizer \(tokenizer\.json\)"),
    "a broken manifest": (text("compresskit.json", "{"), r"compresskit\.json is not valid JSON"),
    "a manifest of the future": (text("compresskit.json", '{"schema": "compresskit.checkpoint/9"}'), "has schema"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_bad_input(name: str, folder: Path) -> None:
    damage, message = DAMAGED[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


# Dropout of attention weights, which a CPU does without.


@pytest.mark.parametrize("kind", KINDS)
def test_attention_dropout_is_off_in_the_process_and_kept_in_the_configuration(kind: Kind, tmp_path: Path) -> None:
    attention = "attention_dropout" if kind == "distilbert" else "attention_probs_dropout_prob"
    hidden = "dropout" if kind == "distilbert" else "hidden_dropout_prob"
    other: dict[str, Any] = {"qa_dropout": 0.0} if kind == "distilbert" else {}
    folder = tiny.save(kind, tmp_path / kind, **{**other, attention: 0.5, hidden: 0.0})

    def repeats(model: nn.Module) -> bool:
        ids = torch.arange(7, 17)[None]
        return torch.equal(model(input_ids=ids).start_logits, model(input_ids=ids).start_logits)

    with torch.no_grad():
        off = load_source(resolve(str(folder)), attention_dropout=0.0).model.train()
        on = load_source(resolve(str(folder))).model.train()
        assert repeats(off)
        assert not repeats(on)
    off.save_pretrained(tmp_path / "saved")
    for config in (off.config, AutoConfig.from_pretrained(tmp_path / "saved")):
        assert getattr(config, attention) == 0.5
    before, after = (json.loads((where / "config.json").read_text()) for where in (folder, tmp_path / "saved"))
    assert before == after
