"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping

from compresskit.methods.export.method import ExportMethod
from compresskit.methods.lora.method import LoraMethod
from compresskit.methods.merge import MergeMethod
from compresskit.methods.method import Method
from compresskit.methods.prune.method import PruneMethod
from compresskit.methods.quantize.method import QuantizeMethod
from compresskit.methods.train import TrainMethod

_ALL: tuple[Method, ...] = (TrainMethod(), PruneMethod(), LoraMethod(), QuantizeMethod(), MergeMethod(), ExportMethod())
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}
