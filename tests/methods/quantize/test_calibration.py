"""`quantize --calibrate`: what rounding costs, what stays in 16 bits, what is smoothed, and static inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from compresskit.checkpoint.manifest import read_manifest
from compresskit.cli.app import main
from compresskit.data.load import load as load_data
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.quantize import keeping
from compresskit.methods.quantize.calibration import Calibration, exact_matches, gathered
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.quantize.keeping import fewest, kept
from compresskit.methods.quantize.sensitivity import largest_inputs, sensitivities
from compresskit.methods.quantize.smoothing import folds, smooth
from compresskit.methods.run import outline, run
from compresskit.models.int8 import LEVELS, Int8Linear, dequantize, quantize
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from tests import tiny
from tests.contract import makers
from tests.methods.quantize.test_int8 import FAMILIES, answers, base_of
from tests.methods.quantize.test_quantize import logits

AUTO: dict[str, Any] = {"encoder": AutoModelForQuestionAnswering, "seq2seq": AutoModelForSeq2SeqLM}


SHAPE = (
    *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
    *("pad_token_id", "eos_token_id", "decoder_start_token_id"),
)


def config(root: Path, count: int = 6, **more: Any) -> QuantizeConfig:
    makers.data(root / "data.json")
    return QuantizeConfig(calibrate=count, train_data=str(root / "data.json"), **more)


def opened(family: str, root: Path) -> TrainableModel:
    return load_trainable(resolve(str(base_of(family, root / "base"))))


def quantized(family: str, root: Path, **more: Any) -> Path:
    base = base_of(family, root / "base")
    return run(Job("quantize", QuantizeOptions(str(base), root / "out"), config(root, **more)))


def loss(loaded: TrainableModel, batch: dict[str, Tensor]) -> float:
    with torch.no_grad():
        choices = loaded.task.choices(loaded.model, batch)
        return float(nn.functional.cross_entropy(choices.logits.double(), choices.labels, reduction="sum"))  # type: ignore[arg-type]


# What rounding costs


@pytest.mark.parametrize("family", FAMILIES)
def test_sensitivities_are_slopes_towards_the_rounded_weights(family: str, tmp_path: Path) -> None:
    """By finite differences of the loss along each error, one window after the other.

    They are rough: logits are rounded to fp32, and a step can cross the bend of a ReLU or a maximum.
    """
    loaded = opened(family, tmp_path)
    loaded.model.eval().double()
    batches = gathered(loaded, config(tmp_path)).batches[:3]
    names = int8.quantizable(loaded)
    expected = {}
    for name in names:
        weight = loaded.model.get_parameter(name).data
        before, error = weight.clone(), (dequantize(*quantize(weight)).double() - weight) / 8
        slopes = []
        for batch in batches:
            weight.copy_(before + error)
            ahead = loss(loaded, batch)
            weight.copy_(before - error)
            slopes.append((ahead - loss(loaded, batch)) * 4)
            weight.copy_(before)
        expected[name] = sum(slope**2 for slope in slopes) / len(slopes) / 2
    found = sensitivities(loaded, names, batches, {})
    largest = max(expected.values())
    assert largest > 0
    assert found == {name: pytest.approx(cost, rel=0.15, abs=1e-3 * largest) for name, cost in expected.items()}


def test_rounded_inputs_count(tmp_path: Path) -> None:
    """A layer whose inputs have an outlier costs more with them rounded, by one scale for all the most."""
    loaded = opened("encoder", tmp_path)
    name = "bert.encoder.layer.1.intermediate.dense"
    batches = gathered(loaded, config(tmp_path)).batches
    with torch.no_grad():
        norm: Any = loaded.model.get_submodule("bert.encoder.layer.1.attention.output.LayerNorm")
        norm.bias[3] += 40.0
    scale = largest_inputs(loaded, [name], batches)[name].max().reshape(1) / LEVELS
    kinds: list[dict[str, Tensor | None]] = [{}, {name: None}, {name: 4 * scale}]
    costs = [sensitivities(loaded, [f"{name}.weight"], batches, inputs)[f"{name}.weight"] for inputs in kinds]
    assert costs[0] < costs[1] < costs[2]


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    loaded = opened("encoder", tmp_path)
    with torch.no_grad():
        loaded.model.get_parameter("qa_outputs.bias").fill_(float("inf"))
    with pytest.raises(RunFailed, match=r"the loss of .* is not a number"):
        sensitivities(loaded, int8.quantizable(loaded), gathered(loaded, config(tmp_path)).batches, {})


# What stays in 16 bits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_worst_stay_in_16_bits(family: str, tmp_path: Path) -> None:
    folder = quantized(family, tmp_path, keep_top=3, activations="none")
    manifest = read_manifest(folder)
    assert manifest is not None
    metrics = manifest.steps[-1].metrics
    costs = metrics["sensitivities"]
    assert metrics["in_16_bits"] == sorted(costs, key=costs.__getitem__)[:-4:-1]
    tensors, full = load_file(folder / "model.safetensors"), load_file(tmp_path / "base" / "model.safetensors")
    assert {name for name, tensor in tensors.items() if tensor.dtype == torch.float16} == set(metrics["in_16_bits"])
    assert {name for name in costs if tensors[name].dtype == torch.int8} == costs.keys() - metrics["in_16_bits"]
    for name in metrics["in_16_bits"]:
        assert torch.equal(tensors[name], full[name].half())
    ours = load(str(folder), device="cpu")
    assert ours.model.dtype == torch.float32
    if family in AUTO:
        plain = AUTO[family].from_pretrained(folder)
        torch.testing.assert_close(logits(ours.model), logits(plain), atol=1e-5, rtol=1e-5)


def test_the_data_are_the_training_data(tmp_path: Path) -> None:
    folder = quantized("encoder", tmp_path, count=5)
    manifest = read_manifest(folder)
    assert manifest is not None
    data, whole = manifest.steps[-1].data, load_data(str(tmp_path / "data.json"), "train")
    assert data is not None
    assert (data.sha256, data.questions) == (whole.info.sha256, 5)


def test_what_it_was_trained_on_is_the_default(tmp_path: Path) -> None:
    assert (
        main(["train", "demo/bert", "-o", str(tmp_path / "dense"), "--max-train-samples", "40", "--max-steps", "1"])
        == 0
    )
    assert main(["quantize", str(tmp_path / "dense"), "-o", str(tmp_path / "out"), "--calibrate", "4"]) == 0
    data = json.loads((tmp_path / "out" / "compresskit.json").read_text())["steps"][-1]["data"]
    assert (data["path"], data["sha256"]) == ("demo", load_data("demo", "train").info.sha256)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_fewest_that_hold(most: int, first: int) -> None:
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count >= first

    assert fewest(most, holds) == min(first, most)
    assert len(asked) <= 2 * (most + 1).bit_length() + 1


def test_as_many_stay_as_the_loss_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer in 8 bits is made to cost one point of EM."""
    loaded = opened("encoder", tmp_path)

    def scored(loaded: TrainableModel, calibration: Calibration) -> float:
        return 90.0 - sum(isinstance(module, Int8Linear) for module in loaded.model.modules())

    monkeypatch.setattr(keeping, "exact_matches", scored)
    names = [name for name in int8.quantizable(loaded) if "embeddings" not in name]
    costs = {name: float(number) for number, name in enumerate(names)}
    calibration = gathered(loaded, config(tmp_path))
    found = kept(loaded, costs, calibration, config(tmp_path, count=50, max_loss=4.0), {})
    assert found == names[:3:-1]
    assert not any(isinstance(module, Int8Linear) for module in loaded.model.modules())


