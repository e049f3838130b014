"""Counts the weights in ONNX files; needs the package onnx, which running them does not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
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


def count(paths: Sequence[Path]) -> tuple[int, int] | None:
    """How many weights graphs hold in all, and how many are not zero; None where one packs them.

    Weights are floating-point initializers of more than one number, and the quantized ones, of which those at the
    zero point are zero. Scales, zero points, shapes and indices are not weights. An embedding that graphs share counts
    once, and a decoder with past holds what the decoder before it does.
    """
    total = nonzero = 0
    known: set[bytes] = set()
    for path in paths[:2]:
        graph = onnx.load(path).graph
        if any(node.op_type in PACKED for node in graph.node):
            return None
        looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
        found: set[bytes] = set()
        for name, values, point in _weights(graph):
            if name in looked_up:
                found.add(digest := hashlib.sha256(values.tobytes()).digest())
                if digest in known:
                    continue
            total += values.size
            nonzero += int(np.count_nonzero(values != point))
        known |= found
    return total, nonzero


def _weights(graph: GraphProto) -> Iterator[tuple[str, NDArray[Any], NDArray[Any] | int]]:
    """The weights of a graph: name, values, and the zero points that these compare with."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    roles = _roles(graph)
    for name, tensor in tensors.items():
        if name in roles.others or prod(tensor.dims) < 2:
            continue
        if tensor.data_type in FLOATS | SHORT or name in roles.zeros:
            values = numpy_helper.to_array(tensor)
            zero, axis = roles.zeros.get(name, ("", 0))
            yield name, values, _along(numpy_helper.to_array(tensors[zero]), values, axis) if zero in tensors else 0


def _roles(graph: GraphProto) -> _Roles:
    """What the graph's nodes, and the names that onnxruntime's quantizer gives, say of its initializers."""
    roles = _Roles()
    for node in graph.node:
        if node.op_type in QUANTIZED:
            weight, scale, zero = (_input(node, index) for index in QUANTIZED[node.op_type])
            roles.add(weight, scale, zero, _axis(node))
    for name in {tensor.name for tensor in graph.initializer}.union(*(node.input for node in graph.node)):
        if name.endswith("_quantized"):
            stem = name.removesuffix("_quantized")
            roles.add(name, f"{stem}_scale", f"{stem}_zero_point", -1)
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
