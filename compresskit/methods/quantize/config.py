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
    """Settings of a quantization. `backend` is the package that packs the weights, and computes with them."""

    bits: int = option(8, "Bits of a weight; 4 is NF4 with double quantization.", choices=BITS, panel=QUANTIZATION)
    backend: Literal["bitsandbytes"] | None = option(
        None, "Which package packs the weights and computes with them; it has to be given.", panel=QUANTIZATION
    )

    def __post_init__(self) -> None:
        check(self)
        if self.backend is None:
            raise UsageError("quantize does not choose a backend by itself; give --backend bitsandbytes")

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class QloraConfig:
    """How the base of a QLoRA run is packed, by bitsandbytes."""

    bits: int = like(QuantizeConfig, "bits", default=4)

    def __post_init__(self) -> None:
        check(self)
