"""A sheet on which the figures are drawn: lines, boxes, dots and texts, written out as SVG.

The colours are those of the package's HTML report, for light and for dark screens. The sheet has a ground of its own,
so that it is legible on a page of any colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

from compresskit.evaluate.report.labels import Anchor, Position

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

# What a role looks like: properties of SVG, with the report's colours by their names.
ROLES: Mapping[str, str] = {
    "ground": "fill: page; stroke: line",
    "text": "fill: text; font-size: 13px",
    "head": "fill: text; font-size: 14px; font-weight: 600",
    "note": "fill: muted; font-size: 12px",
    "note accent": "fill: accent; font-size: 12px",
    "note good": "fill: good; font-size: 12px",
    "note bad": "fill: bad; font-size: 12px",
    "grid": "fill: none; stroke: line",
    "axis": "fill: none; stroke: muted",
    "flow": "fill: none; stroke: muted; stroke-width: 1.5",
    "curve": "fill: none; stroke: accent; stroke-width: 2",
    "curve bad": "fill: none; stroke: bad; stroke-width: 2",
    "curve bad beyond": "fill: none; stroke: bad; stroke-width: 2; stroke-dasharray: 5 4",
    "bar": "fill: none; stroke: muted; stroke-width: 3",
    "bar accent": "fill: none; stroke: accent; stroke-width: 3",
    "box": "fill: raised; stroke: muted",
    "box accent": "fill: accent-tint; stroke: accent",
    "box good": "fill: good-tint; stroke: good",
    "box bad": "fill: bad-tint; stroke: bad",
    "dot": "fill: page; stroke: muted; stroke-width: 1.5",
    "dot accent": "fill: accent; stroke: accent",
    "dot bad": "fill: bad; stroke: bad",
    "tip": "fill: muted; stroke: none",
}


class Sheet:
    """A drawing of a width and a height; y grows downwards. `title` says in words what is to be seen."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []
        self.box(0.5, 0.5, width - 1, height - 1, "ground", corner=8)

    def line(self, points: Sequence[Position], role: str, *, arrow: bool = False) -> None:
        """Straight from point to point; with an arrow, its tip is at the last one."""
        corners = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._add(f'<polyline points="{corners}"', role)
        if arrow:
            self._tip(points[-2], points[-1])

    def box(self, x: float, y: float, width: float, height: float, role: str, corner: float = 4) -> None:
        """A rectangle by its upper left corner."""
        place = f'x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
        self._add(f'<rect {place} rx="{_number(corner)}"', role)

    def dot(self, x: float, y: float, role: str, radius: float = 4) -> None:
        """A circle by its middle."""
        self._add(f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"', role)

    def text(self, x: float, y: float, text: str, role: str = "text", anchor: Anchor = "start") -> None:
        """A text that stands on the height `y`."""
        place = f'x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}"'
        self.parts.append(f'<text class="{role}" {place}>{escape(text)}</text>')

    def svg(self) -> str:
        """The whole file."""
        light, dark = colours()
        body = "\n".join(self.parts)
        size = f"{_number(self.width)} {_number(self.height)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" font-family="{FONT}">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{_rules(light)}\n"
            f"@media (prefers-color-scheme: dark) {{\n{_rules(dark)}\n}}\n</style>\n{body}\n</svg>\n"
        )

    def _tip(self, before: Position, end: Position) -> None:
        """A triangle at the end of a line."""
        (x0, y0), (x, y) = before, end
        length = ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5
        along, across = (x - x0) / length, (y - y0) / length
        back = (x - 7 * along, y - 7 * across)
        sides = [(back[0] - side * across, back[1] + side * along) for side in (3.5, -3.5)]
        points = " ".join(f"{_number(a)},{_number(b)}" for a, b in (end, *sides))
        self._add(f'<polygon points="{points}"', "tip")

    def _add(self, start: str, role: str) -> None:
        self.parts.append(f'{start} class="{role}"/>')


def colours() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The report's colours by name, for light screens and for dark ones."""
    style = files("compresskit.evaluate.report").joinpath("page", "style.css").read_text(encoding="utf-8")
    light, dark, *_ = (
        dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    )
    return light, dark


def _rules(colour: Mapping[str, str]) -> str:
    """The style sheet of all roles in these colours."""

    def named(found: re.Match[str]) -> str:
        return f"{found[1]}: {colour.get(found[2], found[2])}"

    rules = {role: re.sub(r"(fill|stroke): ([\w-]+)", named, properties) for role, properties in ROLES.items()}
    return "\n".join(f'[class="{role}"] {{ {rule} }}' for role, rule in rules.items())


def _number(value: float) -> str:
    """A place to a tenth, as short as it can be written."""
    return f"{value:.1f}".removesuffix(".0")
