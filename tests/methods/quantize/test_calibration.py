"""`quantize --calibrate`: what stays in 16 bits, static inputs, the plan, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
)

from compresskit.checkpoint.manifest import Data, Manifest, Step, read_manifest
from compresskit.cli.app import main
from compresskit.data.examples import Answer
from compresskit.data.load import load as load_data
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.quantize import keeping
from compresskit.methods.quantize.calibration import Calibration, exact_matches, gathered, training_data
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.quantize.keeping import fewest, kept
from compresskit.methods.run import outline, run
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.int8 import LEVELS, Int8Linear, dequantize, quantize
from compresskit.models.kinds import int8, kind_of
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from tests import tiny
from tests.contract import makers
from tests.methods.quantize.test_int8 import FAMILIES, answers, base_of
from tests.methods.quantize.test_quantize import logits

AUTO: dict[str, Any] = {"encoder": AutoModelForQuestionAnswering, "seq2seq": AutoModelForSeq2SeqLM}


def config(root: Path, count: int = 6, **more: Any) -> QuantizeConfig:
    makers.data(root / "data.json")
    return QuantizeConfig(calibrate=count, train_data=str(root / "data.json"), **more)


def opened(family: str, root: Path) -> TrainableModel:
    return load_trainable(resolve(str(base_of(family, root / "base"))))


def quantized(family: str, root: Path, **more: Any) -> Path:
    base = base_of(family, root / "base")
    return run(Job("quantize", QuantizeOptions(str(base), root / "out"), config(root, **more)))


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
    """By the manifest, the last of its steps that tells of data; a given one goes before."""
    base, data = base_of("encoder", tmp_path / "base"), makers.data(tmp_path / "data.json")
    info = load_data(str(data), "train").info
    known = Data(str(data), info.sha256, info.questions, info.unanswerable)
    steps = [Step("train", {}, 0, known, 1.0, {}), Step("merge", {}, 0, None, 1.0, {})]
    Manifest("encoder", "full", None, steps).write(base)
    out = run(Job("quantize", QuantizeOptions(str(base), tmp_path / "out"), QuantizeConfig(calibrate=4)))
    found = json.loads((out / "compresskit.json").read_text())["steps"][-1]["data"]
    assert (found["path"], found["sha256"]) == (str(data), info.sha256)
    assert training_data(load_trainable(resolve(str(base))), QuantizeConfig(calibrate=4, train_data="demo")) == "demo"


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


def test_where_no_count_holds_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(loaded: TrainableModel, calibration: Calibration) -> float:
        return 20.0 if any(isinstance(module, Int8Linear) for module in loaded.model.modules()) else 90.0

    monkeypatch.setattr(keeping, "exact_matches", scored)
    names = [name for name in int8.quantizable(opened("encoder", tmp_path)) if "embeddings" not in name]
    monkeypatch.setattr(int8, "quantizable", lambda loaded: names)
    with pytest.raises(RunFailed, match="in 8 bits holds --max-loss 25; allow more"):
        quantized("encoder", tmp_path, max_loss=25.0)
    assert not (tmp_path / "out").exists()


def test_a_weight_that_16_bits_cannot_hold_stays_in_32(tmp_path: Path) -> None:
    base = base_of("encoder", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    tensors[name][0, 0] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    settings = config(tmp_path, keep_top=len(int8.quantizable(load_trainable(resolve(str(base))))) - 1)
    stored = load_file(
        run(Job("quantize", QuantizeOptions(str(base), tmp_path / "out"), settings)) / "model.safetensors"
    )
    assert stored[name].dtype == torch.float32
    assert torch.equal(stored[name], tensors[name])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32, torch.float16, torch.int8}


def test_the_manifest_tells_what_was_done(tmp_path: Path) -> None:
    folder = quantized("encoder", tmp_path, seed=7)
    step = json.loads((folder / "compresskit.json").read_text())["steps"][-1]
    assert (step["seed"], step["config"]["seed"], step["data"]["questions"]) == (7, 7, 6)
    assert QuantizeConfig(calibrate=4).describe()["seed"] == 42
    graph = QuantizeConfig(calibrate=4, backend="onnxruntime").describe()
    assert graph.keys().isdisjoint({"keep_top", "max_loss", "static", "activations"})
    assert QuantizeConfig().describe().keys() == {"bits", "backend", "activations"}


def test_a_mask_keeps_matrices_too(tmp_path: Path) -> None:
    """`inspect` of the coded folder shows what is in 16 bits; it merges to the same answers."""
    base = base_of("encoder", tmp_path / "base")
    makers.mask(base, tmp_path / "mask")
    options = QuantizeOptions(str(tmp_path / "mask"), tmp_path / "out")
    folder = run(Job("quantize", options, config(tmp_path, keep_top=6)))
    manifest, source = read_manifest(folder), resolve(str(folder))
    assert manifest is not None
    kept = {name for name in manifest.steps[-1].metrics["in_16_bits"] if ".layer." in name}
    matrices = kind_of(source).contents(source).matrices
    assert {matrix.name for matrix in matrices if matrix.dtype == "float16"} == kept
    assert kept
    assert len(matrices) == 12
    merged = run(Job("merge", MergeOptions(str(folder), tmp_path / "merged"), MergeConfig()))
    ours = load(str(folder), device="cpu")
    int8.set_activations(ours.model, "none")
    torch.testing.assert_close(logits(load(str(merged), device="cpu").model), logits(ours.model), atol=1e-5, rtol=1e-5)


def test_exact_matches_are_those_of_the_official_rules(tmp_path: Path) -> None:
    """Articles, case and punctuation do not count; an empty answer is right where there is none."""
    golds = [["the Ada"], ["1843."], [], ["in London", "London"], ["Ada"]]
    given = ["ada!", "1843", "", "London", ""]
    examples = [
        replace(example, answers=tuple(Answer(text, 0) for text in texts))
        for example, texts in zip(tiny.examples(5), golds, strict=True)
    ]

    class Told:
        task: Any = None

        def answer(self, loaded: Any, asked: Any, options: Any) -> Any:
            return [Prediction(each.id, text, None, None, text) for each, text in zip(asked, given, strict=True)]

    told: Any = Told()
    told.task = told
    calibration: Any = Calibration(None, examples, AnswerOptions(), ())  # type: ignore[arg-type]
    assert exact_matches(told, calibration) == pytest.approx(80.0)


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


@pytest.mark.parametrize("family", ["encoder", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_calibrated_graph(family: str, tmp_path: Path) -> None:
    """Its inputs are rounded by scales that stand in it; tables are in 8 bits, and sums are not."""
    pytest.importorskip("onnxruntime")
    folder = quantized(family, tmp_path, backend="onnxruntime")
    graph = onnx.load(folder / "model.onnx").graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert rounded
    assert all(node.input[1] in stored and stored[node.input[1]].size == 1 for node in rounded)
    numbers = {node.output[0] for node in graph.node for each in rounded if each.output[0] in node.input}
    assert {node.op_type for node in graph.node if numbers & set(node.input)} <= {"MatMul", "Gemm"}
    tables = [stored[node.input[0]] for node in graph.node if node.op_type == "Gather" and node.input[0] in stored]
    assert not [table.shape for table in tables if table.dtype == np.float32 and min(table.shape) > 16]
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


@pytest.mark.usefixtures("measured_here")
def test_the_arithmetic_is_told_by_plan_and_row(tmp_path: Path, capsys: Any) -> None:
    base = base_of("encoder", tmp_path / "base")
    asked = ["quantize", str(base), "-o", str(tmp_path / "out"), "--activations", "int8"]
    assert main([*asked, "--plan"]) == 0
    plan = capsys.readouterr().out
    assert main(asked) == 0
    makers.data(tmp_path / "data.json")
    evaluation = ["eval", str(base), str(tmp_path / "out"), "--data", str(tmp_path / "data.json"), "--format", "json"]
    assert main([*evaluation, "--max-length", "48", "--stride", "8", "--device", "cpu"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["arithmetic"] is None
    assert "oneDNN" in rows[1]["arithmetic"]
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
