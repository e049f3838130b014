"""The onnxruntime backend of `quantize` for encoder-decoders: three graphs over one file of weights in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from compresskit import console
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.errors import RunFailed
from compresskit.methods.export.graph import ONE_FILE, WEIGHTS, check_difference, quiet, save_configs
from compresskit.methods.export.seq2seq import compared, graphs
from compresskit.methods.export.shared import lookups, save_shared
from compresskit.methods.quantize.graph import Graph, whole_products
from compresskit.models.kinds.int8 import SMALLEST_SIDE


class Graphs(Graph):
    """An encoder-decoder as graphs: products as in `Graph`, embeddings in 8 bits with a scale for each token."""

    def save(self, folder: Path) -> None:
        """The three graphs, made of those that were compared with torch, their weights, and the configuration."""
        whole = graphs(self.loaded)
        packed = {name: quantized(graph, self.loaded.ref) for name, graph in whole.items()}
        with temporary_folder() as made:
            save_shared(whole, made, WEIGHTS)
            worst = compared(self.loaded, made)
            self._products = {name for path in made.glob("*.onnx") for name in whole_products(path)}
        check_difference(self.loaded.ref, worst)
        console.info(f"the graphs in full give the model's logits (largest difference {worst:.0e})")
        save_shared(packed, folder, WEIGHTS)
        off = compared(self.loaded, folder)
        console.info(f"in 8 bits their logits differ by up to {off:.1g} of the largest")
        save_configs(self.loaded.model, folder)


def quantized(model: ir.Model, ref: str) -> ir.Model:
    """The same graph with products and embeddings in 8 bits.

    Raises RunFailed, naming the checkpoint `ref`, where it is too large for that.
    """
    tensors = (value.const_value for value in model.graph.initializers.values())
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) > ONE_FILE:
        raise RunFailed(f"a graph of {ref} is larger than onnxruntime quantizes (2 GB); use --backend torch")
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]  # shapes of before the exporter's own simplifications; they are found again
    with temporary_folder() as made, quiet():
        path = made / "model.onnx"
        quantize_dynamic(proto, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
        found = ir.load(path)
    _quantize_tables(found.graph)
    return found


def _quantize_tables(graph: ir.Graph) -> None:
    """Keep embeddings in 8 bits too; rows are turned into numbers where they are looked up.

    Each row has the scale, and so the codes, of an output channel: those of an output over the vocabulary that is tied
    to the embeddings are the same, and are written once.
    """
    for lookup, table in list(lookups(graph)):
        assert table.const_value is not None
        weight = table.const_value.numpy()
        if weight.dtype != np.float32 or weight.ndim != 2 or min(weight.shape) < SMALLEST_SIDE:
            continue
        codes, scale = _by_row(weight)
        kept = _initializer(graph, f"{table.name}_quantized", codes)
        scales = _initializer(graph, f"{table.name}_scale", scale)
        rows, factors = (ir.node("Gather", [each, lookup.inputs[1]]) for each in (kept, scales))
        numbers = ir.node("Cast", [rows.outputs[0]], {"to": ir.DataType.FLOAT})
        product = ir.node("Mul", [numbers.outputs[0], factors.outputs[0]])
        graph.insert_before(lookup, [rows, factors, numbers, product])
        lookup.outputs[0].replace_all_uses_with(product.outputs[0])
        graph.remove(lookup, safe=True)
        if not table.uses():
            del graph.initializers[str(table.name)]


def _by_row(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (rows, width) and scales (rows, 1), as onnxruntime's quantizer has them for a channel."""
    scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale


def _initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A new initializer; that of the name where there is one."""
    if name not in graph.initializers:
        graph.register_initializer(ir.val(name, const_value=ir.tensor(array, name=name)))
    return graph.initializers[name]
