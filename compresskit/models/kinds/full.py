"""A plain checkpoint that transformers opens: full weights, whole and unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.checkpoint.manifest import KindName, Manifest
from compresskit.checkpoint.store import weight_files
from compresskit.errors import InputError
from compresskit.models.foreign import check_plain
from compresskit.models.kind import Contents, How, ParameterCount
from compresskit.models.kinds.plain import mended
from compresskit.models.source import Source

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel


class FullKind:
    """Whatever is of no other kind."""

    name: KindName = "full"
    stands_on: frozenset[KindName] = frozenset()
    trainable = True
    instead = "it is a plain checkpoint already"

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """Every folder: this kind is asked last."""
        return True

    def base(self, source: Source) -> Source | None:
        """None: it stands alone."""
        return None

    def packages(self, folder: Path) -> tuple[str, ...]:
        """None."""
        return ()

    def base_opened(self, how: How) -> How:
        """There is no base."""
        return how

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """By the loader of its family."""
        from compresskit.models.loading import open_full

        return open_full(self, source, how)

    def check(self, source: Source, bottom: Source) -> None:
        """There is no base."""

    def contents(self, source: Source) -> Contents:
        """The matrices in its safetensors files. Raises InputError where there are none, or no plain weights."""
        from compresskit.models.matrices import stored_matrices

        if not weight_files(source.path):
            raise InputError(f"{source.path} is not a checkpoint: it holds no safetensors file")
        with mended(source.path) as folder:
            check_plain(folder)
            return Contents(stored_matrices(folder))

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """Its parameters."""
        from compresskit.models.counting import count

        return count(loaded.model)
