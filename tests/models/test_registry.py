"""From a folder to a model, and everything that can be wrong with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer, ViTConfig, ViTForImageClassification

from compresskit.checkpoint.manifest import Manifest, Step
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.models.registry import load, load_trainable, require_head
from compresskit.models.source import resolve
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
    names = {path.name for path in loaded.files}
    assert names == {path.name for path in folder.iterdir()} - {"log.jsonl"}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_another_format(folder: Path, dtype: str) -> None:
    assert {parameter.dtype for parameter in load(str(folder), dtype=dtype).model.parameters()} == {
        getattr(torch, dtype)
    }


def test_weights_in_several_files(tmp_path: Path, folder: Path) -> None:
    one = load_trainable(resolve(str(folder)))
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


def test_what_the_trainer_keeps_is_not_deployed(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"x")
    assert "optimizer.pt" not in {path.name for path in load(str(folder), device="cpu").files}


def test_the_method_is_the_manifests(folder: Path) -> None:
    assert load(str(folder), device="cpu").method == "-"
    Manifest("encoder", "full", None, [Step("train", {}, 0, None, 1.0, {})]).write(folder)
    assert load(str(folder), device="cpu").method == "train"


@pytest.mark.parametrize("head", ["none", "mlm"])
def test_a_base_without_head_opens_but_may_not_answer(head: str, tmp_path: Path) -> None:
    loaded = load(str(tiny.save("bert", tmp_path / "base", head=head)), device="cpu")
    assert loaded.missing_head
    with pytest.raises(InputError, match="no trained question-answering head; fine-tune it first"):
        require_head(loaded)


# What is not there.


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


def vit(folder: Path) -> None:
    shutil.rmtree(folder)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTForImageClassification(config).save_pretrained(folder)
    tiny.bpe().save_pretrained(folder)


def slow_tokenizer(folder: Path) -> None:
    drop("tokenizer.json")(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')


def only(name: str) -> Callable[[Path], None]:
    """In place of the safetensors file, one of another format."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / name)

    return damage


def gguf(folder: Path) -> None:
    empty(folder)
    (folder / "model-q4.gguf").write_bytes(b"GGUF")


def in_a_subfolder(folder: Path) -> None:
    inner = folder.rename(folder.with_name("inner"))
    folder.mkdir()
    inner.rename(folder / "0_Transformer")
    (folder / "modules.json").write_text("[]")


def shard(folder: Path) -> list[Path]:
    loaded = load_trainable(resolve(str(folder)))
    loaded.model.save_pretrained(folder, max_shard_size="4KB")
    return sorted(folder.glob("model-*.safetensors"))


def truncate_shard(folder: Path) -> None:
    path = shard(folder)[1]
    path.write_bytes(path.read_bytes()[:-1])


def lose_shard(folder: Path) -> None:
    shard(folder)[1].unlink()


def break_index(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("[]")


def change_config(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return damage


def text(name: str, content: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(content)

    return damage


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGED = {
    "an empty folder": (
        empty,
        "is not a checkpoint: it has no config.json; give the folder that save_pretrained wrote",
    ),
    "GGUF alone": (gguf, r"is not a checkpoint: it has no config\.json; it holds GGUF weights of llama\.cpp; give the"),
    "GGUF weights": (only("a.gguf"), r"holds no safetensors weights; it holds GGUF weights of llama\.cpp; give the"),
    "a pickle": (only("pytorch_model.bin"), "it holds pickled weights, which .*; convert them where you trust them"),
    "pickles": (only("pytorch_model-00001-of-00002.bin"), "it holds pickled weights, which can run any code"),
    "TensorFlow": (only("tf_model.h5"), r"it holds TensorFlow weights; convert them with transformers 4"),
    "old TensorFlow": (only("model.ckpt.index"), "it holds TensorFlow weights; convert them with the script"),
    "Flax": (only("flax_model.msgpack"), "it holds Flax weights; convert them with transformers 4"),
    "a subfolder": (in_a_subfolder, r"no config\.json; its folder 0_Transformer has one: give .*0_Transformer$"),
    "a cut shard": (truncate_shard, r"model-00002-of-.* is not a whole safetensors file .*; copy or download it again"),
    "a missing shard": (lose_shard, r"lacks model-00002-of-.*, which model\.safetensors\.index\.json names; copy or"),
    "a broken index": (break_index, r"index\.json lists no weights; it is damaged"),
    "other sizes": (
        change_config(hidden_size=32),
        r"as a bert model \(its tensors have other shapes than config\.json",
    ),
    "no such activation": (change_config(hidden_act="no"), r"does not open as a bert model \(KeyError: 'no'\); it"),
    "impossible heads": (change_config(num_attention_heads=3), r"does not open as a bert model \(The hidden size"),
    "a text as size": (change_config(hidden_size="x"), r"config\.json cannot be read \(.*'hidden_size'"),
    "null as configuration": (text("config.json", "null"), r"config\.json cannot be read \(.*; it is damaged, or of"),
    "no configuration": (drop("config.json"), "bert is not a checkpoint: it has no config.json"),
    "a broken configuration": (text("config.json", "{"), r"config\.json cannot be read"),
    "a configuration of no model": (text("config.json", "{}"), r"config\.json cannot be read"),
    "an unknown model": (text("config.json", '{"model_type": "brt"}'), r"config\.json cannot be read \(.*brt"),
    "no weights": (drop("model.safetensors"), "holds no safetensors weights; convert"),
    "truncated weights": (
        truncate,
        r"model\.safetensors is not a whole safetensors file \(.*copy or download it again",
    ),
    "a cut header": (cut_header, r"model\.safetensors is not a whole safetensors file"),
    "missing tensors": (lose_tensors, r"lacks 2 tensors of a bert model, such as bert\.encoder\.layer\.0\.attention"),
    "no tokenizer": (drop("tokenizer.json", "tokenizer_config.json"), r"holds no tokenizer \(no tokenizer\.json"),
    "a cut tokenizer": (text("tokenizer.json", '{"version"'), r"holds no tokenizer \(.*; copy the files of its base"),
    "an odd tokenizer": (text("tokenizer.json", "[]"), r"holds no tokenizer \(TypeError"),
    "another family": (
        vit,
        r"is a vit model, of none of the families .* knows \(lstm, encoder, seq2seq, causal\)",
    ),
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


def test_a_package_that_a_checkpoint_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ImportError("You need to install rjieba to use RoFormerTokenizer.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(MissingError, match=r"holds no tokenizer: a package is not here \(.*rjieba.*\); install it"):
        load(str(folder), device="cpu")


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
        off = load_trainable(resolve(str(folder)), attention_dropout=0.0).model.train()
        on = load_trainable(resolve(str(folder))).model.train()
        assert repeats(off)
        assert not repeats(on)
    off.save_pretrained(tmp_path / "saved")
    for config in (off.config, AutoConfig.from_pretrained(tmp_path / "saved")):
        assert getattr(config, attention) == 0.5
    before, after = (json.loads((where / "config.json").read_text()) for where in (folder, tmp_path / "saved"))
    assert before == after
