"""Packing by bitsandbytes against what plain transformers packs, and against the weights that it came from."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    T5Config,
    T5ForConditionalGeneration,
    T5PreTrainedModel,
)

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import InputError, MissingError, UsageError
from compresskit.methods.job import Job
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.quantize.method import Packed
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.kinds.bnb import REPACKS, keep_in_place, unpacked
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load
from compresskit.models.seq2seq import Seq2SeqFamily
from tests import tiny
from tests.contract import makers

HEADS = {"encoder": "qa_outputs", "seq2seq": "lm_head"}
AUTO: dict[str, Any] = {"encoder": AutoModelForQuestionAnswering, "seq2seq": AutoModelForSeq2SeqLM}


def wide(family: str, folder: Path) -> Path:
    """A checkpoint whose layers are large enough for blocks of 64 weights, and for 32 rows."""
    if family == "encoder":
        return tiny.checkpoint(folder, hidden=64)
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    config = T5Config(vocab_size=len(tiny.TOKENS), d_model=64, d_kv=32, d_ff=128, num_layers=2, num_heads=2)
    config.pad_token_id = config.decoder_start_token_id = tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def quantize(base: Path, output: Path, bits: int) -> Path:
    options = QuantizeOptions(str(base), output)
    return run(Job("quantize", options, QuantizeConfig(bits=bits, backend="bitsandbytes")))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    ids = torch.arange(5, 25).reshape(2, 10)
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    out = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
    return torch.cat([out[name].flatten() for name in ("logits", "start_logits", "end_logits") if name in out])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", AUTO)
def test_it_is_what_transformers_packs(family: str, bits: int, tmp_path: Path) -> None:
    """All tensors and logits, but T5's `wo`, which transformers never packs, and is packed here in 4 bits."""
    base = wide(family, tmp_path / "base")
    ours = load_file(quantize(base, tmp_path / "ours", bits) / "model.safetensors")
    how: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    config = BitsAndBytesConfig(llm_int8_skip_modules=[HEADS[family]], **(how if bits == 4 else {"load_in_8bit": True}))
    plain = AUTO[family].from_pretrained(base, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"})
    plain.save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    more = {name for name in ours if ".wo.weight" in name} if bits == 4 else set()
    assert ours.keys() - more == {name for name in theirs if ".wo.weight" not in name or bits == 8}
    for name in ours.keys() - more:
        assert torch.equal(ours[name], theirs[name]), name
    opened = AUTO[family].from_pretrained(tmp_path / "ours") if not more else None
    if opened is not None:
        assert torch.equal(logits(load(str(tmp_path / "ours"), device="cpu").model), logits(opened))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", AUTO)
def test_it_computes_with_the_weights_that_it_stands_for(family: str, bits: int, tmp_path: Path) -> None:
    base = wide(family, tmp_path / "base")
    packed = load(str(quantize(base, tmp_path / "packed", bits)), device="cpu")
    reference: Any = load(str(base), device="cpu").model
    whole = logits(reference)
    count = 0
    module: Any
    for name, module in packed.model.named_modules():
        if hasattr(module, REPACKS):
            reference.get_submodule(name).weight.data = unpacked(module.weight)
            count += 1
        elif hasattr(module, "state") and not isinstance(module, nn.LayerNorm):
            weight = module.weight
            reference.get_submodule(name).weight.data = weight.data * weight.SCB.unsqueeze(1) / 127
            count += 1
    linear = [name for name, module in reference.named_modules() if isinstance(module, nn.Linear)]
    kept = {HEADS[family], *(["wo"] if bits == 8 else [])}
    assert count == sum(name.rpartition(".")[2] not in kept for name in linear) > 5
    for _ in range(2):  # some CPUs repack at the first pass
        found = logits(packed.model)
        # Eight bits are products of rounded activations too, and repacked weights are multiplied in bfloat16.
        torch.testing.assert_close(found, logits(reference), atol=0.05 * float(whole.abs().max()), rtol=0)
    assert not torch.equal(found, whole)


def test_a_packed_t5_writes_as_it_does_with_the_same_weights_unpacked(tmp_path: Path) -> None:
    """Over many passes: T5 casts its hidden states to the number format of a packed `wo`, which spoils all but fp32."""
    base = wide("seq2seq", tmp_path / "base")
    packed = load(str(quantize(base, tmp_path / "packed", 4)), device="cpu")
    plain = load(str(base), device="cpu")
    for name, module in packed.model.named_modules():
        if hasattr(module, REPACKS):
            plain.model.get_submodule(name).weight.data = unpacked(module.weight)
            layer: Any = module
            if ".wo" in name:
                assert layer.weight.dtype == torch.float32
    questions = tiny.examples(8)

    def scores(loaded: Any) -> list[float]:
        found = loaded.task.answer(loaded, questions, AnswerOptions(48, 8, n_best=1))
        return [each.null_score for each in found]

    for one, two in zip(scores(packed), scores(plain), strict=True):
        assert one == pytest.approx(two, abs=0.2)


def test_plain_transformers_opens_a_packed_t5_with_the_documented_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quantize(wide("seq2seq", tmp_path / "base"), tmp_path / "packed", 4)
    with pytest.raises(RuntimeError, match="mismatched"):
        T5ForConditionalGeneration.from_pretrained(folder)
    monkeypatch.setattr(T5PreTrainedModel, "_keep_in_fp32_modules", None)
    plain: Any = T5ForConditionalGeneration.from_pretrained(folder)
    ours: Any = load(str(folder), device="cpu").model
    for model in (plain, ours):
        keep_in_place(model)  # some CPUs would repack
    assert torch.equal(logits(plain), logits(ours))


def test_what_overflows_in_fp16_computes_in_fp32(tmp_path: Path) -> None:
    folder = quantize(wide("seq2seq", tmp_path / "base"), tmp_path / "packed", 4)
    model: Any = load(str(folder), device="cpu", dtype="float16").model
    numbers = {name.endswith("wo"): m.compute_dtype for name, m in model.named_modules() if hasattr(m, REPACKS)}
    assert numbers == {True: torch.float32, False: torch.float16}


def test_t5_base_is_less_than_23_hundredths(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is packed of a model of its shape, by the bytes that packing takes; the rest stays in fp32."""
    # A model without weights is not asked which layers it calls; a T5 calls all.
    monkeypatch.setattr("compresskit.methods.quantize.method.reached", lambda _, layers: dict.fromkeys(layers, True))
    shape: dict[str, Any] = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    with torch.device("meta"):
        model = T5ForConditionalGeneration(T5Config(vocab_size=32128, **shape))
    loaded: Any = TrainableModel(model, None, Seq2SeqFamily(), FullKind(), "t5", None, None)  # type: ignore[arg-type]
    names = Packed(loaded, QuantizeConfig(bits=4, backend="bitsandbytes"))._names()
    linear = sum(model.get_submodule(name).get_parameter("weight").numel() for name in names)
    whole = sum(p.numel() for p in model.parameters())
    # Half a byte for a weight; for 64 of them a scale of one byte, for 256 of those one of 4 bytes.
    packed = linear * (1 / 2 + 1 / 64 + 4 / 64 / 256) + 4 * (whole - linear)
    assert 0.2 < packed / (4 * whole) < 0.23


def test_the_manifest_and_what_it_came_from(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    manifest = read_manifest(quantize(base, tmp_path / "packed", 4))
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("quantized", "quantize/bnb-4bit")
    assert manifest.base is not None
    assert (tmp_path / "packed" / manifest.base.ref).resolve() == base
    assert manifest.steps[-1].config == {"checkpoint": str(base), "bits": 4, "backend": "bitsandbytes"}
    assert manifest.steps[-1].metrics == {"packed_layers": 12, "full_layers": 1}


@pytest.mark.parametrize("bits", [4, 8])
def test_a_head_that_was_never_trained_stays_missing(bits: int, tmp_path: Path) -> None:
    base = makers.without_head(wide("encoder", tmp_path / "base"))
    assert load(str(quantize(base, tmp_path / "packed", bits)), device="cpu").missing_head


def test_a_mask_is_packed_with_its_zeros(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    makers.mask(base, tmp_path / "mask")
    quantize(tmp_path / "mask", tmp_path / "packed", 4)
    masked: Any = load(str(tmp_path / "mask"), device="cpu").model
    packed: Any = load(str(tmp_path / "packed"), device="cpu").model
    zeros = 0
    for name, module in packed.named_modules():
        if hasattr(module, REPACKS):
            zero = masked.get_submodule(name).weight == 0
            assert (unpacked(module.weight)[zero] == 0).all()
            zeros += int(zero.sum())
    assert zeros > 1000


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = wide("encoder", tmp_path / "base")
    with pytest.raises(UsageError, match="--backend torch keeps 8 bits, not 4; give --backend bitsandbytes"):
        QuantizeConfig(bits=4)
    with pytest.raises(UsageError, match="--activations has no effect with --backend bitsandbytes"):
        QuantizeConfig(bits=8, backend="bitsandbytes", activations="int8")
    with pytest.raises(UsageError, match=r"--bits 3 is not one of 4, 8"):
        QuantizeConfig(bits=3, backend="bitsandbytes")
    with pytest.raises(UsageError, match="own linear layers"):
        quantize(makers.lstm(tmp_path / "lstm"), tmp_path / "out", 4)
    packed = quantize(base, tmp_path / "packed", 4)
    with pytest.raises(InputError, match="packed is of kind quantized, and quantize takes full or mask"):
        quantize(packed, tmp_path / "out", 8)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingError, match=r"pip install .compresskit\[bitsandbytes\]"):
        quantize(base, tmp_path / "out", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "lstm", "packed"]
