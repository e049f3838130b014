"""The trap: a reader in int8 as it is made without a thought, for `eval` to hold against its gates.

    compresskit export CKPT --onnx -o GRAPH
    python -m benchmarks.naive_int8 GRAPH OUT
    compresskit eval CKPT OUT --baseline CKPT --data EVAL.json --gate 'em>=base-1'

onnxruntime's static quantization by its own defaults: one scale for a whole weight, one for the whole of each
activation, in every operator that can be quantized, the head and all sums too; ranges by least and most of a few
windows of the built-in data.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import windows
from compresskit.models.registry import load


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """Windows of the built-in data, as the graph reads them."""

    def __init__(self, loaded: Any, names: set[str]) -> None:
        trainable: TrainableModel = loaded
        self._batches: Iterator[Any] = iter(windows(trainable))
        self._names = names

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {name: batch[name].numpy() for name in self._names & batch.keys()}


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    loaded: Any = load(str(given.graph), device="cpu")
    names = set(loaded.model._session.types)
    shutil.copytree(given.graph, given.output, ignore=shutil.ignore_patterns("*.onnx*", "compresskit.json"))
    quantize_static(
        given.graph / "model.onnx",
        given.output / "model.onnx",
        Windows(loaded, names),
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )


if __name__ == "__main__":
    main()
