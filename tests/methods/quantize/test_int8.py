"""`quantize`, the torch backend: what plain transformers opens, what stays in memory, and bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForQuestionAnswering,
    T5Config,
    T5ForConditionalGeneration,
)

import compresskit
from compresskit.checkpoint.manifest import read_manifest
from compresskit.data.examples import Example
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.encoder import EncoderFamily
from compresskit.models.int8 import Int8Embedding, Int8Linear, dequantize, quantize
from compresskit.models.kinds import int8, kind_of
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.lstm.build import write_reader
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.model import LstmReader
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.registry import load
from compresskit.models.seq2seq import Seq2SeqFamily
from compresskit.models.source import Source
from tests import tiny
from tests.contract import makers
from tests.listing import unlisted
from tests.methods.quantize.test_quantize import logits, wide

AUTO: dict[str, Any] = {"encoder": AutoModelForQuestionAnswering, "seq2seq": AutoModelForSeq2SeqLM}
FAMILIES = ("encoder", "seq2seq", "lstm")


def base_of(family: str, folder: Path) -> Path:
    """A checkpoint whose matrices are large enough for 8 bits."""
    if family != "lstm":
        return wide(family, folder)
    options = LstmOptions.choose(variant="bidaf", hidden_size=18, embedding_dim=20, buckets=3)
    write_reader(options, [*tiny.WORDS, ".", "?"], None, 0, folder)
    return folder


def packed(base: Path, output: Path, activations: Any = "none") -> Path:
    options = QuantizeOptions(str(base), output)
    return run(Job("quantize", options, QuantizeConfig(activations=activations)))


def answers(loaded: LoadedModel, examples: list[Example]) -> list[Prediction]:
    return list(loaded.task.answer(loaded, examples, AnswerOptions(48, 8)))


def standing_for(folder: Path) -> dict[str, Tensor]:
    """The tensors of a file, with codes times scales in the place of either."""
    tensors = load_file(folder / "model.safetensors")
    return {
        name: dequantize(tensor, tensors[f"{name}_scale"]) if tensor.dtype == torch.int8 else tensor
        for name, tensor in tensors.items()
        if not name.endswith("_scale")
    }


@pytest.mark.parametrize("family", AUTO)
def test_plain_transformers_opens_it_and_says_the_same(family: str, tmp_path: Path) -> None:
    folder = packed(wide(family, tmp_path / "base"), tmp_path / "out")
    plain, ours = AUTO[family].from_pretrained(folder), load(str(folder), device="cpu")
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(ours.model), logits(plain), atol=1e-5, rtol=1e-5)
    if family == "seq2seq":
        ids = torch.arange(5, 25).reshape(2, 10)
        model: Any = ours.model
        assert torch.equal(plain.generate(ids, max_new_tokens=8), model.generate(ids, max_new_tokens=8))


def test_a_registered_reader_opens_in_8_bits_by_plain_transformers(tmp_path: Path) -> None:
    """compressed-tensors would take the codes of recurrent matrices for weights, and say nothing."""
    compresskit.register()
    folder = packed(base_of("lstm", tmp_path / "base"), tmp_path / "out", "auto")
    plain, ours = AutoModelForQuestionAnswering.from_pretrained(folder), load(str(folder), device="cpu")
    examples = tiny.examples(6)
    expected = answers(ours, examples)
    ours.model = plain.eval()
    assert answers(ours, examples) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_the_weights_that_it_stands_for(family: str, tmp_path: Path) -> None:
    base = base_of(family, tmp_path / "base")
    folder = packed(base, tmp_path / "out")
    reference: Any = load(str(base), device="cpu")
    state = reference.model.state_dict()
    found = standing_for(folder)
    assert found.keys() == state.keys() - set(reference.model.all_tied_weights_keys)
    for name, tensor in found.items():
        step = state[name].float().abs().amax(dim=-1, keepdim=True) / 254 + 1e-6
        assert bool(((tensor.float() - state[name].float()).abs() <= step).all()), name
    reference.model.load_state_dict(found, strict=False)
    reference.model.tie_weights()
    ours = load(str(folder), device="cpu")
    examples = tiny.examples(8)
    pairs = zip(answers(ours, examples), answers(reference, examples), strict=True)
    for one, two in pairs:
        assert one.span_text == two.span_text
        assert one.null_score == pytest.approx(two.null_score, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_codes_are_near(family: str, tmp_path: Path) -> None:
    base = base_of(family, tmp_path / "base")
    near = load(str(packed(base, tmp_path / "int8", "int8")), device="cpu")
    exact = load(str(packed(base, tmp_path / "none")), device="cpu")
    layers = [module for module in near.model.modules() if isinstance(module, Int8Linear)]
    assert layers
    assert {layer.activations for layer in layers} == {"int8"}
    examples = tiny.examples(8)
    pairs = list(zip(answers(near, examples), answers(exact, examples), strict=True))
    assert any(one.null_score != two.null_score for one, two in pairs)
    for one, two in pairs:
        assert one.null_score == pytest.approx(two.null_score, abs=0.2)


def test_weights_stay_in_8_bits_in_memory_and_tied_ones_are_one(tmp_path: Path) -> None:
    folder = packed(wide("seq2seq", tmp_path / "base"), tmp_path / "out", "int8")
    loaded = load(str(folder), device="cpu")
    model: Any = loaded.model
    tables = [module for module in model.modules() if isinstance(module, Int8Embedding)]
    assert len({table.weight.data_ptr() for table in (*tables, model.lm_head)}) == 1
    before = loaded.kind.stored(loaded)
    logits(model)
    assert loaded.kind.stored(loaded) == before
    tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers()) if t.dtype != torch.int8}
    whole = sum(tensor.numel() for tensor in load_file(tmp_path / "base" / "model.safetensors").values())
    assert sum(tensor.numel() for tensor in tensors.values()) < 0.1 * whole
    names = set(load_file(folder / "model.safetensors"))
    assert {"shared.weight", "shared.weight_scale"} < names
    assert not any("embed_tokens" in name or "lm_head" in name for name in names)


def test_counts_are_those_of_the_weights(tmp_path: Path) -> None:
    for family in FAMILIES:
        folder = packed(base_of(family, tmp_path / family), tmp_path / f"{family}-out", "int8")
        loaded = load(str(folder), device="cpu")
        expected = [tensor for tensor in standing_for(folder).values() if tensor.is_floating_point()]
        counts = loaded.kind.stored(loaded)
        assert counts.total == sum(tensor.numel() for tensor in expected)
        assert counts.nonzero == sum(int(tensor.count_nonzero()) for tensor in expected)


SHAPES: dict[str, tuple[Any, Any, Any]] = {
    "bert": (BertForQuestionAnswering, BertConfig(), EncoderFamily()),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12),
        Seq2SeqFamily(),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_base_model_is_a_little_more_than_a_quarter(name: str) -> None:
    """One byte a weight and four a row; the rest stays in fp32."""
    architecture, config, family = SHAPES[name]
    with torch.device("meta"):
        model = architecture(config)
    loaded = TrainableModel(model, None, family, FullKind(), name, None, None)  # type: ignore[arg-type]
    weights = [model.get_parameter(each) for each in int8.quantizable(loaded)]
    whole = sum(p.numel() for p in model.parameters())
    inside = sum(weight.numel() for weight in weights)
    taken = inside + 4 * sum(len(weight) for weight in weights) + 4 * (whole - inside)
    assert 0.25 < taken / (4 * whole) < 0.26


def test_what_the_folder_tells(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    folder = packed(base, tmp_path / "out", "auto")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("quantized", "quantize/int8")
    assert manifest.steps[-1].config == {
        "checkpoint": str(base),
        "bits": 8,
        "backend": "torch",
        "activations": "auto",
    }
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["format"], config["dequantize"]) == (
        "compressed-tensors",
        "int-quantized",
        True,
    )
    assert config["ignore"] == ["bert.embeddings.token_type_embeddings", "qa_outputs"]
    source = Source("out", folder)
    matrices = kind_of(source).contents(source).matrices
    assert {matrix.dtype for matrix in matrices} == {"int8"}
    assert len(matrices) == 12


def test_recurrent_matrices_are_told_too(tmp_path: Path) -> None:
    folder = packed(base_of("lstm", tmp_path / "base"), tmp_path / "out")
    source = Source("out", folder)
    told = {matrix.name: matrix.dtype for matrix in kind_of(source).contents(source).matrices}
    assert told["encoder.0.weight_hh_l0"] == "int8"
    assert not any(name.endswith("_scale") for name in told)


def test_a_head_that_was_never_trained_stays_missing(tmp_path: Path) -> None:
    base = makers.without_head(wide("encoder", tmp_path / "base"))
    assert load(str(packed(base, tmp_path / "out")), device="cpu").missing_head


def test_a_mask_keeps_its_zeros(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    makers.mask(base, tmp_path / "mask")
    run(Job("merge", MergeOptions(str(tmp_path / "mask"), tmp_path / "plain"), MergeConfig()))
    found = standing_for(packed(tmp_path / "plain", tmp_path / "out"))
    masked: Any = load(str(tmp_path / "mask"), device="cpu").model
    zeros = 0
    for name, module in masked.named_modules():
        if isinstance(module, nn.Linear) and "encoder" in name:
            zero = module.weight == 0
            assert bool((found[f"{name}.weight"][zero] == 0).all())
            zeros += int(zero.sum())
    assert zeros > 1000


def test_what_is_refused(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    with pytest.raises(UsageError, match=r"--activations int4 is not one of auto, int8, none"):
        QuantizeConfig(activations="int4")  # type: ignore[arg-type]
    out = packed(base, tmp_path / "out")
    with pytest.raises(InputError, match="out is of kind quantized, and quantize takes full or mask"):
        packed(out, tmp_path / "again")
    tensors = load_file(base / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"not numbers \(bert.encoder.layer.0.output.dense.weight\)"):
        packed(base, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "out"]


def test_a_model_that_reads_a_weight_by_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = wide("encoder", tmp_path / "base")
    forward = nn.Linear.forward

    def raw(layer: Any, inputs: Tensor) -> Tensor:
        return torch.nn.functional.linear(inputs, layer.weight.float(), layer.bias)

    monkeypatch.setattr(Int8Linear, "forward", raw)
    with pytest.raises(RunFailed, match=r"does not compute with weights in 8 bits \(its logits are"):
        packed(base, tmp_path / "out")
    assert forward is nn.Linear.forward
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["seq2seq"])
def test_what_overflows_in_fp16_computes_in_fp32(family: str, tmp_path: Path) -> None:
    model: Any = load(
        str(packed(wide(family, tmp_path / "base"), tmp_path / "out")), device="cpu", dtype="float16"
    ).model
    found = {name.endswith("wo"): m.precise for name, m in model.named_modules() if isinstance(m, Int8Linear)}
    assert found == {True: True, False: False}


def test_tables_that_scale_their_vectors_do_so(tmp_path: Path) -> None:
    """BART's; its learned positions, which are of another class, stay in full."""
    torch.manual_seed(0)
    shape = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "scale_embedding": True}
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    more = {"eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": tokenizer.eos_token_id}
    config = BartConfig(vocab_size=len(tiny.TOKENS), **shape, **heads, **special, **more)  # type: ignore[arg-type]
    BartForConditionalGeneration(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    folder = packed(tmp_path / "base", tmp_path / "out")
    plain, ours = AutoModelForSeq2SeqLM.from_pretrained(folder), load(str(folder), device="cpu")
    torch.testing.assert_close(logits(ours.model), logits(plain), atol=1e-4, rtol=1e-4)
    formats = {name: tensor.dtype for name, tensor in load_file(folder / "model.safetensors").items()}
    assert formats["model.shared.weight"] == torch.int8
    assert formats["model.encoder.embed_positions.weight"] == torch.float32


def test_a_checkpoint_is_not_written_over_what_it_is_made_from(tmp_path: Path) -> None:
    base = wide("encoder", tmp_path / "base")
    makers.mask(base, tmp_path / "mask")
    for source in (base, tmp_path / "mask"):
        with pytest.raises(UsageError, match=r"base is .*, which is read; name another place"):
            run(Job("quantize", QuantizeOptions(str(source), base, overwrite=True), QuantizeConfig()))
    assert load(str(base), device="cpu").kind.name == "full"


@pytest.mark.parametrize("change", ["activations", "zero points", "tensor"])
def test_another_layout_of_compressed_tensors_is_not_taken_for_ours(change: str, tmp_path: Path) -> None:
    config: Any = int8.layout(nn.Linear(2, 2), [])
    assert int8.is_our_layout(config)
    group = config["config_groups"]["group_0"]
    if change == "activations":
        group["input_activations"] = {"num_bits": 8, "dynamic": False}
    elif change == "tensor":
        group["weights"]["strategy"] = "tensor"
    else:
        group["weights"]["symmetric"] = False
    assert not int8.is_our_layout(config)


@pytest.mark.parametrize("steps", [None, "gone", "foo"])
def test_a_manifest_that_somebody_wrote(steps: str | None, tmp_path: Path) -> None:
    folder = packed(wide("encoder", tmp_path / "base"), tmp_path / "out")
    manifest = json.loads((folder / "compresskit.json").read_text())
    if steps is None:
        manifest["steps"] = []
    elif steps == "gone":
        del manifest["steps"][-1]["config"]["activations"]
    else:
        manifest["steps"][-1]["config"]["activations"] = steps
    (folder / "compresskit.json").write_text(json.dumps(manifest))
    if steps == "foo":
        with pytest.raises(InputError, match="has activations 'foo'; it can be auto, int8, none"):
            load(str(folder), device="cpu")
    else:
        layers = [m for m in load(str(folder), device="cpu").model.modules() if isinstance(m, Int8Linear)]
        assert {layer.activations for layer in layers} == {"auto"}


def test_a_bilstm_that_something_else_opens_is_refused(tmp_path: Path) -> None:
    """As of a Hub id: transformers would hand its codes to the recurrences as weights."""
    folder = packed(base_of("lstm", tmp_path / "base"), tmp_path / "out")
    config = LstmReaderConfig.from_pretrained(folder)
    with pytest.raises(ValueError, match="opens from a folder alone"):
        LstmReader(config)
    (tmp_path / "up").mkdir()
    folder.rename(tmp_path / "up" / "in")
    opened = LstmReader.from_pretrained(tmp_path / "up", subfolder="in")
    assert float(opened.encoder[0].weight_ih_l0.abs().max()) < 1
    plain = LstmReader.from_pretrained(tmp_path / "base", dropout=0.25)
    assert plain.config.dropout == 0.25


def test_a_file_without_codes_is_refused(tmp_path: Path) -> None:
    folder = unlisted(packed(wide("encoder", tmp_path / "base"), tmp_path / "out"))
    shutil.copy(tmp_path / "base" / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(InputError, match="holds no weights in 8 bits"):
        load(str(folder), device="cpu")


def test_a_file_without_a_scale_is_refused(tmp_path: Path) -> None:
    folder = unlisted(packed(wide("encoder", tmp_path / "base"), tmp_path / "out"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.encoder.layer.0.output.dense.weight_scale"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no scales for bert.encoder.layer.0.output.dense.weight"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize("family", ["encoder", pytest.param("lstm", marks=pytest.mark.slow)])
def test_onnxruntime_takes_a_graph(family: str, tmp_path: Path) -> None:
    """What stays of the answers, and that the products are of 8 bits."""
    base = base_of(family, tmp_path / "base")
    config = QuantizeConfig(backend="onnxruntime")
    out = run(Job("quantize", QuantizeOptions(str(base), tmp_path / "out"), config))
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("onnx", "quantize/onnx-int8")
    weights = [each for each in onnx.load(out / "model.onnx").graph.initializer if each.name.endswith("_quantized")]
    assert {each.data_type for each in weights} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert len(weights) > 5
    examples = tiny.examples(8)
    near, exact = load(str(out), device="cpu"), load(str(base), device="cpu")
    for one, two in zip(answers(near, examples), answers(exact, examples), strict=True):
        assert one.null_score == pytest.approx(two.null_score, abs=0.2)
    with pytest.raises(UsageError, match="--backend onnxruntime keeps 8 bits, not 4"):
        QuantizeConfig(bits=4, backend="onnxruntime")


def test_quantize_is_exact_on_codes() -> None:
    codes = torch.arange(-127, 128, dtype=torch.int8).repeat(3, 1)
    scales = torch.tensor([[1e-6], [1.0], [300.0]])
    again, found = quantize(dequantize(codes, scales))
    assert torch.equal(again, codes)
    torch.testing.assert_close(found, scales)