def test_exact_matches_are_those_of_the_official_rules(tmp_path: Path) -> None:
    loaded = opened("encoder", tmp_path)
    calibration = gathered(loaded, config(tmp_path))
    given = list(loaded.task.answer(loaded, calibration.examples, calibration.options))
    golds = [[answer.text for answer in example.answers] or [""] for example in calibration.examples]
    right = sum(
        answer.text.lower() in [text.lower() for text in texts] for answer, texts in zip(given, golds, strict=True)
    )
    assert exact_matches(loaded, calibration) == pytest.approx(100 * right / len(given))


# Smoothing


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("family", ["encoder", "seq2seq"])
def test_outliers_move_into_the_weights_and_nothing_else_changes(family: str, gated: bool, tmp_path: Path) -> None:
    """Folds with an outlier among their channels pay; what the model computes stays."""
    loaded = opened(family, tmp_path)
    if family == "seq2seq" and gated:
        shape = {name: getattr(loaded.model.config, name) for name in SHAPE}
        loaded.model = T5ForConditionalGeneration(T5Config(**shape, feed_forward_proj="gated-gelu"))
        assert loaded.model.get_submodule("encoder.block.0.layer.1.DenseReluDense.wi_1")
    found = folds(loaded.model)
    sources = {type(loaded.model.get_submodule(fold.source)).__name__ for fold in found}
    assert sources == ({"Linear"} if family == "encoder" else {"Linear", "T5LayerNorm"})
    assert len({reader for fold in found for reader in fold.readers}) == sum(len(fold.readers) for fold in found)
    with torch.no_grad():
        for fold in found:  # rows of very unlike size
            weight = loaded.model.get_parameter(f"{fold.source}.weight")
            weight[::7] *= 30
    before = logits(loaded.model)
    calibration = gathered(loaded, config(tmp_path))
    names = int8.quantizable(loaded)
    plain = sensitivities(loaded, names, calibration.batches, dict.fromkeys(int8.linear_layers(loaded.model, names)))
    smoothed = smooth(loaded, names, calibration.batches, static=False)
    assert smoothed.folds > 0
    readers = {f"{reader}.weight" for fold in found for reader in fold.readers}
    assert sum(smoothed.costs[name] for name in readers) < sum(plain[name] for name in readers)
    torch.testing.assert_close(logits(loaded.model), before, atol=1e-4 * float(before.abs().max()), rtol=1e-4)
    again = largest_inputs(loaded, list(smoothed.inputs), calibration.batches)
    for name, largest in smoothed.inputs.items():
        torch.testing.assert_close(again[name], largest, rtol=1e-3, atol=1e-3 * float(largest.max()))


