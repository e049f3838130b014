"""Several graphs over one file of weights, which holds each weight once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

# Of what is smaller each graph has a copy of its own. ONNX wants what is mapped to begin at a page.
LEAST, PAGE = 1024, 4096


def save_shared(graphs: Mapping[str, ir.Model], folder: Path, weights: str) -> None:
    """Write graphs under their names, and the weights of all of them to a file `weights` beside them.

    Tensors of equal content are written once, and so are embeddings that stand transposed as the output over the
    vocabulary. The graphs are changed.
    """
    known: dict[bytes, int] = {}
    with (folder / weights).open("wb") as file:
        for graph in graphs.values():
            _tie(graph.graph)
            for name, value in graph.graph.initializers.items():
                tensor = value.const_value
                assert tensor is not None
                if tensor.nbytes >= LEAST:
                    offset = _place(tensor.tobytes(), file, known)
                    value.const_value = ir.ExternalTensor(
                        weights, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
                    )
    for name, graph in graphs.items():
        ir.save(graph, folder / name)


def _place(content: bytes, file: BinaryIO, known: dict[bytes, int]) -> int:
    """Where a tensor's content stands in the file; it is written where it is not there yet."""
    digest = hashlib.sha256(content).digest()
    if digest not in known:
        known[digest] = -(-file.tell() // PAGE) * PAGE
        file.seek(known[digest])
        file.write(content)
    return known[digest]


def lookups(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value]]:
    """The nodes of a graph that look up rows of an initializer by whole numbers, as embeddings do; with the latter."""
    for node in graph:
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is not None and table.is_initializer() and node.attributes.get_int("axis", 0) == 0:
            yield node, table


def _tie(graph: ir.Graph) -> None:
    """Compute what is an embedding transposed from that; onnxruntime does so once, when it opens the graph."""
    for _, table in list(lookups(graph)):
        for name, other in list(graph.initializers.items()):
            if other is not table and _is_transposed(table, other):
                node = ir.node("Transpose", [table], {"perm": (1, 0)})
                graph.insert_before(graph[0], node)
                other.replace_all_uses_with(node.outputs[0])
                del graph.initializers[name]
                node.outputs[0].name = name


def _is_transposed(table: ir.Value, other: ir.Value) -> bool:
    one, two = table.const_value, other.const_value
    assert one is not None
    assert two is not None
    shape, other_shape = one.shape.numpy(), two.shape.numpy()
    if len(shape) != 2 or shape[::-1] != other_shape or one.dtype != two.dtype:
        return False
    return np.array_equal(one.numpy().T, two.numpy())
