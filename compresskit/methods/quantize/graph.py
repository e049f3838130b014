"""The onnxruntime backend of `quantize`: a graph whose products of matrices are of 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compresskit import console
from compresskit.methods.export.graph import compared, quiet, save_configs, write_graph
from compresskit.methods.method import Attached
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import windows


class Graph(Attached):
    """A reader as a graph: weights in 8 bits for each output channel, inputs by a scale that each pass finds."""

    def __init__(self, loaded: TrainableModel, config: QuantizeConfig) -> None:
        self.loaded = loaded

    def finish(self) -> Mapping[str, Any]:
        """There is nothing to do before the graph is written."""
        return {}

    def save(self, folder: Path) -> None:
        """`model.onnx`, made of a graph that was compared with torch, and the configuration."""
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        probes = windows(self.loaded)
        with tempfile.TemporaryDirectory() as name:
            whole = Path(name) / "model.onnx"
            worst = write_graph(self.loaded, whole, probes)
            console.info(f"the graph in full gives the model's logits (largest difference {worst:.0e})")
            graph = onnx.load(whole)
            del graph.graph.value_info[:]  # shapes of before the exporter's own simplifications; they are found again
            with quiet():  # it advises a step that finds nothing in these graphs
                quantize_dynamic(graph, folder / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)
        off = compared(self.loaded, folder / "model.onnx", probes)
        console.info(f"in 8 bits its logits differ by up to {off:.1g} of the largest")
        save_configs(self.loaded.model, folder)
