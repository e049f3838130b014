"""Which matrices stay in 16 bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from compresskit import console
from compresskit.errors import RunFailed
from compresskit.methods.quantize.calibration import Calibration, exact_matches
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel

# Differences of per cents are rounded.
ROUNDING = 1e-9


def kept(
    loaded: TrainableModel,
    costs: Mapping[str, float],
    calibration: Calibration,
    config: QuantizeConfig,
    scales: Mapping[str, Tensor],
) -> list[str]:
    """The weights that stay in 16 bits, those that cost most: as many as `keep_top` or `max_loss` says.

    `scales` are those of static inputs, by the names of the layers. Raises RunFailed where `max_loss` would keep all.
    """
    ranked = sorted(costs, key=lambda name: -costs[name])
    if config.max_loss is None:
        return ranked[: config.keep_top or 0]
    full = exact_matches(loaded, calibration)

    def holds(count: int) -> bool:
        trial = copy.deepcopy(loaded.model)
        int8.pack(trial, [name for name in costs if name not in ranked[:count]], scales)
        int8.set_activations(trial, config.activations)
        found = exact_matches(replace(loaded, model=trial), calibration)
        console.info(f"{count} of {len(ranked)} matrices in 16 bits: EM {found:.2f}, in full {full:.2f}")
        return full - found <= (config.max_loss or 0.0) + ROUNDING

    enough = fewest(len(ranked), holds)
    if enough == len(ranked):
        raise RunFailed(f"no matrix of {loaded.ref} in 8 bits holds --max-loss {config.max_loss:g}; allow more")
    return ranked[:enough]


def fewest(most: int, holds: Callable[[int], bool]) -> int:
    """The least count of 0, 1, 2, 4, … that holds, made less by halving the step to the one before; else `most`.

    It is the least of all where more never hold less.
    """
    below, count = -1, 0
    while count < most and not holds(count):
        below, count = count, min(max(1, 2 * count), most)
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if holds(middle) else (middle, count)
    return count
