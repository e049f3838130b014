"""The onnxruntime backend of `quantize`: a graph whose products of matrices are of 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compresskit import console
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.methods.export.graph import compared, quiet, save_configs, write_graph
from compresskit.methods.method import Attached, Footprint
from compresskit.methods.quantize.calibration import gathered
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.methods.quantize.smoothing import smooth
from compresskit.models.kinds.int8 import quantizable
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import windows
from compresskit.models.task import Batch
from compresskit.models.tasks.span_batches import with_mask


class Graph(Attached):
    """A reader as a graph with weights in 8 bits for each output channel.

    Inputs are rounded by a scale that each pass finds, or, where it is calibrated, by one that was found on the
    questions; then outliers among them move into the weights first.
    """

    def __init__(self, loaded: TrainableModel, config: QuantizeConfig) -> None:
        self.loaded, self.config = loaded, config
        self._batches: Sequence[Batch] | None = None
        self._products: set[str] = set()  # what is to be of 8 bits, by the graph in full

    def footprint(self, number: int) -> Footprint:
        """Nothing in memory; on disk about a byte a weight."""
        return Footprint(0, sum(parameter.numel() for parameter in self.loaded.model.parameters()))

    def summary(self) -> str:
        """How inputs are rounded."""
        how = "each pass" if self.config.calibrate is None else "calibration"
        return f"a graph with products of 8 bits, inputs rounded by a scale that {how} finds"

    def finish(self) -> Mapping[str, Any]:
        """Smooth, where it is calibrated."""
        if self.config.calibrate is None:
            return {}
        calibration = gathered(self.loaded, self.config)
        self.data, self.seed, self._batches = calibration.data, self.config.drawn_with, calibration.batches
        smoothed = smooth(self.loaded, quantizable(self.loaded), calibration.batches, static=True)
        return smoothed.told()

    def save(self, folder: Path) -> None:
        """`model.onnx`, made of a graph that was compared with torch, and the configuration."""
        import onnx

        probes = windows(self.loaded)
        with temporary_folder() as made:
            whole = made / "model.onnx"
            worst = write_graph(self.loaded, whole, probes)
            console.info(f"the graph in full gives the model's logits (largest difference {worst:.0e})")
            graph = onnx.load(whole)
            del graph.graph.value_info[:]  # shapes of before the exporter's own simplifications; they are found again
            self._products = whole_products(whole)
            with quiet():  # it advises a step that finds nothing in these graphs
                quantize_graph(graph, folder / "model.onnx", self._batches)
        off = compared(self.loaded, folder / "model.onnx", probes)
        console.info(f"in 8 bits its logits differ by up to {off:.1g} of the largest")
        save_configs(self.loaded.model, folder)

    def problem(self, folder: Path) -> str | None:
        """Whether weights of products that were to be of 8 bits are whole in one of its graphs, or there are none."""
        left = {name for path in folder.glob("*.onnx") for name in whole_products(path)}
        wanted = len(self._products)
        if wanted and not left & self._products:
            return None
        return f"has {wanted - len(left & self._products)} of {wanted} products in 8 bits that were to be"


def whole_products(path: Path) -> set[str]:
    """The names of the weights of two dimensions and in fp32 that the graph of a file multiplies by; none is read."""
    import onnx

    graph, single = onnx.load(path, load_external_data=False), onnx.TensorProto.FLOAT
    weights = {each.name for each in graph.graph.initializer if each.data_type == single and len(each.dims) == 2}
    return {node.input[1] for node in graph.graph.node if node.op_type in ("MatMul", "Gemm")} & weights


def quantize_graph(graph: Any, path: Path, batches: Iterable[Batch] | None) -> None:
    """Write a graph (onnx.ModelProto) with products of 8 bits.

    The scales of inputs are those of their ranges in the `batches`; without batches each pass finds them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    weights: dict[str, Any] = {"per_channel": True, "weight_type": QuantType.QInt8}
    if batches is None:
        quantize_dynamic(graph, path, **weights)
        return
    names = {entry.name for entry in graph.graph.input}
    feeds = ({name: batch[name].numpy() for name in names} for batch in map(with_mask, batches))

    class Feeds(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    kinds = ["MatMul", "Gemm", "Gather"]
    more = {"OpTypesToExcludeOutputQuantization": kinds}
    quantize_static(graph, path, Feeds(), op_types_to_quantize=kinds, extra_options=more, **weights)
    packed = onnx.load(path)
    _read_in_full(packed.graph, kinds)
    onnx.save(packed, path)


def _read_in_full(graph: Any, kinds: Sequence[str]) -> None:
    """Let all nodes but those of some `kinds` read numbers as they were before they were rounded for these.

    onnxruntime's quantizer gives what is rounded to every reader; sums and norms of it save nothing and cost much.
    """
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    pairs = {
        node.output[0]: rounded[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded
    }
    for node in graph.node:
        if node.op_type not in kinds:
            for number, name in enumerate(node.input):
                node.input[number] = pairs.get(name, name)
    for left in (pairs, rounded):  # what nobody reads any more, and then what these have read
        read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        for node in [node for node in graph.node if node.output[0] in left and node.output[0] not in read]:
            graph.node.remove(node)
