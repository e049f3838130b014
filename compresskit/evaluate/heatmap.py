"""The remaining weights of a checkpoint as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from compresskit.errors import InputError
from compresskit.evaluate.image import check_suffix, new_figure, save_figure
from compresskit.models.kind import Matrix, block_names


def plot_remaining(name: str, matrices: Sequence[Matrix], path: Path) -> None:
    """Draw the remaining weights as a heat map, layer by matrix, to an image file (PNG or SVG by its suffix).

    Raises UsageError for another suffix, MissingError without matplotlib, InputError where there is no matrix to draw.
    """
    check_suffix(path)
    counted = [(matrix, matrix.remaining) for matrix in matrices if matrix.remaining is not None]
    if not counted:
        raise InputError(f"{name} has no matrices of repeated blocks whose weights can be counted, so none to draw")
    roles = list(dict.fromkeys(matrix.role for matrix, _ in counted))
    names = block_names([matrix for matrix, _ in counted])
    rows = list(names)
    grid = [[float("nan")] * len(roles) for _ in rows]
    for matrix, remaining in counted:
        grid[rows.index(matrix.block)][roles.index(matrix.role)] = 100 * remaining / matrix.size
    figure = new_figure(1.5 + 1.3 * len(roles), 1.8 + 0.45 * len(rows), layout="constrained")
    axes = figure.add_subplot()
    most = max(100 * remaining / matrix.size for matrix, remaining in counted)
    image = axes.imshow(grid, cmap="viridis", vmin=0, vmax=most, aspect="auto")
    axes.set_xticks(range(len(roles)), [role.replace(".", "\n") for role in roles], fontsize=8)
    axes.set_yticks(range(len(rows)), list(names.values()))
    axes.set_ylabel("layer")
    for row, values in enumerate(grid):
        for column, value in enumerate(values):
            if math.isnan(value):
                continue  # this block has no such matrix
            shade = "black" if value > 0.55 * most else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=shade, fontsize=8)
    figure.colorbar(image, label="remaining weights, %")
    axes.set_title(f"{name}: remaining weights")
    save_figure(figure, path)
