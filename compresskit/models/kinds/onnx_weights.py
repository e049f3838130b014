"""Counts the weights in an ONNX file; needs the package onnx, which running the file does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
# Integers so short that they are neither shapes nor indices.
SHORT = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4}
# Which inputs of a node are quantized weights, their scale and their zero point (ONNX, and onnxruntime's own nodes).
QUANTIZED: Mapping[str, tuple[int, int | None, int]] = {
    "DequantizeLinear": (0, 1, 2),
    "MatMulInteger": (1, None, 3),
    "QLinearMatMul": (3, 4, 5),
    "MatMulIntegerToFloat": (1, 3, 5),
    "DynamicQuantizeMatMul": (1, 2, 3),
    "QGemm": (3, 4, 5),
    "QAttention": (1, 4, 7),
}
# Several weights in one number, in an order that only the node knows.
PACKED = {"MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"}


@dataclass(slots=True)
class _Roles:
    """What is not a weight (scales and zero points), and the zero point, and its axis, of each quantized weight."""

    others: set[str] = field(default_factory=set)
    zeros: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, weight: str, scale: str, zero: str, axis: int) -> None:
        self.others |= {scale, zero}
        self.zeros.setdefault(weight, (zero, axis))


def count(path: Path) -> tuple[int, int] | None:
    """How many weights a graph holds, and how many are not zero; None where it packs them.

    Weights are its floating-point initializers of more than one number, and the quantized ones, of which those at the
    zero point are zero. Scales, zero points, shapes and indices are not weights.
    """
    graph = onnx.load(path).graph
    if any(node.op_type in PACKED for node in graph.node):
        return None
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    roles = _roles(graph)
    total = nonzero = 0
    for name, tensor in tensors.items():
        if name in roles.others or prod(tensor.dims) < 2:
            continue
        if tensor.data_type in FLOATS | SHORT or name in roles.zeros:
            values = numpy_helper.to_array(tensor)
            zero, axis = roles.zeros.get(name, ("", 0))
            point = _along(numpy_helper.to_array(tensors[zero]), values, axis) if zero in tensors else 0
            total += values.size
            nonzero += int(np.count_nonzero(values != point))
    return total, nonzero


def _roles(graph: GraphProto) -> _Roles:
    """What the graph's nodes, and the names that onnxruntime's quantizer gives, say of its initializers."""
    roles = _Roles()
    for node in graph.node:
        if node.op_type in QUANTIZED:
            weight, scale, zero = (_input(node, index) for index in QUANTIZED[node.op_type])
            roles.add(weight, scale, zero, _axis(node))
    for tensor in graph.initializer:
        if tensor.name.endswith("_quantized"):
            stem = tensor.name.removesuffix("_quantized")
            roles.add(tensor.name, f"{stem}_scale", f"{stem}_zero_point", -1)
    return roles


def _input(node: NodeProto, index: int | None) -> str:
    return node.input[index] if index is not None and index < len(node.input) else ""


def _axis(node: NodeProto) -> int:
    """The axis of zero points by channel: DequantizeLinear says it (1 by default), products have it last."""
    if node.op_type != "DequantizeLinear":
        return -1
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)


def _along(point: NDArray[Any], values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Zero points in a shape that compares with `values`: one for all, one a channel, or one a block of an axis."""
    if point.size == 1:
        return point.reshape(())
    if point.ndim == 1:
        return point.reshape([-1 if index == axis % values.ndim else 1 for index in range(values.ndim)])
    block = -(-values.shape[axis] // point.shape[axis])
    return np.repeat(point, block, axis=axis).take(np.arange(values.shape[axis]), axis=axis)
