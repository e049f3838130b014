"""`quantize --backend onnxruntime` of an encoder-decoder: what is in 8 bits, each code once, and what is left of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import RunFailed
from compresskit.methods.job import Job
from compresskit.methods.quantize import graphs
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.kinds.int8 import SMALLEST_SIDE
from compresskit.models.kinds.onnx import SEQ2SEQ
from compresskit.models.probing import texts
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import resolve
from compresskit.models.task import Batch
from tests.models.seq2seq_graphs import ExportedT5


@pytest.fixture
def packed(exported_t5: ExportedT5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(graphs, "graphs", exported_t5.again)
    job = Job(
        "quantize", QuantizeOptions(str(exported_t5.base), tmp_path / "out"), QuantizeConfig(backend="onnxruntime")
    )
    return run(job)


def test_its_logits_are_nearly_the_models(packed: Path, exported_t5: ExportedT5) -> None:
    manifest = read_manifest(packed)
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("onnx", "quantize/onnx-int8")
    near, exact = (load(str(folder), device="cpu") for folder in (packed, exported_t5.base))
    errors = []
    with torch.no_grad():
        for batch in texts(load_trainable(resolve(str(exported_t5.base)))):
            found, expected = (first_pass(each.model, batch) for each in (near, exact))
            errors.append(float((found - expected).norm() / expected.norm()))
    assert 0 < max(errors) < 0.5
    assert sum(errors) / len(errors) < 0.2


def first_pass(model: Any, batch: Batch) -> Tensor:
    """The logits of a decoder that has read nothing yet."""
    logits: Tensor = model(**batch).logits
    return logits


def test_every_weight_is_there_once(packed: Path, exported_t5: ExportedT5) -> None:
    """A byte each, but for norms and relative positions; the output over the vocabulary is the embeddings."""
    counts = [each.kind.stored(each) for each in (load(str(f), device="cpu") for f in (packed, exported_t5.base))]
    assert counts[0].total == counts[1].total
    places: dict[tuple[int, int], int] = {}
    for name in SEQ2SEQ:
        for tensor in onnx.load(packed / name, load_external_data=False).graph.initializer:
            if entry := {each.key: int(each.value) for each in tensor.external_data if each.key != "location"}:
                places[entry["offset"], entry["length"]] = tensor.data_type
    assert set(places.values()) == {onnx.TensorProto.INT8}
    weights = load_file(exported_t5.base / "model.safetensors").values()
    matrices = sum(each.size for each in weights if each.ndim == 2 and min(each.shape) >= SMALLEST_SIDE)
    assert sum(length for _, length in places) == matrices


def test_an_embedding_has_a_scale_for_each_token(packed: Path, exported_t5: ExportedT5) -> None:
    weight = load_file(exported_t5.base / "model.safetensors")["shared.weight"]
    tensors = {
        each.name: onnx.numpy_helper.to_array(each)
        for each in onnx.load(packed / SEQ2SEQ[0], load_external_data=True).graph.initializer
    }
    (name,) = (name for name, each in tensors.items() if each.shape == weight.shape)
    scale = tensors[name.replace("_quantized", "_scale")]
    assert scale.shape == (len(weight), 1)
    assert np.abs(tensors[name]).max(axis=1).tolist() == [127] * len(weight)
    assert np.abs(tensors[name] * scale - weight).max() <= 0.51 * scale.max()


def test_a_row_of_zeros_stays_zero() -> None:
    codes, scale = graphs._by_row(np.array([[0, 0], [1, -2]], np.float32))
    assert codes.tolist() == [[0, 0], [64, -127]]
    assert scale[0] == 1


def test_a_graph_that_is_too_large_is_refused(exported_t5: ExportedT5, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "ONE_FILE", 1000)
    with pytest.raises(RunFailed, match=r"a graph of tiny is larger than onnxruntime quantizes .* use --backend torch"):
        graphs.quantized(exported_t5.again()[SEQ2SEQ[0]], "tiny")
