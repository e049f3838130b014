"""The masks of a whole model: attached, moved along the schedule, and taken off again with the exact target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.checkpoint.mask import Mask
from compresskit.methods.prune.budget import same_role, shared_fractions, whole_counts
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masked import (
    MaskedWeight,
    MeanPenalty,
    attach,
    masked_weights,
    original_weight,
    own_name,
)
from compresskit.methods.prune.schedule import CubicSchedule
from compresskit.methods.prune.threshold import common_threshold, thresholds


class Masker:
    """Masks over parameters, given by name with the module that holds each; `dtype` is what the layers compute in.

    Raises UsageError where a weight cannot be cut into the configured blocks.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], config: PruneConfig, dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = config
        self.dtype = dtype
        self._frozen: list[Tensor] = []
        self.schedule = CubicSchedule(config.sparsity, config.warmup, config.cooldown)
        self.modules = dict(modules)
        self.masks: dict[str, MaskedWeight] = {
            name: attach(name, module, config.block, with_scores=config.learns_scores)
            for name, module in modules.items()
        }
        # Found once: at every step, looking 72 of them up by name takes the host longer than masking takes the GPU.
        self._weights = [original_weight(module, name) for name, module in self.modules.items()]
        self._together = same_role(list(self.masks))
        self._sizes = torch.tensor([matrix.numel() for matrix in self._importances()], dtype=torch.float32)
        self.remaining = 1.0

    def fields(self) -> dict[str, float]:
        """What the last step shows in the progress bar and the log: remaining weights in per cent."""
        return {"remaining": 100 * self.remaining}

    def _importances(self) -> list[Tensor]:
        return [mask.importance(weight) for mask, weight in zip(self.masks.values(), self._weights, strict=True)]

    def scores(self) -> list[nn.Parameter]:
        """The score parameters; none with magnitude pruning."""
        return [mask.scores for mask in self.masks.values() if mask.scores is not None]

    def step(self, done: float) -> Tensor | None:
        """Mask every weight for the fraction `done` of the run's steps; the penalty to add to the loss, or None.

        The penalty is `λ · mean over matrices of the mean sigmoid of the scores`, with λ growing with the sparsity
        (arXiv 2210.06210, section 3.3). Call it before each forward pass of training: the weights that it masks are
        part of that pass's graph.
        """
        self.remaining = self.schedule.remaining(done)
        penalty = means = None
        if self.config.regularized:
            weight = self.config.pull * self.schedule.progress(done)
            scores = self.scores()
            self._to(scores[0].device)
            penalty, means = MeanPenalty.apply(weight, self._sizes, *scores)  # type: ignore[no-untyped-call]
        self._mask_weights(means)
        return penalty

    def _mask_weights(self, means: Tensor | None) -> None:
        """Choose the thresholds and compute the effective weights, all matrices together."""
        importances = self._importances()
        with torch.no_grad():
            found = self._thresholds(importances, means)
            kept = [matrix >= value for matrix, value in zip(importances, found, strict=True)]
            torch._foreach_copy_([mask.threshold for mask in self.masks.values()], found)
        scores = [mask.scores for mask in self.masks.values()]
        effective = masked_weights(self._weights, scores, kept, self._values(self._weights), self.config.block)
        for mask, weight in zip(self.masks.values(), effective, strict=True):
            mask.effective = weight

    def _values(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """The weights in the dtype of computation; frozen ones are converted once instead of at every step."""
        if self.config.learns_weights:
            return [weight.detach().to(self.dtype) for weight in weights]
        if not self._frozen or self._frozen[0].device != weights[0].device:
            self._frozen = [weight.detach().to(self.dtype) for weight in weights]
        return self._frozen

    def _thresholds(self, importances: Sequence[Tensor], means: Tensor | None) -> list[Tensor]:
        if self.config.method == "soft-movement":
            return [common_threshold(importances, self.remaining)] * len(importances)
        return thresholds(importances, self._fractions(means, importances[0].device))

    def _to(self, device: torch.device) -> None:
        """Bring the constants of the budget to the device once; a copy at every step would make it wait."""
        if self._sizes.device != device:
            self._together, self._sizes = self._together.to(device), self._sizes.to(device)

    def _fractions(self, means: Tensor | None, device: torch.device) -> Tensor:
        """Fraction of each matrix that remains: shared by importance with `smp`, the same for each otherwise."""
        if self.config.method != "smp" or means is None:
            return torch.full((len(self.masks),), self.remaining, device=device)
        return shared_fractions(means.float(), self._sizes, self._together, self.remaining)

    @torch.no_grad()
    def final_masks(self) -> dict[str, Mask]:
        """The masks at the exact target sparsity, by name of the masked parameter; ties go to the earlier weight."""
        importances = dict(zip(self.masks, (matrix.cpu() for matrix in self._importances()), strict=True))
        sizes = np.array([matrix.numel() for matrix in importances.values()], dtype=np.int64)
        total = round((1.0 - self.config.sparsity) * int(sizes.sum()))
        if self.config.method == "soft-movement":
            flat = torch.cat([matrix.flatten() for matrix in importances.values()])
            bits = torch.split(_top(flat, total), sizes.tolist())
        else:
            counts = whole_counts(self._final_fractions() * sizes, sizes, total)
            bits = tuple(_top(m.flatten(), int(k)) for m, k in zip(importances.values(), counts, strict=True))
        return {
            name: Mask(kept.reshape(matrix.shape).numpy(), self.config.block)
            for (name, matrix), kept in zip(importances.items(), bits, strict=True)
        }

    def _final_fractions(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        if self.config.method != "smp":
            return np.full(len(self.masks), 1.0 - self.config.sparsity)
        means = torch.stack([scores.detach().double().sigmoid().mean().cpu() for scores in self.scores()])
        together, sizes = self._together.cpu().double(), self._sizes.cpu().double()
        remaining = 1.0 - self.config.sparsity
        return shared_fractions(means, sizes, together, remaining, rounds=len(means)).numpy()

    @contextlib.contextmanager
    def at_target(self) -> Iterator[None]:
        """Mask at the exact target within the block, where the model is not training."""
        final = self.final_masks()
        for name, weight in zip(self.masks, self._weights, strict=True):
            self.masks[name].exact = torch.from_numpy(final[name].bits).to(weight.device)
        try:
            yield
        finally:
            for mask in self.masks.values():
                mask.exact = None

    @torch.no_grad()
    def remove(self, masks: Mapping[str, Mask]) -> None:
        """Take the parametrizations off and leave `masks` applied to the weights."""
        for name, module in self.modules.items():
            weight = original_weight(module, name)
            kept = torch.from_numpy(masks[name].expand()).to(weight.device)
            weight.copy_(torch.where(kept, weight, torch.zeros((), dtype=weight.dtype, device=weight.device)))
            parametrize.remove_parametrizations(module, own_name(name), leave_parametrized=False)
        self._frozen = []


def _top(values: Tensor, count: int) -> Tensor:
    """Boolean mask of the `count` largest of `values` (1-D); of equal values the earlier is taken."""
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[values.sort(descending=True, stable=True).indices[:count]] = True
    return kept
