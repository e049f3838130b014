"""Which language models can be asked: those that go on from a memory of the class that transformers has for all."""

from __future__ import annotations

import inspect
import re
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig

from compresskit.errors import InputError
from compresskit.models.tasks.causal_memory import NAMES

# How a model's code says what it takes: that class, or the older form that transformers turns into it.
COMMON = re.compile(r"\b(Cache|DynamicCache|tuple|list)\b")


def check_askable(config: PretrainedConfig) -> None:
    """InputError where the model of a configuration goes on from no memory, or from one of a class of its own.

    The model's code tells; nothing is loaded or computed.
    """
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    taken = inspect.signature(kind.forward).parameters
    name = next((name for name in NAMES if name in taken), None)
    what, mend = f"a model of type {config.model_type}", "so that it is not asked here; take another one"
    if name is None:
        raise InputError(f"{what} does not go on from what it has read (it takes no cache), {mend}")
    if not COMMON.search(str(taken[name].annotation)):
        raise InputError(f"{what} keeps what it has read in a form of its own, {mend}")
