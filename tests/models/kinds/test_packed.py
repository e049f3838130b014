"""Quantized folders open as they were saved, bit for bit, and say what they lack."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForQuestionAnswering, BitsAndBytesConfig

from compresskit.errors import InputError, MissingError
from compresskit.models.encoder import EncoderFamily
from compresskit.models.kinds.bnb import unpacked
from compresskit.models.kinds.packed import packed_matrices
from compresskit.models.registry import load, load_whole, require_head
from compresskit.models.source import resolve
from tests.models import adapters, tiny
from tests.models.adapters import logits

# Blocks of 64 weights, and of 32 rows on some CPUs: a model that bitsandbytes can quantize is not quite tiny.
SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}
KEEP_HEAD: dict[str, Any] = {"llm_int8_skip_modules": ["qa_outputs"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", **KEEP_HEAD},
    "nf4, scales too": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        **KEEP_HEAD,
    },
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", **KEEP_HEAD},
    "int8": {"load_in_8bit": True, **KEEP_HEAD},
    "int8, head too": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("bert", tmp_path_factory.mktemp("quantized") / "base", **SIZES)


def quantize(base: Path, folder: Path, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """Write a quantized checkpoint as transformers does; the model that was written."""
    model = AutoModelForQuestionAnswering.from_pretrained(
        base, quantization_config=BitsAndBytesConfig(**config), dtype=dtype, device_map={"": "cpu"}
    ).eval()
    model.save_pretrained(folder)
    tiny.wordpiece().save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized") / "nf4"
    quantize(base, folder, CONFIGS["nf4"])
    return folder


@pytest.fixture
def nf4(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "nf4"))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_opens_as_it_was_saved(name: str, base: Path, tmp_path: Path) -> None:
    expected = logits(quantize(base, tmp_path / "folder", CONFIGS[name]))
    loaded = require_head(load(str(tmp_path / "folder"), device="cpu"))
    assert torch.equal(logits(loaded.model), expected)
    assert not torch.equal(logits(loaded.model), logits(load(str(base), device="cpu").model))
    assert loaded.method == ("bnb-4bit" if "4" in name else "bnb-8bit")
    assert not loaded.model.training
    assert {path.name for path in loaded.files} == {path.name for path in (tmp_path / "folder").iterdir()}


def test_a_quantized_head_answers_on_every_cpu(base: Path, tmp_path: Path) -> None:
    """bitsandbytes repacks 4-bit weights for some CPUs, and fails there on a head of two rows."""
    quantize(base, tmp_path / "folder", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    loaded = load(str(tmp_path / "folder"), device="cpu")
    reference = load(str(base), device="cpu").model
    for name, parameter in loaded.model.named_parameters():
        if parameter.dtype == torch.uint8:
            state: Any = getattr(parameter, "quant_state")  # noqa: B009 (no attribute of every parameter)
            reference.get_parameter(name).data = dequantize_4bit(parameter.data, state)
    head = "qa_outputs.weight"
    assert torch.equal(unpacked(loaded.model.get_parameter(head)), reference.get_parameter(head))
    # Some CPUs multiply in bfloat16, of 8 bits.
    assert torch.allclose(logits(loaded.model), logits(reference), atol=0.1)


@pytest.mark.parametrize("name", ["nf4", "int8"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("asked", ["float32", "float16", "bfloat16"])
def test_what_is_not_quantized_has_the_asked_format(
    asked: str, stored: torch.dtype, name: str, base: Path, tmp_path: Path
) -> None:
    """Most such checkpoints hold the rest in 16 bits, which transformers converts in part when others are asked for."""
    expected = logits(quantize(base, tmp_path / "folder", CONFIGS[name], stored))
    model = load(str(tmp_path / "folder"), device="cpu", dtype=asked).model
    formats = {parameter.dtype for parameter in model.parameters()}
    assert formats == {getattr(torch, asked), torch.uint8 if name == "nf4" else torch.int8}
    assert (logits(model).float() - expected.float()).abs().mean() < 0.1  # of numbers up to 6, in bfloat16


def test_int8_moves_to_the_device_where_it_is(base: Path, tmp_path: Path) -> None:
    quantize(base, tmp_path / "folder", CONFIGS["int8"])
    loaded = load(str(tmp_path / "folder"), device="cpu")
    before = logits(loaded.model)
    module: nn.Module = loaded.model
    module.to("cpu")
    assert torch.equal(logits(loaded.model), before)


def test_an_adapter_on_a_quantized_base(base: Path, nf4: Path, tmp_path: Path) -> None:
    """Trained on weights that stay quantized."""
    folder = tmp_path / "adapter"
    adapters.make(nf4, folder, LoraConfig(r=2, target_modules=["query"], task_type="QUESTION_ANS"))
    loaded = load(str(folder), device="cpu")
    assert torch.equal(logits(loaded.model), logits(adapters.theirs(nf4, folder)))
    assert loaded.method == "lora"


def test_a_quantized_base_without_head(tmp_path: Path) -> None:
    base = tiny.save("bert", tmp_path / "base", head="none", **SIZES)
    quantize(base, tmp_path / "folder", CONFIGS["nf4"])
    path = tmp_path / "folder" / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("qa_outputs")}
    save_file(tensors, path, metadata={"format": "pt"})
    assert load(str(tmp_path / "folder"), device="cpu").missing_head


def test_nothing_is_merged_into_it(nf4: Path, tmp_path: Path) -> None:
    adapters.make(nf4, tmp_path / "adapter", LoraConfig(r=2, target_modules=["query"], task_type="QUESTION_ANS"))
    with pytest.raises(InputError, match=r"nf4 does not tell what it was packed from"):
        load_whole(resolve(str(tmp_path / "adapter")))


# What does not open.


def quantization(**config: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": config}))

    return damage


def no_object(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": "int8"}))


def lose_scales(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if "absmax" not in name}
    save_file(tensors, path, metadata={"format": "pt"})


def lose_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if ".layer.1.output." not in name}
    save_file(tensors, path, metadata={"format": "pt"})


def pack_the_head(folder: Path) -> None:
    """Say of the head, whose weights are plain, that it is packed too."""
    quantization(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4")(folder)


def spoil_state(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    spoiled = {name: torch.full_like(tensor, 0xC9) for name, tensor in tensors.items() if "quant_state" in name}
    save_file({**tensors, **spoiled}, path, metadata={"format": "pt"})


DAMAGED = {
    "an unknown method": (
        quantization(quant_method="magic"),
        r"quantized by magic, which this transformers does not know",
    ),
    "no method": (quantization(), r"is quantized by None, which this transformers does not know; write the"),
    "no object": (no_object, r"config\.json cannot be read"),
    "lost scales": (lose_scales, r"does not open as a bert model \("),
    "a lost layer": (lose_layer, r"does not open as a bert model \("),
    "a plain head": (pack_the_head, r"says that qa_outputs is packed by bitsandbytes, and its weights are not"),
    "spoiled settings": (spoil_state, r"does not open as a bert model \("),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_bad_input(name: str, nf4: Path) -> None:
    damage, message = DAMAGED[name]
    damage(nf4)
    with pytest.raises(InputError, match=message) as caught:
        load(str(nf4), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(nf4) in str(caught.value)


def test_spoiled_settings_are_bad_input_to_inspect(nf4: Path) -> None:
    spoil_state(nf4)
    with pytest.raises(InputError, match=r"the packed weights of .* cannot be read \(.*; they are damaged: copy"):
        packed_matrices(nf4)


@pytest.mark.parametrize(
    ("config", "package"),
    [
        ({"quant_method": "hqq"}, "hqq"),
        ({"quant_method": "gptq", "bits": 4}, "gptqmodel optimum"),
        ({"quant_method": "quanto"}, "optimum-quanto"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_package_is_named(config: dict[str, Any], package: str, nf4: Path) -> None:
    """None of these is a dependency."""
    quantization(**config)(nf4)
    with pytest.raises(MissingError, match=rf"whose package is not here \(.*\); pip install {package}$") as caught:
        load(str(nf4), device="cpu")
    assert "\n" not in str(caught.value)


def failing(error: Exception) -> Callable[..., Any]:
    def load(*_: Any) -> Any:
        raise error

    return load


def test_what_needs_a_gpu_says_so(nf4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncoderFamily, "load", failing(RuntimeError("No GPU found. A GPU is needed for quantization.")))
    with pytest.raises(MissingError, match=r"which does not run here \(RuntimeError: No GPU.*\); use one with a GPU"):
        load(str(nf4), device="cpu")


def test_running_out_of_memory_is_no_bad_input(nf4: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncoderFamily, "load", failing(torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(torch.OutOfMemoryError):
        load(str(nf4), device="cpu")
