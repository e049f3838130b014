"""Our own model types in transformers' Auto classes: as soon as compresskit is imported, and without a wait for that.

Importing transformers takes seconds, which `compresskit --help` must not spend. So each kind of type is registered
right after transformers' own table of that kind is imported, by whoever imports it; at once where it is there already.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType


def _register_configurations() -> None:
    from transformers import AutoConfig

    from compresskit.models.lstm.config import LstmReaderConfig

    AutoConfig.register(LstmReaderConfig.model_type, LstmReaderConfig, exist_ok=True)


def _register_models() -> None:
    from transformers import AutoModelForQuestionAnswering

    from compresskit.models.lstm.config import LstmReaderConfig
    from compresskit.models.lstm.model import LstmReader

    AutoModelForQuestionAnswering.register(LstmReaderConfig, LstmReader, exist_ok=True)


def _register_tokenizers() -> None:
    from transformers import AutoTokenizer

    from compresskit.models.lstm.config import LstmReaderConfig
    from compresskit.models.lstm.tokenizer import WordTokenizer

    AutoTokenizer.register(LstmReaderConfig, tokenizer_class=WordTokenizer, exist_ok=True)


# By the module that holds transformers' table: what adds our types to it.
TABLES: Mapping[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_configurations,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.models.auto.tokenization_auto": _register_tokenizers,
}


class AfterImport(importlib.abc.MetaPathFinder):
    """Finds the modules of `TABLES` as Python would, and lets each register our types once it is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, whose loader registers our types afterwards; None for any other module."""
        register = TABLES.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if register is not None else None
        if spec is None or spec.loader is None or register is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_when_needed() -> None:
    """Register with the tables that are imported already, and with the others as soon as they are."""
    for name, register in TABLES.items():
        if name in sys.modules:
            register()
    sys.meta_path.insert(0, AfterImport())
