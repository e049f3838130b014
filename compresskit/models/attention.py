"""Masks of attention on a GPU, made without a look at their values.

Where no token of a batch is padding, transformers leaves the mask out. To know that it reads the mask on the device
(`padding_mask.all()`), so that every pass waits for all that the GPU was given before: the CPU cannot run ahead, and
between passes the GPU waits for the CPU. Whoever makes a batch without padding leaves its mask out; one that is given
is made use of.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask


def mask_without_a_look(*args: Any, **kwargs: Any) -> Tensor | None:
    """As transformers' `sdpa_mask`, but on a GPU a mask of both directions is made whatever it says."""
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.is_cuda:
        kwargs["allow_is_bidirectional_skip"] = False
    made: Tensor | None = sdpa_mask(*args, **kwargs)
    return made


def never_look_at_masks() -> None:
    """Let transformers make the masks of fused attention in this way, from now on and for the whole process."""
    ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", mask_without_a_look)
