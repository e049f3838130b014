"""What a quantization is: how many bits, by which package. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from compresskit.errors import UsageError
from compresskit.options import check, like, option
from compresskit.training.arguments import RunOptions

QUANTIZATION = "Quantization"
BITS = ("4", "8")


@dataclass(frozen=True, slots=True)
class QuantizeOptions(RunOptions):
    """What a quantization is told: the checkpoint, and the folder of the packed one."""

    model: str = like(RunOptions, "model", help="An alias, a Hub id, or a folder: a plain checkpoint or a mask.")
    output: Path | None = like(RunOptions, "output", shown="runs/<model>-<bits>bit")
    overwrite: bool = like(RunOptions, "overwrite")


@dataclass(frozen=True, slots=True)
class QuantizeConfig:
    """Settings of a quantization. `backend` packs the weights, and computes with them."""

    bits: int = option(
        8, "Bits of a weight; 4 is NF4 with double quantization, by bitsandbytes.", choices=BITS, panel=QUANTIZATION
    )
    backend: Literal["torch", "bitsandbytes", "onnxruntime"] = option(
        "torch",
        "Who packs the weights and computes with them. torch: int8 of nearly all weights, of every family; "
        "bitsandbytes: of linear layers, and adapters train on them; onnxruntime: ONNX graphs.",
        panel=QUANTIZATION,
    )
    activations: Literal["auto", "int8", "none"] = option(
        "auto",
        "Whether linear layers multiply in 8 bits, which rounds their inputs to 8 bits too. auto: where that is "
        "fast, on a GPU and on a CPU with VNNI.",
        panel=QUANTIZATION,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.backend != "bitsandbytes" and self.bits != 8:
            raise UsageError(f"--backend {self.backend} keeps 8 bits, not {self.bits}; give --backend bitsandbytes")
        if self.backend != "torch" and self.activations != "auto":
            raise UsageError(f"--activations has no effect with --backend {self.backend}; leave it out")

    def describe(self) -> Mapping[str, Any]:
        """All settings that have an effect, as JSON values."""
        settings = asdict(self)
        if self.backend != "torch":
            del settings["activations"]
        return settings


@dataclass(frozen=True, slots=True)
class QloraConfig:
    """How the base of a QLoRA run is packed, by bitsandbytes."""

    bits: int = like(QuantizeConfig, "bits", default=4)

    def __post_init__(self) -> None:
        check(self)
