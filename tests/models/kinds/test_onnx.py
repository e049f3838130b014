"""ONNX folders answer as the torch model that they were exported from, or tell why they cannot."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering

from compresskit.errors import InputError, MissingError
from compresskit.models.answering import AnswerOptions
from compresskit.models.kind import ParameterCount
from compresskit.models.kinds import checkpoint_files, kind_of
from compresskit.models.kinds.onnx import graph_files
from compresskit.models.kinds.onnx_graph import OnnxReader
from compresskit.models.kinds.onnx_session import graph_device
from compresskit.models.registry import load, load_trainable, require_head
from compresskit.models.source import graphs_below, own_files, resolve
from compresskit.models.tasks.span_batches import span_logits
from tests.models import graphs, tiny
from tests.models.adapters import logits

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")  # torch exports with it
quantization = pytest.importorskip("onnxruntime.quantization")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint `base`, and `graph` exported from it."""
    root = tmp_path_factory.mktemp("onnx")
    graphs.export("bert", root / "base", root / "graph")
    return root


@pytest.fixture
def graph(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "graph", tmp_path / "graph"))


def test_a_folder_within_as_the_hub_has_it(graph: Path) -> None:
    """Its further forms are neither opened nor counted."""
    own = {path.name for path in own_files(graph)}
    (graph / "onnx").mkdir()
    (graph / "model.onnx").rename(graph / "onnx" / "model.onnx")
    (graph / "onnx" / "model_quantized.onnx").write_bytes(b"another form")
    loaded = load(str(graph), device="cpu")
    assert (loaded.kind.name, {path.name for path in loaded.files}) == ("onnx", own)
    assert graph_files(graph) == [graph / "onnx" / "model.onnx"]
    with pytest.raises(InputError, match=f"has no config.json; the folder that it lies in has one: give {graph}$"):
        load(str(graph / "onnx"), device="cpu")
    (graph / "model.safetensors").touch()
    assert graphs_below(graph) == []  # where there are torch's weights, they are the checkpoint


def torchs(base: Path) -> Any:
    return AutoModelForQuestionAnswering.from_pretrained(base).eval()


def questions(loaded: Any) -> list[Any]:
    """What a family says to questions of different length, which share batches."""
    texts = ("bad face", "head", "abcdefgh bad. jade, face head " * 3)
    examples = [tiny.example(question, context, id=context) for question in texts[:2] for context in texts]
    return list(loaded.family.task.answer(loaded, examples, AnswerOptions(max_length=40, stride=10, batch_size=4)))


@torch.no_grad()
def close(reader: Any, reference: Any, inputs: dict[str, torch.Tensor], atol: float = 1e-5) -> bool:
    ours, theirs = reader(**inputs), reference(**inputs)
    return all(torch.allclose(getattr(ours, n), getattr(theirs, n), atol=atol) for n in ("start_logits", "end_logits"))


