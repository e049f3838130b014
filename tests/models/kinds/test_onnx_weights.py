"""Which numbers of an ONNX graph are weights, and which of these are zero, on graphs made by hand."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
# Not skipped: a module of ours that is gone is a fault.
onnx_weights = importlib.import_module("compresskit.models.kinds.onnx_weights")


def write(path: Path, nodes: list[Any], **tensors: Any) -> Path:
    numbers = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", [], [], numbers)), path)
    return path


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, ["out"], **attributes)


def test_floats_of_more_than_one_number(tmp_path: Path) -> None:
    tensors = {
        "weight": np.array([[1.0, 0.0], [-0.0, 2.0]], np.float32),
        "half": np.array([0.0, 1.0, 2.0], np.float16),
        "epsilon": np.float32(1e-5),
        "root": np.array([8.0], np.float32),
        "shape": np.array([1, -1], np.int64),
        "mask": np.array([True, False]),
        "index": np.array([1, 2, 3], np.int32),
    }
    assert onnx_weights.count([write(tmp_path / "a.onnx", [], **tensors)]) == (7, 4)


@pytest.mark.parametrize(
    ("zero", "axis", "nonzero"),
    [
        (np.int8(0), {}, 5),
        (np.int8(3), {}, 4),
        (np.array([0, 3], np.int8), {"axis": 0}, 4),
        (np.array([0, 1, 3], np.int8), {}, 3),  # ONNX's own axis is 1
        (np.array([[0, 3], [1, 4]], np.int8), {"axis": 1, "block_size": 2}, 2),
        (None, {}, 5),
    ],
)
def test_zero_points(zero: Any, axis: dict[str, int], nonzero: int, tmp_path: Path) -> None:
    """The weights are 0 1 3 and 1 3 4; a block is two of a row."""
    tensors = {"weight": np.array([[0, 1, 3], [1, 3, 4]], np.int8), "s": np.ones(2, np.float32)}
    if zero is not None:
        tensors["z"] = zero
    product = node("DequantizeLinear", "weight", "s", *(["z"] if zero is not None else []), **axis)
    assert onnx_weights.count([write(tmp_path / "a.onnx", [product], **tensors)]) == (6, nonzero)


def test_a_product_of_integers_has_its_zero_points_by_column(tmp_path: Path) -> None:
    tensors = {"w": np.array([[5, 6, 7], [6, 6, 6]], np.uint8), "z": np.array([5, 6, 7], np.uint8)}
    path = write(tmp_path / "a.onnx", [node("MatMulInteger", "x", "w", "xz", "z")], **tensors)
    assert onnx_weights.count([path]) == (6, 2)


def test_a_quantized_bias_counts(tmp_path: Path) -> None:
    """32 bits, as the products that it is added to."""
    tensors = {"bias": np.array([0, 7, 9], np.int32), "s": np.ones(3, np.float32), "z": np.zeros(3, np.int32)}
    path = write(tmp_path / "a.onnx", [node("DequantizeLinear", "bias", "s", "z", axis=0)], **tensors)
    assert onnx_weights.count([path]) == (3, 2)


def test_scales_by_name(tmp_path: Path) -> None:
    """onnxruntime multiplies by them in nodes that do not say what they are."""
    tensors = {
        "a_quantized": np.array([[3, 4], [4, 4]], np.uint8),
        "a_scale": np.ones(2, np.float32),
        "a_zero_point": np.array([3, 4], np.uint8),
        "b_scale": np.ones(2, np.float32),
    }
    assert onnx_weights.count([write(tmp_path / "a.onnx", [], **tensors)]) == (4 + 2, 1 + 2)


def test_a_tensor_in_two_places_counts_once(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x", "w"), node("MatMul", "y", "w")]
    assert onnx_weights.count([write(tmp_path / "a.onnx", nodes, w=np.eye(3, dtype=np.float32))]) == (9, 3)


def test_what_a_decoder_shares_counts_once(tmp_path: Path) -> None:
    """Embeddings that both look up; other equal weights are others. The decoder with past has the decoder's."""
    table, ones = np.arange(1.0, 7).reshape(3, 2), np.ones(4)
    paths = []
    for name in ("encoder", "decoder", "with_past"):
        nodes = [node("Gather", "table", "ids"), node("Mul", "x", "ones")]
        own = {"table": table, "ones": ones} if name != "with_past" else {"table": table[:1], "ones": ones}
        paths.append(write(tmp_path / f"{name}.onnx", nodes, **own))
    assert onnx_weights.count(paths) == (6 + 4 + 4, 6 + 4 + 4)


def test_scales_of_a_transposed_weight(tmp_path: Path) -> None:
    """The product's own name is that of a node's output, and its scale is still none of the weights."""
    nodes = [node("Transpose", "t_quantized"), node("MatMulInteger", "x", "w_quantized", "xz", "w_zero_point")]
    tensors = {
        "t_quantized": np.array([[1, 0], [2, 3]], np.int8),
        "t_scale": np.ones((2, 1), np.float32),
        "w_scale": np.ones(2, np.float32),
        "w_zero_point": np.zeros(2, np.int8),
    }
    assert onnx_weights.count([write(tmp_path / "a.onnx", nodes, **tensors)]) == (4, 3)
