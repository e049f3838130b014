"""Tables of the terminal: as many columns as fit, names folded between their words, and lines that say the same."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from compresskit.evaluate.gate import explain
from compresskit.evaluate.report import table
from compresskit.evaluate.report.gate_lines import gate_lines
from compresskit.evaluate.report.grid import Grid, folded
from compresskit.evaluate.row import Gate
from tests.evaluate.report.fifteen import REPORT, ROWS

LOST = [row.name for row in ROWS if row.error]


def shown(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table.render(replace(REPORT, shown=("question",))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_fifteen_checkpoints_fit_the_terminal(width: int) -> None:
    lines = shown(width)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) < {80: 330, 100: 285, 120: 235, 200: 200}[width]
    heading = " ".join(" ".join(lines[:2]).split())
    for wanted in ("Name", "EM", "F1", "Δ EM", "Disk", "ms"):
        assert wanted in heading, "ratios do not crowd out the figures themselves"
    assert any(line.startswith("bert-smp-0.9-") for line in lines), "a name is folded between its words"
    unmeasured = f"em>=base-2 fails for {', '.join(LOST)} (not measured, limit 71.85; not scored)"
    assert unmeasured in " ".join(" ".join(lines).split())


def test_columns_leave_by_rank_and_figures_stay_whole() -> None:
    grid = Grid(("Name", "a", "b"), [("x" * 30, "12345", "67")], (0, 2, 1))
    assert grid.fitted(40)[1] == []
    assert grid.fitted(24)[1] == ["a"]
    assert grid.fitted(10)[1] == ["a", "b"]


@given(st.text("ab-_./ 模", max_size=60), st.integers(2, 30))
def test_a_folded_name_is_whole_and_fits(name: str, width: int) -> None:
    found = folded(name, width)
    assert "".join(found.split()) == "".join(name.split())
    assert all(cell_len(line) <= width for line in found.split("\n"))


def test_verdicts_that_say_more_stand_alone() -> None:
    plain = [Gate("em>=70", f"row-{number}", True, 71.0 + number, 70.0) for number in range(3)]
    remarked = replace(plain[0], row="near", reason="the limit lies inside")
    failed = [Gate("em>=70", f"low-{number}", False, 60.0, 70.0) for number in range(3)]
    told = [line.text for line in gate_lines([*plain, remarked, *failed])]
    assert told == [
        "em>=70 holds for 3 checkpoints (limit 70): row-0 71, row-1 72, row-2 73",
        explain(remarked),
        *map(explain, failed),
    ]
    timed = [replace(gate, spread=0.021) for gate in plain]
    (line,) = gate_lines(timed)
    assert line.text.startswith(
        "em>=70 holds for 3 checkpoints (limit 70, measured in turns, with spread): row-0 71 ± 2.1 %"
    )
    assert [line.text for line in gate_lines(plain[:2])] == list(map(explain, plain[:2]))
