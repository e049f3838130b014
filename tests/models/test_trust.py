"""What a checkpoint's files say is checked before anything is opened: no pickle, no weights from elsewhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from compresskit.checkpoint.store import sha256_weights
from compresskit.cli.app import main
from compresskit.errors import InputError
from compresskit.models.kinds import fingerprint, patterns
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from tests.models import adapters, tiny

Spoil = Callable[[Path], None]
ENDLESS = "(([a-z._0-9]+)+)+X"


@pytest.fixture
def pickles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that torch.load was asked to open."""
    opened: list[str] = []
    original = torch.load

    def spy(file: Any, *args: Any, **options: Any) -> Any:
        opened.append(str(file))
        return original(file, *args, **options)

    monkeypatch.setattr(torch, "load", spy)
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.save("bert", tmp_path / "models" / "bert")


def indexed(name: str, content: Callable[[Path, Path], object] | None = None) -> Spoil:
    """In place of model.safetensors: an index that names `name`, where `content` puts the weights."""

    def spoil(folder: Path) -> None:
        whole = folder / "model.safetensors"
        weights = load_file(whole)
        save_file({"x": torch.zeros(1)}, folder / "y.safetensors")
        if content is not None:
            content(whole, folder / name)
        whole.unlink(missing_ok=True)
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def pickled(whole: Path, path: Path) -> None:
    weights = {name: weight.clone() for name, weight in load_file(whole).items()}  # the file may be about to go
    torch.save(weights, path)


def pickle_of_that_name(folder: Path) -> None:
    pickled(folder / "model.safetensors", folder / "model.safetensors")


def named_in_the_configuration(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub" / "x.safetensors")
    save_file({"x": torch.zeros(1)}, folder / "y.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": "sub/x.safetensors"}))


