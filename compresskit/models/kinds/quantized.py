"""A checkpoint whose weights transformers keeps packed (bitsandbytes, compressed-tensors, GPTQ, …)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.checkpoint.coded import is_coded
from compresskit.checkpoint.manifest import KindName, Manifest
from compresskit.checkpoint.store import read_json, weight_files
from compresskit.errors import InputError
from compresskit.models.kind import Contents, How, ParameterCount
from compresskit.models.kinds.coded import coded_contents
from compresskit.models.source import Source, resolve_base

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel


class QuantizedKind:
    """Its configuration says how the weights are packed."""

    name: KindName = "quantized"
    stands_on: frozenset[KindName] = frozenset()
    trainable = True  # an adapter learns on it
    instead = (
        "eval and predict take it, lora too where bitsandbytes packed it, merge too where it is int8; "
        "give what it was packed from"
    )

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """A folder whose manifest or whose config.json says so."""
        if manifest is not None and manifest.kind == self.name:
            return True
        path = folder / "config.json"
        return path.is_file() and _quantization(path) is not None

    def base(self, source: Source) -> Source | None:
        """None: it stands alone."""
        return None

    def packages(self, folder: Path) -> tuple[str, ...]:
        """What packed it, where that is bitsandbytes; a rarer one is told of by transformers when it opens."""
        quantization = _quantization(folder / "config.json") or {}
        bits = any(quantization.get(f"load_in_{bits}bit") for bits in (4, 8))
        return ("bitsandbytes",) if bits or quantization.get("quant_method") == "bitsandbytes" else ()

    def base_opened(self, how: How) -> How:
        """There is no base."""
        return how

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """By the loader of its family, with the package that packed it."""
        from compresskit.models.loading import open_quantized

        return open_quantized(self, source, how)

    def packed_from(self, source: Source) -> Source:
        """The checkpoint whose weights a quantized one has packed.

        Raises InputError where the manifest names none, or that is not there or another one.
        """
        manifest = source.manifest
        if manifest is None or manifest.base is None:
            raise InputError(
                f"{source.path} does not tell what it was packed from; nothing can be merged into packed weights"
            )
        return resolve_base(source.path, manifest.base)

    def check(self, source: Source, bottom: Source) -> None:
        """There is no base."""

    def contents(self, source: Source) -> Contents:
        """The matrices that the packed weights stand for, and how they are packed."""
        from compresskit.models.kinds.packed import method_name, packed_matrices

        if is_coded(source.path):
            return coded_contents(source.path)
        if not weight_files(source.path):
            raise InputError(f"{source.path} is not a checkpoint: it holds no safetensors file")
        quantization = _quantization(source.path / "config.json") or {}
        return Contents(packed_matrices(source.path), [("quantized", method_name(quantization))])

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """The weights that the packed ones stand for."""
        from compresskit.models.counting import count

        return count(loaded.model)


def _quantization(path: Path) -> dict[str, Any] | None:
    """The quantization that a config.json tells of; None where it tells of none, or cannot be read."""
    try:
        config = read_json(path)
    except InputError:
        return None  # whoever opens the folder says what is wrong with it
    found = config.get("quantization_config") if isinstance(config, dict) else None
    return found if isinstance(found, dict) else None
