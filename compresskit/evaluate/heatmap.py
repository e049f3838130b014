"""Figures of a checkpoint's matrices as heat maps: the weights that remain, what 8 bits cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.errors import InputError
from compresskit.evaluate.image import check_suffix, new_figure, save_figure
from compresskit.evaluate.report.scale import PER_CENTS
from compresskit.models.kind import Matrix, block_names


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A figure of some matrices: what it is called, with its unit, how it is written, and each matrix's value.

    `ends` are the values of the first and the last colour; without them these are 0 and the greatest value.
    """

    label: str
    format: str
    values: Sequence[tuple[Matrix, float]]
    ends: tuple[float, float] | None = None


def remaining_weights(matrices: Sequence[Matrix]) -> HeatMap:
    """Of the weights of each matrix, per cent that remain; those that cannot be counted are left out."""
    values = [(matrix, 100 * matrix.remaining / matrix.size) for matrix in matrices if matrix.remaining is not None]
    return HeatMap("remaining weights, %", ".1f", values, PER_CENTS)


def plot(name: str, maps: Sequence[HeatMap], path: Path) -> None:
    """Draw heat maps below each other, layer by matrix, to an image file (PNG or SVG by its suffix).

    Raises UsageError for another suffix, MissingError without matplotlib, InputError where there is no matrix to draw.
    """
    check_suffix(path)
    drawn = [each for each in maps if each.values]
    if not drawn:
        raise InputError(f"{name} has no matrices of repeated blocks whose weights can be counted, so none to draw")
    sizes = [(len(_roles(each)), len(block_names([matrix for matrix, _ in each.values]))) for each in drawn]
    width, heights = 1.5 + 1.3 * max(roles for roles, _ in sizes), [1.8 + 0.45 * blocks for _, blocks in sizes]
    figure = new_figure(width, sum(heights), layout="constrained")
    places = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)
    for each, axes in zip(drawn, places[:, 0], strict=True):
        _draw(name, each, figure, axes)
    save_figure(figure, path)


def _roles(shown: HeatMap) -> list[str]:
    return list(dict.fromkeys(matrix.role for matrix, _ in shown.values))


def _draw(name: str, shown: HeatMap, figure: Any, axes: Any) -> None:
    roles, names = _roles(shown), block_names([matrix for matrix, _ in shown.values])
    rows = list(names)
    grid = [[math.nan] * len(roles) for _ in rows]
    for matrix, value in shown.values:
        grid[rows.index(matrix.block)][roles.index(matrix.role)] = value
    least, most = shown.ends or (0.0, max(value for _, value in shown.values))
    image = axes.imshow(grid, cmap="viridis", vmin=least, vmax=most, aspect="auto")
    axes.set_xticks(range(len(roles)), [role.replace(".", "\n") for role in roles], fontsize=8)
    axes.set_yticks(range(len(rows)), list(names.values()))
    axes.set_ylabel("layer")
    for row, values in enumerate(grid):
        for column, value in enumerate(values):
            if math.isnan(value):
                continue  # this block has no such matrix
            shade = "black" if value > least + 0.55 * (most - least) else "white"
            axes.text(column, row, f"{value:{shown.format}}", ha="center", va="center", color=shade, fontsize=8)
    figure.colorbar(image, label=shown.label)
    axes.set_title(f"{name}: {shown.label.partition(',')[0]}")
