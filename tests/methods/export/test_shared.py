"""Graphs over one file of weights, on graphs made by hand."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from compresskit.methods.export.shared import PAGE, save_shared

TABLE = np.arange(1200, dtype=np.float32).reshape(60, 20)


def initializer(name: str, array: NDArray[np.float32]) -> ir.Value:
    return ir.val(name, const_value=ir.tensor(array, name=name))


def graph(weight: NDArray[np.float32]) -> ir.Model:
    """Looks up rows of a table, and multiplies them by a weight."""
    ids, table, other = ir.val("ids", ir.DataType.INT64, ["n"]), initializer("table", TABLE), initializer("w", weight)
    rows = ir.node("Gather", [table, ids])
    product = ir.node("MatMul", [rows.outputs[0], other])
    product.outputs[0].name, product.outputs[0].dtype = "out", ir.DataType.FLOAT
    product.outputs[0].shape = ir.Shape(["n", weight.shape[1]])
    made = ir.Graph([ids], product.outputs, nodes=[rows, product], initializers=[table, other], opset_imports={"": 18})
    return ir.Model(made, ir_version=10)


def run(path: Path) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": np.array([3, 0])})
    return np.asarray(found)


def test_equal_tensors_are_written_once(tmp_path: Path) -> None:
    weights = {"a.onnx": TABLE[:20].copy(), "b.onnx": TABLE[:20].copy(), "c.onnx": TABLE[20:40].copy()}
    save_shared({name: graph(weight) for name, weight in weights.items()}, tmp_path, "data")
    for name, weight in weights.items():
        assert np.array_equal(run(tmp_path / name), TABLE[[3, 0]] @ weight)
    assert (tmp_path / "data").stat().st_size == 4 * PAGE + TABLE[:20].nbytes - PAGE  # the table fills two pages


def test_a_table_transposed_is_computed_from_it(tmp_path: Path) -> None:
    save_shared({"a.onnx": graph(TABLE.T.copy())}, tmp_path, "data")
    assert np.array_equal(run(tmp_path / "a.onnx"), TABLE[[3, 0]] @ TABLE.T)
    assert list(ir.load(tmp_path / "a.onnx").graph.initializers) == ["table"]
    assert (tmp_path / "data").stat().st_size == TABLE.nbytes


def test_what_is_small_stays_in_the_graph(tmp_path: Path) -> None:
    save_shared({"a.onnx": graph(TABLE[:20, :10].copy())}, tmp_path, "data")
    (tmp_path / "data").unlink()
    kept = ir.load(tmp_path / "a.onnx").graph.initializers["w"].const_value
    assert not isinstance(kept, ir.ExternalTensor)
