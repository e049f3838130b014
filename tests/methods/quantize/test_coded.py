"""`quantize` of a mask: int8 codes, entropy-coded, that say what the int8 of the merged mask says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM

from compresskit.checkpoint.coded import FILE, load_coded
from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import sha256_file, sha256_weights
from compresskit.cli.app import main
from compresskit.errors import InputError
from compresskit.evaluate.measure import deploy_bytes, disk_bytes
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.int8 import Int8Embedding, Int8Linear
from compresskit.models.kinds import checkpoint_files, kind_of
from compresskit.models.lstm.model import LstmReader
from compresskit.models.registry import load
from compresskit.models.source import Source
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers
from tests.methods.quantize.test_int8 import FAMILIES, answers, base_of

LOADERS: dict[str, Any] = {
    "encoder": AutoModelForQuestionAnswering,
    "seq2seq": AutoModelForSeq2SeqLM,
    "lstm": LstmReader,
}


def quantize(source: Path, output: Path, activations: Any = "none") -> Path:
    return run(Job("quantize", QuantizeOptions(str(source), output), QuantizeConfig(activations=activations)))


def merge(source: Path, output: Path) -> Path:
    return run(Job("merge", MergeOptions(str(source), output), MergeConfig()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By family a folder with a base, a mask on it, and what `quantize` makes of the mask and of the merged one."""
    known: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in known:
            root = known[family] = tmp_path_factory.mktemp(family)
            makers.mask(base_of(family, root / "base"), root / "mask")
            quantize(root / "mask", root / "coded")
            quantize(merge(root / "mask", root / "merged"), root / "plain")
        return known[family]

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_its_tensors_and_answers_are_those_of_the_merged_masks_int8(family: str, made: Callable[[str], Path]) -> None:
    root = made(family)
    found, expected = load_coded(root / "coded"), load_file(root / "plain" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    ours, theirs = (load(str(root / name), device="cpu") for name in ("coded", "plain"))
    layers = [module for module in ours.model.modules() if isinstance(module, Int8Linear | Int8Embedding)]
    assert layers
    assert {layer.weight.dtype for layer in layers} == {torch.int8}
    assert ours.kind.stored(ours) == theirs.kind.stored(theirs)
    examples = tiny.examples(8)
    assert answers(ours, examples) == answers(theirs, examples)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_is_of_kind_quantized_and_holds_no_other_weights(family: str, made: Callable[[str], Path]) -> None:
    folder = made(family) / "coded"
    source = Source("coded", folder)
    assert kind_of(source).name == "quantized"
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.base is not None
    assert (manifest.kind, manifest.method) == ("quantized", "quantize/int8")
    assert (manifest.base.ref, manifest.base.sha256) == ("../mask", sha256_weights(folder.parent / "mask"))
    assert [path.name for path in folder.glob("*.safetensors")] == [FILE]
    assert sha256_weights(folder) == sha256_file(folder / FILE)
    files = checkpoint_files(source)
    assert folder / FILE in files
    assert disk_bytes(folder) == deploy_bytes(files) == sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("family", FAMILIES)
def test_other_loaders_stop(family: str, made: Callable[[str], Path]) -> None:
    error, message = (InputError, "compresskit merge") if family == "lstm" else (OSError, "model.safetensors")
    with pytest.raises(error, match=message):
        LOADERS[family].from_pretrained(made(family) / "coded")


@pytest.mark.parametrize("folder", ["coded", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merge_makes_a_plain_checkpoint_with_its_logits(
    family: str, folder: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    root = made(family)
    merge(root / folder, tmp_path / "full")
    manifest, before = read_manifest(tmp_path / "full"), read_manifest(root / folder)
    assert manifest is not None
    assert before is not None
    assert (manifest.kind, manifest.steps[:-1], manifest.method) == ("full", before.steps, "merge")
    tensors = load_file(tmp_path / "full" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} <= {torch.float32, torch.uint8}  # a BiLSTM's words
    assert tensors.keys() == load_file(root / "merged" / "model.safetensors").keys()
    model, ours, opened = (
        load(str(path), device="cpu") for path in (root / "merged", root / folder, tmp_path / "full")
    )
    plain = LOADERS[family].from_pretrained(tmp_path / "full")
    assert "quantization_config" not in json.loads((tmp_path / "full" / "config.json").read_text())
    assert type(plain) is type(model.model)
    examples = tiny.examples(8)
    expected = answers(ours, examples)
    for each in (plain.eval(), opened.model):
        opened.model = each
        for one, two in zip(answers(opened, examples), expected, strict=True):
            assert one.span_text == two.span_text
            assert one.null_score == pytest.approx(two.null_score, abs=1e-4)


def test_merge_leaves_a_head_out_that_was_never_trained(tmp_path: Path) -> None:
    base = makers.without_head(base_of("encoder", tmp_path / "base"))
    merge(quantize(base, tmp_path / "int8"), tmp_path / "full")
    assert not any(name.startswith("qa_outputs") for name in load_file(tmp_path / "full" / "model.safetensors"))


def test_merge_does_not_unpack_what_bitsandbytes_packed(tmp_path: Path) -> None:
    base = base_of("encoder", tmp_path / "base")
    run(Job("quantize", QuantizeOptions(str(base), tmp_path / "nf4"), QuantizeConfig(bits=4, backend="bitsandbytes")))
    with pytest.raises(InputError, match=r"nf4 is packed by bnb-4bit, and merge unpacks int8 of compresskit alone"):
        merge(tmp_path / "nf4", tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_how_inputs_are_taken_is_kept(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = quantize(made("encoder") / "mask", tmp_path / "coded", "int8")
    layers = [m for m in load(str(folder), device="cpu").model.modules() if isinstance(m, Int8Linear)]
    assert {layer.activations for layer in layers} == {"int8"}


def test_no_method_but_merge_takes_it(made: Callable[[str], Path], tmp_path: Path) -> None:
    folder = made("encoder") / "coded"
    with pytest.raises(InputError, match=r"coded is of kind quantized, and quantize takes full or mask; .*merge too"):
        quantize(folder, tmp_path / "again")
    data = str(makers.data(tmp_path / "data.json"))
    options = TrainingOptions(str(folder), tmp_path / "adapter", train_data=data, max_steps=1, max_length=48, stride=8)
    with pytest.raises(InputError, match=r"coded is quantized by int8, on which no adapter is trained here"):
        run(Job("lora", options, LoraConfig()))


@pytest.mark.parametrize("verb", ["quantize", "predict"])
def test_a_full_disk_is_one_line(
    verb: str,
    made: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Of the folder that is written, and of the temporary one that transformers reads."""

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    words = {
        "quantize": ["quantize", str(made("encoder") / "mask"), "-o", str(tmp_path / "out")],
        "predict": ["predict", str(made("encoder") / "coded"), "-q", "who ?", "-c", "rome ."],
    }
    assert main(words[verb]) == 5
    line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"error: disk full while writing \S+/(coded|model)\.safetensors; make room", line)
    assert not list(tmp_path.iterdir())
