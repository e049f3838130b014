"""The methods by name, each imported when it is asked for: what one of them needs, the others do not wait for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping

from compresskit.methods.method import Method

METHODS: Mapping[str, str] = {
    "train": "train.TrainMethod",
    "prune": "prune.method.PruneMethod",
    "lora": "lora.method.LoraMethod",
    "quantize": "quantize.method.QuantizeMethod",
    "merge": "merge.MergeMethod",
    "export": "export.method.ExportMethod",
}
"""Where each method is, below this package."""


@functools.cache
def method_named(name: str) -> Method:
    """The method of a name in `METHODS`."""
    module, _, kind = METHODS[name].rpartition(".")
    method: Method = getattr(importlib.import_module(f"compresskit.methods.{module}"), kind)()
    return method
