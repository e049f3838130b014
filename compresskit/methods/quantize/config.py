"""What a quantization is: how many bits, by which package. Nothing here needs torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from compresskit.errors import UsageError
from compresskit.methods.export.config import PACKAGES
from compresskit.options import check, like, option, refuse
from compresskit.training.arguments import RunOptions, TrainingOptions

QUANTIZATION, CALIBRATION = "Quantization", "Calibration"
BITS = ("4", "8")


@dataclass(frozen=True, slots=True)
class QuantizeOptions(RunOptions):
    """What a quantization is told: the checkpoint, and the folder of the packed one."""

    model: str = like(RunOptions, "model", help="An alias, a Hub id, or a folder: a plain checkpoint or a mask.")
    output: Path | None = like(RunOptions, "output", shown="runs/<model>-<bits>bit")
    overwrite: bool = like(RunOptions, "overwrite")


@dataclass(frozen=True, slots=True)
class QuantizeConfig:
    """Settings of a quantization. `backend` packs the weights, and computes with them.

    What rounding costs is measured before on `calibrate` questions of `train_data`, drawn with `seed`; then `keep_top`
    matrices stay in 16 bits, or as many as the points of EM `max_loss` ask for. What is None was not given.
    """

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
        "fast, on a CPU with AVX2 and on a GPU in fp32.",
        panel=QUANTIZATION,
    )
    calibrate: int | None = option(
        None,
        "Measure on N training questions what 8 bits cost of each matrix, and move outliers of inputs into weights.",
        metavar="N",
        least=1,
        panel=CALIBRATION,
    )
    train_data: str | None = like(
        TrainingOptions,
        "train_data",
        help="The questions to calibrate with, never those of an evaluation.",
        shown="what the checkpoint was trained on",
        panel=CALIBRATION,
    )
    keep_top: int | None = option(
        None, "Keep in 16 bits the K matrices that cost most in 8.", metavar="K", least=1, panel=CALIBRATION
    )
    max_loss: float | None = option(
        None,
        "Keep in 16 bits as many as it takes to lose no more than so many points of EM on the N questions.",
        metavar="EM",
        above=0,
        panel=CALIBRATION,
    )
    static: bool = option(
        False,
        "Give the inputs of a layer one scale, found on the N questions, in place of one a token.",
        panel=CALIBRATION,
    )
    seed: int | None = like(
        TrainingOptions, "seed", default=None, help="Seed of the questions' choice.", shown="42", panel=CALIBRATION
    )

    def __post_init__(self) -> None:
        check(self)
        if self.backend != "bitsandbytes" and self.bits != 8:
            raise UsageError(f"--backend {self.backend} keeps 8 bits, not {self.bits}; give --backend bitsandbytes")
        if self.backend != "torch" and self.activations != "auto":
            raise UsageError(f"--activations has no effect with --backend {self.backend}; leave it out")
        if self.backend == "bitsandbytes":
            refuse(self, ("calibrate", *_CALIBRATING), "with --backend bitsandbytes")
        if self.backend == "onnxruntime":  # what is calibrated is static there
            refuse(self, _TORCH_ALONE, "with --backend onnxruntime")
        if self.calibrate is None:
            refuse(self, _CALIBRATING, "without --calibrate")
        if self.static and self.activations == "none":
            raise UsageError("--static is of inputs in 8 bits, and --activations none has none; leave one of them out")
        if self.keep_top is not None and self.max_loss is not None:
            raise UsageError("--keep-top and --max-loss exclude each other; leave one of them out")
        if self.calibrate is not None and self.max_loss is not None and self.calibrate * self.max_loss < 100:
            raise UsageError(
                f"--max-loss {self.max_loss:g} is less than one question of {self.calibrate}; "
                f"give --calibrate {math.ceil(100 / self.max_loss)} or more"
            )

    def describe(self) -> Mapping[str, Any]:
        """All settings that have an effect, as JSON values."""
        settings = asdict(self)
        if self.backend != "torch":
            del settings["activations"]
        without: tuple[str, ...] = ()
        if self.calibrate is None:
            without = ("calibrate", *_CALIBRATING)
        elif self.backend == "onnxruntime":
            without = _TORCH_ALONE
        return {name: value for name, value in (settings | {"seed": self.drawn_with}).items() if name not in without}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so."""
        return cls(**told)

    @property
    def packages(self) -> tuple[str, ...]:
        """The modules that the backend needs and torch does not bring."""
        return {"bitsandbytes": ("bitsandbytes",), "onnxruntime": PACKAGES}.get(self.backend, ())

    @property
    def needs_them(self) -> str:
        """The option that does."""
        return f"--backend {self.backend}"

    @property
    def drawn_with(self) -> int:
        """The seed by which questions are drawn where none is given."""
        return 42 if self.seed is None else self.seed


_TORCH_ALONE = ("keep_top", "max_loss", "static")
_CALIBRATING = ("train_data", *_TORCH_ALONE, "seed")


@dataclass(frozen=True, slots=True)
class QloraConfig:
    """How the base of a QLoRA run is packed, by bitsandbytes."""

    bits: int = like(QuantizeConfig, "bits", default=4)

    def __post_init__(self) -> None:
        check(self)
