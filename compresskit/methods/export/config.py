"""What an export is told. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.errors import UsageError
from compresskit.options import check, like, option
from compresskit.training.arguments import RunOptions


@dataclass(frozen=True, slots=True)
class ExportOptions(RunOptions):
    """What an export is told: the checkpoint, and the folder of the graph."""

    model: str = like(RunOptions, "model", help="A plain checkpoint, a mask or an adapter.", metavar="CKPT")
    output: Path | None = like(RunOptions, "output", help="Folder to write.", shown="runs/<model>-onnx", panel=None)
    overwrite: bool = like(RunOptions, "overwrite")


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The format to write."""

    onnx: bool = option(False, "Write ONNX, under the file names that Optimum uses.")

    def __post_init__(self) -> None:
        check(self)
        if not self.onnx:
            raise UsageError("export does not choose a format by itself; give --onnx")

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values."""
        return {"onnx": self.onnx}
