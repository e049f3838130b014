"""The pictures of README and docs, made by the program itself from a saved evaluation.

python -m docs.tools.pictures EVAL.json    # draw them of this evaluation, and keep it
python -m docs.tools.pictures              # draw them again of the one that is kept
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from compresskit.evaluate.combine import read_report
from compresskit.evaluate.report import table
from compresskit.evaluate.report.plot import save_plot
from compresskit.evaluate.row import Report

IMAGES = Path(__file__).parents[1] / "images"
FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
KEPT = IMAGES / "eval.json"
COLUMNS = 132
"""As many letters as a line of the pictured terminal has."""


def table_svg(report: Report) -> str:
    """The table of a report as a terminal shows it, in SVG."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(table.render(report))
    drawn = console.export_svg(title="compresskit eval", unique_id="table")
    return FONTS.sub("", drawn)  # nothing is loaded from elsewhere


def draw(report: Report, folder: Path) -> None:
    """Write table.svg and plot.svg into `folder`."""
    (folder / "table.svg").write_text(table_svg(report), encoding="utf-8")
    save_plot(report, folder / "plot.svg")


if __name__ == "__main__":
    if sys.argv[1:]:
        KEPT.write_bytes(Path(sys.argv[1]).read_bytes())
    draw(read_report(KEPT), IMAGES)
