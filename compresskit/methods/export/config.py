"""What an export is told. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from compresskit.errors import UsageError
from compresskit.options import check, like, option
from compresskit.training.arguments import RunOptions

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""The modules that write a graph, and compare it with the model."""


@dataclass(frozen=True, slots=True)
class ExportOptions(RunOptions):
    """What an export is told: the checkpoint, and the folder of the graph or the adapter."""

    model: str = like(RunOptions, "model", help="A plain checkpoint, a mask or an adapter.", metavar="CKPT")
    output: Path | None = like(
        RunOptions, "output", help="Folder to write.", shown="runs/<model>-onnx, or -peft", panel=None
    )
    overwrite: bool = like(RunOptions, "overwrite")


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The format to write."""

    onnx: bool = option(False, "Write ONNX, under the file names that Optimum uses.")
    peft_plain: bool = option(False, "Write a Mamba's adapter in the form that plain PEFT opens.")

    def __post_init__(self) -> None:
        check(self)
        if self.onnx == self.peft_plain:
            raise UsageError("export writes one format, and does not choose it by itself; give --onnx or --peft-plain")

    @property
    def packages(self) -> tuple[str, ...]:
        """The modules that it needs."""
        return PACKAGES if self.onnx else ()

    @property
    def needs_them(self) -> str:
        """The option that does."""
        return "--onnx"

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values."""
        return {"onnx": self.onnx, "peft_plain": self.peft_plain}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so."""
        return cls(**told)