def batch(rows: int, length: int) -> dict[str, torch.Tensor]:
    """Random tokens, of which the second half of each row is padding and another segment."""
    ids = torch.randint(5, 30, (rows, length))
    half = (torch.arange(length) >= length // 2).expand(rows, length).long()
    return {"input_ids": ids, "attention_mask": 1 - half * (torch.arange(rows) % 2)[:, None], "token_type_ids": half}


@pytest.mark.parametrize("shape", [(1, 5), (3, 64), (7, 2)])
def test_it_gives_the_logits_of_torch(shape: tuple[int, int], made: Path) -> None:
    loaded = require_head(load(str(made / "graph"), device="cpu"))
    assert close(loaded.model, torchs(made / "base"), batch(*shape))


def test_it_answers_as_torch(made: Path) -> None:
    loaded, reference = load(str(made / "graph"), device="cpu"), load(str(made / "base"), device="cpu")
    for ours, theirs in zip(questions(loaded), questions(reference), strict=True):
        assert (ours.id, ours.text, ours.span_text) == (theirs.id, theirs.text, theirs.span_text)
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.null_score == pytest.approx(theirs.null_score, abs=1e-4)


def test_what_is_known_of_it(made: Path) -> None:
    folder = made / "graph"
    loaded = load(str(folder), device="cpu")
    assert (loaded.method, loaded.family.name, loaded.device) == ("onnx", "encoder", torch.device("cpu"))
    assert (loaded.ref, loaded.path, loaded.manifest, loaded.base) == (str(folder), folder, None, None)
    assert loaded.tokenizer.model_max_length == tiny.POSITIONS
    assert sorted(loaded.files) == sorted(folder.iterdir())
    assert not loaded.model.training


@pytest.mark.slow
def test_without_token_types(tmp_path: Path) -> None:
    """DistilBERT has none, and its exported graph declares none, whatever the tokenizer gives."""
    graphs.export("distilbert", tmp_path / "base", tmp_path / "graph")
    reader = load(str(tmp_path / "graph"), device="cpu").model
    inputs = batch(2, 9)
    names = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    assert close(reader, torchs(tmp_path / "base"), names)
    assert torch.equal(logits(lambda **_: reader(**inputs)), logits(lambda **_: reader(**names)))


def test_token_types_that_the_tokenizer_does_not_give_are_zero(made: Path) -> None:
    inputs = batch(2, 9)
    del inputs["token_type_ids"]
    assert close(load(str(made / "graph"), device="cpu").model, torchs(made / "base"), inputs)


def test_weights_beside_the_graph(graph: Path, made: Path) -> None:
    graphs.put_weights_beside(graph)
    assert (graph / "model.onnx.data").is_file()
    loaded = load(str(graph), device="cpu")
    assert close(loaded.model, torchs(made / "base"), batch(2, 9))
    assert graph / "model.onnx.data" in checkpoint_files(resolve(str(graph)))
    (graph / "model.onnx.data").unlink()
    with pytest.raises(InputError, match=r"model\.onnx does not open in onnxruntime \(.*; it is damaged, or lacks"):
        load(str(graph), device="cpu")


def test_it_runs_with_torchs_threads(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    options = onnxruntime.SessionOptions

    def session_options() -> Any:
        asked.append(options())
        return asked[0]

    monkeypatch.setattr(onnxruntime, "SessionOptions", session_options)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    load(str(graph), device="cpu")
    assert asked[0].intra_op_num_threads == 3


# Quantized graphs.

QUANTIZED: dict[str, dict[str, Any]] = {
    "int8": {},
    "by channel": {"per_channel": True},
    "uint8": {"weight_type": quantization.QuantType.QUInt8},
}


def quantize(folder: Path, options: dict[str, Any]) -> None:
    """Leave `model_quantized.onnx` in place of `model.onnx`."""
    quantization.quantize_dynamic(folder / "model.onnx", folder / "model_quantized.onnx", **options)
    (folder / "model.onnx").unlink()


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_graph(name: str, graph: Path, made: Path) -> None:
    quantize(graph, QUANTIZED[name])
    loaded = load(str(graph), device="cpu")
    assert loaded.method == "onnx-int8"
    inputs = batch(2, 9)
    assert not close(loaded.model, torchs(made / "base"), inputs)
    session = onnxruntime.InferenceSession(graph / "model_quantized.onnx")
    start, _ = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    assert np.allclose(loaded.model(**inputs).start_logits, start, atol=1e-5)


# Parameters.


def in_torch(base: Path) -> int:
    """All parameters of the torch checkpoint."""
    return sum(parameter.numel() for parameter in torchs(base).parameters())


def count(folder: Path) -> tuple[int, int] | None:
    loaded = load(str(folder), device="cpu")
    counted = loaded.kind.stored(loaded)
    if counted.total is None or counted.nonzero is None:
        assert counted == ParameterCount(None, None, None)
        return None
    assert counted.trainable == 0
    return counted.total, counted.nonzero


def prune_first_matrix(path: Path) -> int:
    """Set half of a graph's first product's weights to zero; how many those are."""
    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "MatMul").input[1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == first)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[::2] = 0
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, first))
    onnx.save(model, path)
    return int((values == 0).sum())


def test_every_weight_counts(graph: Path, made: Path) -> None:
    total = in_torch(made / "base")
    assert count(graph) == (total, total), "torch's random weights are not zero"
    zeros = prune_first_matrix(graph / "model.onnx")
    assert zeros == 128
    assert count(graph) == (total, total - zeros)


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_weights_at_the_zero_point_are_zero(name: str, graph: Path, made: Path) -> None:
    pruned = prune_first_matrix(graph / "model.onnx")
    quantize(graph, QUANTIZED[name])
    found = count(graph)
    assert found is not None
    total, nonzero = found
    assert total == in_torch(made / "base")
    # A weight that is small beside the greatest of its matrix is rounded to zero too: about one in a hundred here.
    assert pruned <= total - nonzero < pruned + 0.05 * total


def test_a_graph_that_packs_its_weights_is_not_counted(graph: Path) -> None:
    nbits = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    model = nbits.MatMulNBitsQuantizer(onnx.load(graph / "model.onnx"), block_size=16, is_symmetric=True)
    model.process()
    model.model.save_model_to_file(str(graph / "model.onnx"))
    assert load(str(graph), device="cpu").method == "onnx-int4"
    assert count(graph) is None