SPOILED: dict[str, tuple[Spoil, str]] = {
    "a pickle": (indexed("w.bin", pickled), r"index\.json names 'w\.bin', which is not a safetensors file of its own"),
    "a pickle of another name": (indexed("w.safetensors", pickled), r"w\.safetensors is not a whole safetensors file"),
    "a pickle in place of the weights": (pickle_of_that_name, r"model\.safetensors is not a whole safetensors file"),
    "the folder above": (indexed("../x.safetensors", shutil.copy), r"names '\.\./x\.safetensors', which is not a"),
    "a folder below": (indexed("./x.safetensors", shutil.copy), r"names '\./x\.safetensors', which is not a safete"),
    "no text": (indexed(7), "names '7', which is not a safetensors file of its own folder"),  # type: ignore[arg-type]
    "the configuration": (named_in_the_configuration, "names its weights .transformers_weights.; call them model"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_weights_that_are_not_opened(folder: Path, pickles: list[str], name: str) -> None:
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load(str(folder), device="cpu")
    assert pickles == []


def test_an_absolute_path(folder: Path, tmp_path: Path, pickles: list[str]) -> None:
    elsewhere = tmp_path / "x.safetensors"
    indexed(str(elsewhere), shutil.copy)(folder)
    assert elsewhere.exists()
    for use in (load, fingerprint):
        with pytest.raises(InputError, match=r"which is not a safetensors file of its own folder"):
            use(str(folder))
    assert pickles == []


@pytest.mark.parametrize("verb", ["predict", "inspect", "merge", "eval"])
def test_every_verb_refuses_a_pickle(
    folder: Path, tmp_path: Path, verb: str, pickles: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    indexed("w.bin", pickled)(folder)
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "yes?", "context": "a bad face"}\n')
    further = {
        "predict": ["--input", str(questions)],
        "merge": ["-o", str(tmp_path / "merged")],
        "eval": ["--data", "demo", "--limit", "4"],
    }
    assert main([verb, str(folder), *further.get(verb, [])]) == 3
    assert "'w.bin'" in capsys.readouterr().err
    assert pickles == []


@pytest.mark.parametrize("spoilt", ["base", "adapter", "adapter under the right name"])
def test_adapters(folder: Path, tmp_path: Path, spoilt: str, pickles: list[str]) -> None:
    adapter = adapters.make(
        folder, tmp_path / "adapter", LoraConfig(target_modules=["query"], task_type="QUESTION_ANS")
    )
    weights = adapter / "adapter_model.safetensors"
    if spoilt == "base":
        indexed("w.bin", pickled)(folder)
    elif spoilt == "adapter":
        pickled(weights, adapter / "adapter_model.bin")
        weights.unlink()
    else:
        pickled(weights, weights)
    with pytest.raises(InputError):
        load(str(adapter), device="cpu")
    assert pickles == []


# What stays allowed, and what is part of a hash


def sharded(folder: Path) -> list[Path]:
    load_trainable(resolve(str(folder))).model.save_pretrained(folder, max_shard_size="4KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    return sorted(folder.glob("model-*.safetensors"))


def test_a_checkpoint_in_parts_behind_the_links_of_a_cache(folder: Path, tmp_path: Path) -> None:
    expected = load_trainable(resolve(str(folder))).model.state_dict()
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate([*sharded(folder), folder / "model.safetensors.index.json"]):
        path.rename(blobs / str(number))
        path.symlink_to(Path("../..") / "blobs" / str(number))
    found = load_trainable(resolve(str(folder))).model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_the_hash_of_weights_tells_which_files_an_index_names(folder: Path) -> None:
    """It is the same for the usual index, and another where the index leaves a file out."""
    parts = sharded(folder)
    index = folder / "model.safetensors.index.json"
    whole = index.read_text()
    usual = sha256_weights(folder)
    index.write_text(whole + "\n")
    assert sha256_weights(folder) == usual
    shutil.copy(parts[0], folder / "model-other.safetensors")
    both = []
    for name in (parts[0].name, "model-other.safetensors"):
        index.write_text(whole.replace(parts[0].name, name))
        both.append(sha256_weights(folder))
    assert len({usual, *both}) == 3


# What no file makes us run, or wait for


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_configuration_names_no_code_of_the_hub(folder: Path, key: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: {"": "someone/kernel"}}))
    with pytest.raises(InputError, match=f"{key} .*someone/kernel.* never runs"):
        load(str(folder), device="cpu")


def test_an_adapters_pattern_has_to_end(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    lora = LoraConfig(target_modules=["query"], r=2, task_type="QUESTION_ANS")
    adapter = adapters.make(folder, tmp_path / "adapter", lora)
    plain = json.loads((adapter / "adapter_config.json").read_text())
    for change in ({"target_modules": f".*{ENDLESS}"}, {"rank_pattern": {ENDLESS: 2}}, {"modules_to_save": [ENDLESS]}):
        (adapter / "adapter_config.json").write_text(json.dumps({**plain, **change}))
        with pytest.raises(InputError, match="a pattern that takes too long"):
            load(str(adapter), device="cpu")


def test_an_adapters_pattern_is_taken(folder: Path, tmp_path: Path) -> None:
    lora = LoraConfig(target_modules=r".*\.(query|value)", r=2, task_type="QUESTION_ANS")
    assert load(str(adapters.make(folder, tmp_path / "adapter", lora)), device="cpu").made_by == "lora"


def test_a_configuration_of_odd_values_is_bad_input(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [1]}))
    with pytest.raises(InputError, match=r"config\.json of .* cannot be read"):
        load(str(folder), device="cpu")


def test_pieces_that_no_text_divides_into_are_not_asked_for(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "chunk_size_feed_forward": 7}))
    load(str(folder), device="cpu").model(input_ids=torch.zeros(1, 5, dtype=torch.int64))


def test_a_link_that_nobody_follows_may_lead_nowhere(folder: Path) -> None:
    (folder / "README.md").symlink_to("nowhere")
    load(str(folder), device="cpu")
    (folder / "x.safetensors").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"x\.safetensors does not exist"):
        load(str(folder), device="cpu")


def test_inspect_refuses_a_pickled_adapter(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = adapters.make(folder, tmp_path / "adapter", LoraConfig(target_modules=["query"], r=2))
    pickled(adapter / "adapter_model.safetensors", adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert main(["inspect", str(adapter)]) == 3
    assert "as a pickle" in capsys.readouterr().err
