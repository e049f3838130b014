"""Whether a packed checkpoint opens again and answers as it did in memory, before it is published."""

from __future__ import annotations

from pathlib import Path

import torch

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


@torch.no_grad()
def reopened_otherwise(folder: Path, packed: TrainableModel) -> str | None:
    """What goes wrong where a folder is opened and asked as the model in memory is that was saved there; None: nothing.

    A head that was never trained is another one each time it is opened; then it is opened alone.
    """
    try:
        opened = open_source(Source(str(folder), folder), How())
        assert isinstance(opened, TrainableModel)
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
