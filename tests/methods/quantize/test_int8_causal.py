"""Int8 of models that go on with a text: their output over the vocabulary too, tied to the embeddings or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.int8 import Int8Embedding, Int8Linear
from compresskit.models.registry import load
from tests import tiny
from tests.contract import makers
from tests.contract.test_mamba import checkpoint

Made = Callable[[str], tuple[Path, Path]]
# Mamba-2's output is not tied to its embeddings by default.
TIED = {"mamba": True, "falcon": True, "mamba2": False, "llama": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A checkpoint of some sort, and its int8 folder, whose inputs stay as they are."""
    root = tmp_path_factory.mktemp("causal")
    known: dict[str, tuple[Path, Path]] = {}

    def pair(kind: str) -> tuple[Path, Path]:
        if kind not in known:
            base = makers.causal(root / kind) if kind == "llama" else checkpoint(kind, root / kind)
            options = QuantizeOptions(str(base), root / f"{kind}-8bit")
            known[kind] = base, run(Job("quantize", options, QuantizeConfig(activations="none")))
        return known[kind]

    return pair


def own(folder: Path, dtype: str = "float32") -> Any:
    return load(str(folder), device="cpu", dtype=dtype).model


def ids() -> Tensor:
    return torch.randint(5, len(tiny.TOKENS), (2, 12), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=ids()).logits
    return found


@pytest.mark.parametrize("kind", TIED)
def test_plain_transformers_opens_it_to_the_same_logits_and_texts(kind: str, made: Made) -> None:
    base, folder = made(kind)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder)
    ours = own(folder)
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(ours), logits(plain), rtol=1e-4, atol=1e-5)
    texts = [m.generate(ids(), max_new_tokens=8, do_sample=False, eos_token_id=None) for m in (plain, ours)]
    assert torch.equal(*texts)
    assert texts[0].shape[1] == 20
    full = logits(AutoModelForCausalLM.from_pretrained(base))
    off = (logits(ours) - full).abs().max() / full.abs().max()
    assert 0 < off < 0.05


@pytest.mark.parametrize("kind", TIED)
def test_every_matrix_is_in_8_bits_and_a_tied_one_once(kind: str, made: Made) -> None:
    """On the disk, and in memory, where the output has the very codes of the embeddings."""
    _, folder = made(kind)
    stored = load_file(folder / "model.safetensors")
    wide = {name: tensor for name, tensor in stored.items() if tensor.ndim == 2 and min(tensor.shape) >= 16}
    assert {tensor.dtype for tensor in wide.values()} == {torch.int8}
    pair = {"lm_head.weight", "lm_head.weight_scale"}
    assert {name for name in stored if name.startswith("lm_head")} == (set() if TIED[kind] else pair)
    model = own(folder)
    output, table = model.get_output_embeddings(), model.get_input_embeddings()
    assert isinstance(output, Int8Linear)
    assert isinstance(table, Int8Embedding)
    assert (output.codes().data_ptr() == table.codes().data_ptr()) == TIED[kind]
    assert not [name for name, module in model.named_modules() if type(module) is nn.Embedding]


@pytest.mark.parametrize("kind", TIED)
def test_its_parameters_are_those_of_the_base(kind: str, made: Made) -> None:
    """A tied weight counts once."""
    counted = []
    for folder in made(kind):
        loaded = load(str(folder), device="cpu")
        counted.append(loaded.kind.stored(loaded).total)
    assert counted[0] == counted[1] == sum(p.numel() for p in own(made(kind)[0]).parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_a_mamba_sees_the_format_of_its_numbers_where_its_output_has_codes(kind: str, dtype: str, made: Made) -> None:
    """It casts its hidden states to that. For codes as inputs too, a CPU lays the output's codes out anew."""
    _, folder = made(kind)
    model = own(folder, dtype)
    assert str(model.lm_head.weight.dtype) == f"torch.{dtype}"
    expected = logits(own(folder))
    for activations in ("none", "int8"):
        for module in model.modules():
            if isinstance(module, Int8Linear):
                module.activations = activations
        torch.testing.assert_close(logits(model), expected, rtol=0, atol=0.15)


@pytest.mark.parametrize("kind", TIED)
def test_merge_makes_it_plain_again(kind: str, made: Made, tmp_path: Path) -> None:
    _, folder = made(kind)
    merged = run(Job("merge", MergeOptions(str(folder), tmp_path / "plain"), MergeConfig()))
    torch.testing.assert_close(logits(own(merged)), logits(own(folder)), rtol=1e-4, atol=1e-5)
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.float32}
