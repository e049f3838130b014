"""The torch backend of `quantize`: symmetric int8 with a scale for each output channel, of nearly every weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compresskit import console
from compresskit.errors import RunFailed
from compresskit.methods.method import Attached
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.folder import first_line
from compresskit.models.int8 import multiplies_codes
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, logits

# Rounding of another order of summing up, in parts of the largest logit.
TOLERANCE = 1e-3


class Int8(Attached):
    """A model whose linear layers, tables of vectors and recurrent matrices are kept in 8 bits."""

    def __init__(self, loaded: TrainableModel, config: QuantizeConfig) -> None:
        self.loaded, self.config = loaded, config

    def finish(self) -> Mapping[str, Any]:
        """Quantize; how many weights were. Raises RunFailed where the model does not compute with them."""
        model, names = self.loaded.model, int8.quantizable(self.loaded)
        self._layout = int8.layout(model, names)
        weights = sum(parameter.numel() for parameter in model.parameters())
        packed = sum(model.get_parameter(name).numel() for name in names)
        int8.round_to_8_bits(model, names)
        expected = logits(self.loaded)
        int8.pack(model, names)
        int8.set_activations(model, "none")
        self._check(expected)
        module: nn.Module = model
        products = multiplies_codes(next(module.parameters()).device, self.config.activations)
        console.info(
            f"{packed:,} of {weights:,} weights in 8 bits; inputs {'in 8 bits too' if products else 'in full'} here"
        )
        return {"packed_weights": packed, "full_weights": weights - packed}

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
            int8.save(self.loaded.model, self._layout, folder, absent, coded=self.loaded.kind.name == "mask")