def test_without_the_package_onnx_there_is_no_count(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "compresskit.models.kinds.onnx_weights", raising=False)
    monkeypatch.delattr("compresskit.models.kinds.onnx_weights", raising=False)
    assert count(graph) is None


# What does not open.


def rename_output(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for output, name in zip(model.graph.output, ("logits", "hidden"), strict=True):
        for node in model.graph.node:
            node.output[:] = [name if old == output.name else old for old in node.output]
            node.input[:] = [name if old == output.name else old for old in node.input]
        output.name = name
    onnx.save(model, folder / "model.onnx")


def add_input(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("pixel_values", 1, ["batch"]))
    onnx.save(model, folder / "model.onnx")


def cut(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-99])


def several(folder: Path) -> None:
    shutil.copy(folder / "model.onnx", folder / "a.onnx")
    (folder / "model.onnx").rename(folder / "b.onnx")


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a cut graph": (cut, r"model\.onnx does not open in onnxruntime \("),
    "an empty graph": (lambda f: (f / "model.onnx").write_bytes(b""), r"model\.onnx does not open in onnxruntime \("),
    "a text": (lambda f: (f / "model.onnx").write_text("<html>"), r"model\.onnx does not open in onnxruntime \("),
    "another task": (rename_output, r"model\.onnx gives hidden, logits, and not start_logits and end_logits"),
    "another input": (add_input, "wants the input pixel_values, which is not known here"),
    "several graphs": (several, r"holds several ONNX files \(a\.onnx, b\.onnx\); give a folder with one, or name one"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"is not a checkpoint: it has no config\.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer"),
}


def test_a_damaged_graph_is_bad_input_to_inspect(graph: Path) -> None:
    (graph / "model.onnx").write_text("<html>")
    source = resolve(str(graph))
    with pytest.raises(InputError, match=r"the weights of .* cannot be counted \(.*; a graph is damaged"):
        kind_of(source).contents(source)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_bad_input(name: str, graph: Path) -> None:
    damage, message = DAMAGED[name]
    damage(graph)
    with pytest.raises(InputError, match=message) as caught:
        load(str(graph), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(graph) in str(caught.value)


def test_a_graph_for_one_shape_is_bad_input(graph: Path) -> None:
    graphs.fix_shape(graph)
    with pytest.raises(InputError, match=r"takes inputs of shape \[2, 10\] only; export it with dynamic axes"):
        load(str(graph), device="cpu")


def test_the_graph_of_several_is_model_onnx(graph: Path) -> None:
    (graph / "a.onnx").write_text("broken")
    assert load(str(graph), device="cpu").method == "onnx"


def test_safetensors_come_first(graph: Path, made: Path) -> None:
    shutil.copy(made / "base" / "model.safetensors", graph)
    (graph / "model.onnx").write_text("broken")
    assert load(str(graph), device="cpu").method == "-"


def test_it_is_not_trained_or_merged(graph: Path) -> None:
    with pytest.raises(InputError, match=r"graph is of kind onnx: eval and predict .* give what"):
        load_trainable(resolve(str(graph)))


def test_no_onnxruntime(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError, match=r"needs onnxruntime, which is .*; pip install 'compresskit\[onnx\]'"):
        load(str(graph), device="cpu")


def test_numbers_stay_as_they_are(graph: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(str(graph), device="cpu", dtype="bfloat16")
    assert close(loaded.model, torchs(made / "base"), batch(2, 9))
    assert "is an ONNX graph, whose numbers stay as they are" in capsys.readouterr().err


# A GPU, where onnxruntime has no CUDA.


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.mark.usefixtures("a_gpu")
def test_auto_is_where_onnxruntime_can_and_that_is_told(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load(str(made / "graph"), device="auto").device == torch.device("cpu")
    assert capsys.readouterr().err.count("has no CUDAExecutionProvider: graphs run on the CPU; install") == 1


def test_where_there_is_no_gpu_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert graph_device("auto") == torch.device("cpu")
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("a_gpu")
def test_cuda_is_demanded_in_vain(made: Path) -> None:
    with pytest.raises(MissingError, match="no working CUDAExecutionProvider; use --device cpu, or install"):
        load(str(made / "graph"), device="cuda")


def test_the_task_asks_it_as_a_module(made: Path) -> None:
    reader = load(str(made / "graph"), device="cpu").model
    assert isinstance(reader, OnnxReader)
    scores = span_logits(reader, batch(2, 9))
    assert scores.shape == (2, 9, 2)
    assert bool((scores[1, 5:] == float("-inf")).all())
