"""Whether a packed checkpoint opens again and answers as it did in memory, before it is published."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from compresskit.errors import CompresskitError
from compresskit.models.folder import first_line
from compresskit.models.kind import How
from compresskit.models.kinds.bnb import keep_unfit
from compresskit.models.kinds.int8 import set_activations
from compresskit.models.loaded import TrainableModel
from compresskit.models.probing import difference, logits
from compresskit.models.registry import open_source
from compresskit.models.source import Source

# What stays in 16 bits was rounded to them, and sums have another order; in parts of the largest logit.
TOLERANCE = 0.05


def in_few_bits(model: nn.Module) -> set[str]:
    """The names of the weights that a model keeps in integers, whoever packed them."""
    floats = {name for name, tensor in model.named_parameters() if tensor.is_floating_point()}
    packed = {name for name, tensor in model.named_parameters() if getattr(tensor, "quant_state", None) is not None}
    return {name for name, _ in model.named_parameters()} - floats | packed


@torch.no_grad()
def reopened_otherwise(folder: Path, packed: TrainableModel) -> str | None:
    """What goes wrong where a folder is opened and asked as the model in memory is that was saved there; None: nothing.

    Every weight that is packed in memory has to be so there too: a folder of whole weights would answer the same.

    A head that was never trained is another one each time it is opened; then it is opened alone.
    """
    announced = in_few_bits(packed.model)
    try:
        opened = open_source(Source(str(folder), folder), How())
        assert isinstance(opened, TrainableModel)
        kept = in_few_bits(opened.model)
        if not announced or announced - kept:
            return f"keeps {len(announced & kept)} of {len(announced)} weights in few bits that were to be"
        if packed.missing_head:
            return None
        for model in (opened.model, packed.model):
            set_activations(model, "none")
            for module in model.modules():
                keep_unfit(module)
        worst = difference(logits(opened), logits(packed))
    except torch.OutOfMemoryError:
        raise
    except (CompresskitError, RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        return f"does not open again ({first_line(error)})"
    return None if worst <= TOLERANCE else f"does not open as it was (its logits are {worst:.1g} off)"
