"""The torch backend of `quantize`: symmetric int8 with a scale for each output channel, of nearly every weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compresskit import console
from compresskit.errors import RunFailed
from compresskit.methods.method import Attached, Footprint
from compresskit.methods.quantize.calibration import gathered
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.methods.quantize.keeping import kept
from compresskit.methods.quantize.reopening import reopened_otherwise
from compresskit.methods.quantize.sensitivity import sensitivities
from compresskit.methods.quantize.smoothing import smooth
from compresskit.models.folder import first_line
from compresskit.models.int8 import arithmetic, input_scale
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, logits

# Rounding of another order of summing up, in parts of the largest logit.
TOLERANCE = 1e-3


class Int8(Attached):
    """A model whose linear layers, tables of vectors and recurrent matrices are kept in 8 bits."""

    def __init__(self, loaded: TrainableModel, config: QuantizeConfig) -> None:
        self.loaded, self.config = loaded, config
        self._layout: Mapping[str, Any] = {}
        self._kept: list[str] = []
        self._scales: Mapping[str, Tensor] = {}

    def footprint(self, number: int) -> Footprint:
        """Nothing in memory; on disk a byte for each weight in 8 bits, and `number` for all else and for scales."""
        names, model = int8.quantizable(self.loaded), self.loaded.model
        packed, others = self._counts(names)
        scales = sum(len(model.get_parameter(name)) for name in names)
        return Footprint(0, packed + number * (others + scales))

    def summary(self) -> str:
        """How many weights are in 8 bits, and how this machine computes with them."""
        packed, others = self._counts(int8.quantizable(self.loaded))
        kept = ", less those that calibration keeps in 16" if self.config.keep_top or self.config.max_loss else ""
        how = arithmetic(self.loaded.device, self.config.activations)
        return f"{packed:,} of {packed + others:,} weights in 8 bits{kept}; here {how}"

    def _counts(self, names: Sequence[str]) -> tuple[int, int]:
        """The weights of these names, and all others."""
        model = self.loaded.model
        packed = sum(model.get_parameter(name).numel() for name in names)
        return packed, sum(parameter.numel() for parameter in model.parameters()) - packed

    def finish(self) -> Mapping[str, Any]:
        """Calibrate where asked for, and quantize; how many weights were, and what calibration found.

        Raises RunFailed where the model does not compute with the weights that it now keeps.
        """
        found = self._calibrated() if self.config.calibrate is not None else {}
        model = self.loaded.model
        names = [name for name in int8.quantizable(self.loaded) if name not in self._kept]
        self._layout = int8.layout(model, names, static=self.config.static)
        packed, others = self._counts(names)
        int8.round_to_8_bits(model, names)
        expected = logits(self.loaded)
        int8.pack(model, names, self._scales)
        int8.set_activations(model, "none")
        self._check(expected)
        how = arithmetic(self.loaded.device, self.config.activations)
        console.info(f"{packed:,} of {packed + others:,} weights in 8 bits; here {how}")
        return {"packed_weights": packed, "full_weights": others, **found}

    def _calibrated(self) -> Mapping[str, Any]:
        """Smooth, and decide what stays in 16 bits; what was found and decided, for the manifest."""
        calibration = gathered(self.loaded, self.config)
        names = int8.quantizable(self.loaded)
        costs: Mapping[str, float]
        found: Mapping[str, Any]
        if self.config.activations == "none":
            costs, found = sensitivities(self.loaded, names, calibration.batches, {}), {}
        else:
            smoothed = smooth(self.loaded, names, calibration.batches, static=self.config.static)
            costs, found = smoothed.costs, smoothed.told()
            if self.config.static:
                # One that no question reached finds its scale at each pass.
                reached = {name: each for name, each in smoothed.inputs.items() if bool(each.any())}
                self._scales = {name: input_scale(largest) for name, largest in reached.items()}
        self._kept = kept(self.loaded, costs, calibration, self.config, self._scales)
        self.data, self.seed = calibration.data, self.config.drawn_with
        if self._kept:
            console.info(f"in 16 bits: {', '.join(self._kept)}")
        return {**found, "in_16_bits": self._kept, "sensitivities": costs}

    def _check(self, expected: Tensor) -> None:
        """RunFailed where the model does not compute with the weights that it now keeps."""
        try:
            worst = difference(logits(self.loaded), expected)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            why = first_line(error)
        else:
            why = f"its logits are {worst:.1g} off"
            if worst <= TOLERANCE:
                return
        raise RunFailed(
            f"{self.loaded.ref} does not compute with weights in 8 bits ({why}): a module of it reads a weight in "
            "a way of its own; try --backend bitsandbytes"
        )

    def save(self, folder: Path) -> None:
        """A folder of compressed-tensors' layout, of a mask entropy-coded; a head never trained stays out of it."""
        absent = self.loaded.family.head(self.loaded.model) if self.loaded.missing_head else set()
        with torch.no_grad():
            coded = self.loaded.kind.name == "mask"
            int8.save(self.loaded.model, self._layout, folder, absent, self._kept, coded=coded)

    def problem(self, folder: Path) -> str | None:
        """Whether it does not open, or answers otherwise than the model that was saved there."""
        return reopened_otherwise(folder, self.loaded)
