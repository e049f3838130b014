"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping

from compresskit.methods.merge import MergeMethod
from compresskit.methods.method import Method
from compresskit.methods.prune.method import PruneMethod
from compresskit.methods.train import TrainMethod

METHODS: Mapping[str, Method] = {method.name: method for method in (TrainMethod(), PruneMethod(), MergeMethod())}