# Static inputs


@pytest.mark.parametrize("family", AUTO)
def test_inputs_by_one_scale(family: str, tmp_path: Path) -> None:
    folder = quantized(family, tmp_path, static=True, activations="int8")
    ours = load(str(folder), device="cpu")
    layers = {name: module for name, module in ours.model.named_modules() if isinstance(module, Int8Linear)}
    scales = {name: layer.input_scale for name, layer in layers.items() if layer.input_scale is not None}
    assert scales.keys() == {name for name, layer in layers.items() if not layer.shared}
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(stored[f"{name}.input_scale"], scale) for name, scale in scales.items())
    plain = AUTO[family].from_pretrained(folder)
    expected, found = logits(plain), logits(ours.model)
    torch.testing.assert_close(found, expected, atol=0.1 * float(expected.abs().max()), rtol=0.1)
    assert not torch.equal(found, expected)
    examples = tiny.examples(6)
    assert answers(load(str(folder), device="cpu"), examples) == answers(ours, examples)


def test_one_scale_cuts_off_what_is_beyond_it() -> None:
    torch.manual_seed(0)
    weight, scale = torch.randn(32, 64), torch.tensor([1 / LEVELS])
    layer = Int8Linear(*quantize(weight), None, input_scale=scale)
    layer.activations = "int8"
    inputs = torch.randn(20, 64)
    expected = (inputs.clamp(-1, 1) / scale).round() * scale @ dequantize(*quantize(weight)).T
    torch.testing.assert_close(layer(inputs), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["encoder", "lstm"])
def test_a_calibrated_graph(family: str, tmp_path: Path) -> None:
    """Its inputs are rounded by scales that stand in it; tables are in 8 bits, and sums are not."""
    pytest.importorskip("onnxruntime")
    folder = quantized(family, tmp_path, backend="onnxruntime")
    graph = onnx.load(folder / "model.onnx").graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert rounded
    assert all(node.input[1] in stored and stored[node.input[1]].size == 1 for node in rounded)
    readers = {node.op_type for node in graph.node for each in rounded if each.output[0] in node.input}
    assert readers == {"DequantizeLinear"}
    one, two = (answers(load(str(each), device="cpu"), tiny.examples(8)) for each in (folder, tmp_path / "base"))
    for found, expected in zip(one, two, strict=True):
        assert found.null_score == pytest.approx(expected.null_score, abs=0.25)


