"""While torch and transformers are imported: a word about it, and no garbage collection.

They take seconds, in which a command says nothing else. A third of a short command's time went to the garbage
collector, which looked through what modules hold again and again, at the end too, and found nothing: it is there to
stay. So what is there behind the import of torch is put aside (`gc.freeze`), and all of it at the end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

import compresskit
from compresskit import console

_HEAVY = frozenset({"compresskit", "torch", "transformers"})
_TOLD = "torch"  # whatever takes long imports it first


@contextlib.contextmanager
def watched(*, told: bool = True) -> Iterator[None]:
    """Within it imports of what is heavy are quick, wherever they stand, and told unless `told` is false.

    It is for a whole process, which ends with it.
    """
    watch = _Watch(told)
    sys.meta_path.insert(0, watch)
    try:
        yield
    finally:
        sys.meta_path.remove(watch)
        gc.freeze()


def findable(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a new process of Python finds this package even if it is not installed."""
    root = str(Path(compresskit.__file__).resolve().parents[1])
    if Path(root).name in {"site-packages", "dist-packages"}:
        return dict(environment)
    paths = [root, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


class _Watch(MetaPathFinder):
    """Sees each module that is looked for; finds the outermost of the heavy ones, to know when its import ends.

    Finds torch too, wherever it is imported, to know when that begins.
    """

    def __init__(self, told: bool) -> None:
        self._told = told
        self._within = self._met = False
        self._status = contextlib.ExitStack()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Where an outermost module or torch is, as the other finders have it; None for all that is left to them.

        Who looks for torch may want to know whether it is there, no more: its import is told once it begins.
        """
        if name != _TOLD and (self._within or name.partition(".")[0] not in _HEAVY):
            return None
        found = (each.find_spec(name, path, target) for each in sys.meta_path if each is not self)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Outermost(spec.loader.name, spec.loader.path, self)
        return spec

    @contextlib.contextmanager
    def importing(self, name: str) -> Iterator[None]:
        """Around the import of an outermost module, or of torch within one."""
        if self._within:
            self._meet()
            yield
            return
        had_met = self._met
        gc.disable()
        self._within = True
        try:
            with self._status:
                if name == _TOLD:
                    self._meet()
                yield
        finally:
            self._within = False
            if self._met and not had_met:  # not later, when models are there that shall go
                gc.freeze()
            gc.enable()

    def _meet(self) -> None:
        self._met = True
        if self._told:
            self._status.enter_context(console.status("loading torch and transformers"))


class _Outermost(SourceFileLoader):
    """Loads a module as Python does, and tells its watch when that begins and ends."""

    def __init__(self, name: str, path: str, watch: _Watch) -> None:
        super().__init__(name, path)
        self._watch = watch

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        with self._watch.importing(module.__name__):
            super().exec_module(module)
