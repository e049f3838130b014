"""What is in a checkpoint: kind, lineage, bytes, and how many weights of each matrix remain; no model is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compresskit.checkpoint.manifest import Manifest, read_manifest
from compresskit.checkpoint.mask import FILE as MASK_FILE
from compresskit.checkpoint.mask import load_masks, shannon_bits
from compresskit.checkpoint.store import read_safetensors_metadata, weight_files
from compresskit.errors import InputError
from compresskit.evaluate.figure import check_suffix, new_figure, save_figure


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of a repeated block: `remaining` of its `size` weights are kept (not zero); `dtype` as stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    remaining: int
    size: int

    @property
    def fraction(self) -> float:
        """Fraction of the weights that remains."""
        return self.remaining / self.size

    @property
    def layer(self) -> int:
        """Number of the block, the first number in the name."""
        match = re.search(r"\.(\d+)\.", self.name)
        return int(match[1]) if match else 0

    @property
    def role(self) -> str:
        """Name within the block, such as `attention.self.query`."""
        return re.sub(r"^.*?\.\d+\.", "", self.name).removesuffix(".weight")


@dataclass(frozen=True, slots=True)
class Contents:
    """A checkpoint's manifest (None for a foreign one), bytes of each file, and the matrices of its repeated blocks.

    `mask_bytes` and `shannon_bytes` compare an overlay's masks with the least that they can take; None without masks.
    """

    path: Path
    manifest: Manifest | None
    files: Sequence[tuple[str, int]]
    matrices: Sequence[Matrix]
    mask_bytes: int | None
    shannon_bytes: float | None


def contents(folder: Path) -> Contents:
    """Look into a checkpoint folder.

    Raises InputError where it holds no safetensors file, or one is truncated, foreign or does not decode.
    """
    weights = weight_files(folder)
    if not weights:
        raise InputError(f"{folder} is no checkpoint: it holds no safetensors file")
    files = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    manifest = read_manifest(folder)
    if (folder / MASK_FILE).exists():
        masks = load_masks(folder)
        matrices = [Matrix(name, mask.expand().shape, "mask", mask.ones, mask.size) for name, mask in masks.items()]
        bound = sum(shannon_bits(int(mask.bits.sum()), mask.bits.size) for mask in masks.values()) / 8
        return Contents(folder, manifest, files, matrices, (folder / MASK_FILE).stat().st_size, bound)
    matrices = sorted((m for path in weights for m in _matrices(path)), key=lambda m: (m.layer, m.name))
    return Contents(folder, manifest, files, matrices, None, None)


def _matrices(path: Path) -> Iterator[Matrix]:
    """The two-dimensional weights of numbered blocks in a safetensors file, read one at a time."""
    import torch
    from safetensors import safe_open

    read_safetensors_metadata(path)
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if re.search(r"\.\d+\..*\bweight\w*$", name) and len(file.get_slice(name).get_shape()) == 2:
                tensor = file.get_tensor(name)
                dtype = str(tensor.dtype).removeprefix("torch.")
                yield Matrix(name, tuple(tensor.shape), dtype, int(torch.count_nonzero(tensor)), tensor.numel())


def plot_remaining(found: Contents, path: Path) -> None:
    """Draw the remaining weights as a heat map, layer by matrix, to an image file (PNG or SVG by its suffix).

    Raises UsageError for another suffix, MissingError without matplotlib, InputError where there is no matrix to draw.
    """
    check_suffix(path)
    if not found.matrices:
        raise InputError(f"{found.path} has no matrices of repeated blocks to draw")
    roles = list(dict.fromkeys(matrix.role for matrix in found.matrices))
    layers = sorted({matrix.layer for matrix in found.matrices})
    grid = [[float("nan")] * len(roles) for _ in layers]
    for matrix in found.matrices:
        grid[layers.index(matrix.layer)][roles.index(matrix.role)] = 100 * matrix.fraction
    figure = new_figure(1.5 + 1.3 * len(roles), 1.8 + 0.45 * len(layers), layout="constrained")
    axes = figure.add_subplot()
    most = max(100 * matrix.fraction for matrix in found.matrices)
    image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=most, aspect="auto")
    axes.set_xticks(range(len(roles)), [role.replace(".", "\n") for role in roles], fontsize=8)
    axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
    axes.set_ylabel("layer")
    for row, values in enumerate(grid):
        for column, value in enumerate(values):
            shade = "black" if value > 0.55 * most else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=shade, fontsize=8)
    figure.colorbar(image, label="remaining weights, %")
    axes.set_title(f"{found.path.resolve().name}: remaining weights")
    save_figure(figure, path)