def test_what_was_calibrated_is_merged_to_the_same_logits(tmp_path: Path) -> None:
    folder = quantized("encoder", tmp_path, keep_top=2, static=True)
    merged = run(Job("merge", MergeOptions(str(folder), tmp_path / "merged"), MergeConfig()))
    plain, packed = (AutoModelForQuestionAnswering.from_pretrained(each) for each in (merged, folder))
    torch.testing.assert_close(logits(plain), logits(packed), atol=1e-5, rtol=1e-5)
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.float32}


# The plan


@pytest.mark.parametrize(("backend", "bits"), [("torch", 8), ("bitsandbytes", 8), ("bitsandbytes", 4)])
def test_the_plan_tells_the_bytes(backend: Any, bits: int, tmp_path: Path) -> None:
    """The file has a header too, and of bitsandbytes the settings of each layer."""
    base = base_of("encoder", tmp_path / "base")
    job = Job("quantize", QuantizeOptions(str(base), tmp_path / "out"), QuantizeConfig(bits=bits, backend=backend))
    planned = outline(job)
    assert not (tmp_path / "out").exists()
    size = (run(job) / "model.safetensors").stat().st_size
    assert planned.target == tmp_path / "out"
    assert 0 < size - planned.checkpoint_bytes < 30_000


@pytest.mark.parametrize("activations", ["int8", "none"])
def test_the_arithmetic_is_told_by_plan_and_row(activations: Any, tmp_path: Path, capsys: Any) -> None:
    base = base_of("encoder", tmp_path / "base")
    asked = ["quantize", str(base), "-o", str(tmp_path / "out"), "--activations", activations]
    assert main([*asked, "--plan"]) == 0
    plan = capsys.readouterr().out
    assert main(asked) == 0
    makers.data(tmp_path / "data.json")
    evaluation = ["eval", str(base), str(tmp_path / "out"), "--data", str(tmp_path / "data.json"), "--format", "json"]
    assert main([*evaluation, "--max-length", "48", "--stride", "8", "--device", "cpu"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["arithmetic"] is None
    assert ("oneDNN" in rows[1]["arithmetic"]) == (activations == "int8")
    assert rows[1]["arithmetic"] in plan


# Bad input


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"keep_top": 2}, "--keep-top 2 has no effect without --calibrate"),
        ({"max_loss": 0.5}, "--max-loss 0.5 has no effect without --calibrate"),
        ({"static": True}, "--static has no effect without --calibrate"),
        ({"train_data": "demo"}, "--train-data demo has no effect without --calibrate"),
        ({"seed": 1}, "--seed 1 has no effect without --calibrate"),
        ({"calibrate": 8, "keep_top": 2, "max_loss": 20.0}, "exclude each other"),
        ({"calibrate": 8, "max_loss": 0.5}, "--calibrate 200 or more"),
        ({"calibrate": 8, "static": True, "activations": "none"}, "--static is of inputs in 8 bits"),
        (
            {"calibrate": 8, "backend": "onnxruntime", "static": True},
            "--static has no effect with --backend onnxruntime",
        ),
        ({"calibrate": 8, "backend": "bitsandbytes"}, "--calibrate 8 has no effect with --backend bitsandbytes"),
    ],
)
def test_options_without_effect(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        QuantizeConfig(**settings)


def test_what_cannot_be_calibrated(tmp_path: Path) -> None:
    base = base_of("encoder", tmp_path / "base")
    options = QuantizeOptions(str(base), tmp_path / "out")
    with pytest.raises(UsageError, match="does not tell what it was trained on; give --train-data"):
        run(Job("quantize", options, QuantizeConfig(calibrate=4)))
    with pytest.raises(UsageError, match="matrices for 8 bits; --keep-top has to be less"):
        run(Job("quantize", options, config(tmp_path, keep_top=99)))
    writer = base_of("seq2seq", tmp_path / "writer")
    graphs = Job("quantize", QuantizeOptions(str(writer), tmp_path / "out"), config(tmp_path, backend="onnxruntime"))
    with pytest.raises(UsageError, match="--calibrate 6 has no effect with the graphs of"):
        run(graphs)
    (tmp_path / "broken.json").write_text('{"data": [')
    with pytest.raises(InputError, match=r"broken\.json"):
        run(Job("quantize", options, QuantizeConfig(calibrate=4, train_data=str(tmp_path / "broken.json"))))
    assert not (tmp_path / "out").exists()
