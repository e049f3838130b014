"""An overlay of masks on a plain checkpoint, with what learned beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit.checkpoint.manifest import KindName, Manifest
from compresskit.checkpoint.mask import FILE, load_masks, shannon_bits
from compresskit.checkpoint.store import tensor_shapes
from compresskit.errors import InputError
from compresskit.models.kind import Contents, How, Matrix, ParameterCount
from compresskit.models.kinds.fit import check_overlay, finder
from compresskit.models.source import Source, resolve_base

if TYPE_CHECKING:
    from compresskit.models.loaded import LoadedModel


class MaskKind:
    """Masks lie on the weights of a plain checkpoint."""

    name: KindName = "mask"
    stands_on: frozenset[KindName] = frozenset({"full"})
    trainable = True
    instead = "merge it first: compresskit merge {ref}"

    def owns(self, folder: Path, manifest: Manifest | None) -> bool:
        """A folder whose manifest says so."""
        return manifest is not None and manifest.kind == self.name

    def base(self, source: Source) -> Source | None:
        """The checkpoint that the manifest names, by the hash of its weights."""
        if source.manifest is None or source.manifest.base is None:
            raise InputError(f"{source.path} is an overlay whose manifest names no base; it is damaged: make it again")
        return resolve_base(source.path, source.manifest.base)

    def packages(self, folder: Path) -> tuple[str, ...]:
        """None."""
        return ()

    def base_opened(self, how: How) -> How:
        """In full precision on the CPU: masked there and converted afterwards, as a merged checkpoint would be."""
        return replace(how, device="cpu", dtype="float32")

    def open(self, source: Source, base: LoadedModel | None, how: How) -> LoadedModel:
        """The base with the masks applied to its weights."""
        from compresskit.models.kinds.overlay import apply_overlay
        from compresskit.models.loaded import TrainableModel
        from compresskit.models.loading import place, stand_on

        assert isinstance(base, TrainableModel)
        learned = apply_overlay(base.model, source.path)
        if lost := base.family.head(base.model) - learned:
            raise InputError(f"{source.path} lacks {min(lost)} of its head; it is damaged: copy or make it again")
        place(base.model, how)
        base.missing_head = False
        return stand_on(self, source, base)

    def check(self, source: Source, bottom: Source) -> None:
        """Formats and shapes of masks and of what was learned, against the base's."""
        check_overlay(source.path, finder(bottom.path))

    def contents(self, source: Source) -> Contents:
        """The masks, and how near they are to the least number of bytes that they can take (Shannon 1948)."""
        masks = load_masks(source.path, _shapes_below(source))
        matrices = [Matrix(name, mask.shape, "mask", mask.ones, mask.size) for name, mask in masks.items()]
        bound = sum(shannon_bits(int(mask.bits.sum()), mask.bits.size) for mask in masks.values()) / 8
        size = (source.path / FILE).stat().st_size
        over = f": {100 * (size / bound - 1):.1f} % over the Shannon bound of their bits" if bound else ""
        return Contents(matrices, [("masks", f"{size:,} bytes, header and all{over}")])

    def stored(self, loaded: LoadedModel) -> ParameterCount:
        """The base's parameters; those that are masked are zero."""
        from compresskit.models.counting import count

        return count(loaded.model)


def _shapes_below(source: Source) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that an overlay lies on, by the headers of its base; none where that is not here."""
    ref = source.manifest.base.ref if source.manifest is not None and source.manifest.base is not None else ""
    base = next((folder for folder in (source.path / ref, Path(ref)) if ref and folder.is_dir()), None)
    try:
        return dict(tensor_shapes(base)) if base is not None else {}
    except InputError:
        return {}  # whoever opens the overlay says what is wrong with its base
