"""The formats of a report."""

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from compresskit.errors import UsageError
from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.report import RENDERERS, render
from compresskit.evaluate.report.table import COLUMNS
from compresskit.evaluate.row import Dataset, Report, Row

DENSE = Row(
    name="dense",
    path="out/dense",
    family="encoder",
    method="train",
    baseline=True,
    em=73.85,
    f1=76.7,
    has_ans_em=71.5,
    has_ans_f1=77.25,
    no_ans_em=76.19,
    best_em=74.01,
    delta_em=0.0,
    params_total=22_565_376,
    params_nonzero=22_565_376,
    params_trainable=22_565_376,
    disk_bytes=90_300_000,
    deploy_bytes=90_300_000,
    peak_memory_bytes=612_000_000,
    peak_memory_kind="rss",
    latency_ms_p50=8.312,
    latency_ms_p95=12.94,
    questions_per_s=313.2,
)
PRUNED = replace(
    DENSE,
    name="pruned-0.9",
    method="prune/smp",
    baseline=False,
    em=71.02,
    delta_em=-2.83,
    params_nonzero=5_641_344,
    disk_bytes=1_300_000,
    deploy_bytes=91_600_000,
)
BROKEN = Row("broken", "out/broken", "-", "-", False, error="its process was ended by SIGKILL")
NUMBERS = [
    "73.85",
    "76.70",
    "71.50",
    "77.25",
    "76.19",
    "-2.83",
    "100.00",
    "25.00",
    "22.6M",
    "1.30 MB",
    "90.3 MB",
]
NUMBERS += ["91.6 MB", "612 MB", "8.31", "12.9", "313"]


def report(*rows: Row) -> Report:
    dataset = Dataset("eval.json", "00ff", 6078, 3168)
    return Report("2026-01-01T00:00:00+00:00", {}, {"kind": "cpu", "name": "Some CPU"}, dataset, rows)


def lines(shown: Report, width: int, colored: bool = False) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=colored, color_system="truecolor" if colored else None)
    console.print(render(shown, "table"))
    return stream.getvalue().splitlines()


def test_wide_terminal_shows_every_figure_on_its_row() -> None:
    shown = lines(report(DENSE, PRUNED, BROKEN), 160)
    (dense,) = (line for line in shown if line.startswith("dense (baseline)"))
    (pruned,) = (line for line in shown if line.startswith("pruned-0.9"))
    for number in NUMBERS:
        assert number in dense or number in pruned, number
    assert "left out" not in "".join(shown)
    assert any("6,078 questions, 3,168 unanswerable" in line and "Some CPU" in line for line in shown)
    assert any("resident set" in line for line in shown)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 160, 200])
def test_no_line_is_too_long_and_no_number_is_wrapped_or_cut(width: int) -> None:
    shown = lines(report(DENSE, PRUNED, BROKEN), width)
    assert max(map(len, shown)) <= width
    assert not any("…" in line for line in shown)
    # Whatever is left of a row stands on the line of its name, whole.
    allowed = {*NUMBERS, "71.02", "+0.00", "(baseline)", "dense", "train", "prune/smp", "pruned-0.9"}
    for line in shown:
        if line.startswith(("dense", "pruned")) and "not scored" not in line:
            cells = [cell.strip(" *") for cell in re.split(r" {2,}", line) if cell.strip(" *")]
            assert {cell.removesuffix(" (baseline)") for cell in cells} <= allowed, line


def test_columns_leave_in_their_order() -> None:
    ranks = [column.rank for column in COLUMNS]
    assert set(ranks) == set(range(len(COLUMNS)))
    seen: set[str] = set()
    for width in range(200, 30, -5):
        heading = " ".join(lines(report(DENSE, PRUNED), width)[:2])
        gone = {word for word in ("p95", "q/s", "Params", "Deploy", "Method", "Disk", "F1") if word not in heading}
        assert seen <= gone
        seen = gone
    assert "EM" in " ".join(lines(report(DENSE, PRUNED), 30))
    assert any("left out for width" in line and "p95 ms" in line for line in lines(report(DENSE, PRUNED), 100))


def test_best_values_are_marked_with_and_without_colour() -> None:
    plain = "\n".join(lines(report(DENSE, PRUNED, BROKEN), 200))
    for best in ("73.85*", "25.00*", "1.30 MB*", "90.3 MB*"):
        assert best in plain
    for other in ("71.02*", "100.00*", "76.70*", "-2.83*", "–*"):  # not best, or the same in all rows
        assert other not in plain
    colored = "\n".join(lines(report(DENSE, PRUNED), 200, colored=True))
    assert "\x1b[1;32m73.85" in colored.replace("\x1b[1;32m ", "\x1b[1;32m")
    assert "*" not in colored


def test_without_a_baseline_there_is_no_difference_and_unmeasured_is_a_dash() -> None:
    shown = lines(report(replace(DENSE, baseline=False, delta_em=None, no_ans_em=None, latency_ms_p50=None)), 200)
    assert "Δ" not in " ".join(shown)
    assert " ".join(shown).count("–") >= 2
    assert "*" not in " ".join(shown)  # one row has nothing to be better than


def test_a_row_that_failed_is_there_with_its_reason() -> None:
    shown = lines(report(BROKEN, DENSE), 100)
    assert any(line.startswith("broken") and "–" in line for line in shown)
    assert any(line.startswith("broken: not scored: its process was ended by SIGKILL") for line in shown)


def test_empty_report() -> None:
    assert lines(report(), 40)


def test_json_is_the_report() -> None:
    text = render(report(DENSE, BROKEN), "json")
    assert isinstance(text, str)
    assert not text.endswith("\n")
    assert Report.from_json(text) == report(DENSE, BROKEN)
    assert json.loads(text)["rows"][1]["error"] == BROKEN.error


def test_unknown_format_names_the_known_ones() -> None:
    assert list(RENDERERS) == ["table", "json", "markdown", "csv", "junit"]
    with pytest.raises(UsageError, match="table, json"):
        render(report(), "pdf")


def test_differences_and_verdicts_stand_below_the_table() -> None:
    small = replace(PRUNED, delta_em_ci95=(-3.5, -2.0), p_value=0.00012)
    shown = lines(gated(report(DENSE, small), [parse("em>=base-1"), parse("em>=70")]), 200)
    assert any(line.split()[:6] == ["pruned-0.9", "-2.83", "-3.50", "to", "-2.00", "0.00012"] for line in shown)
    assert "em>=base-1 fails for pruned-0.9 (71.02, limit 72.85)" in shown
    assert "em>=70 holds for pruned-0.9 (71.02, limit 70)" in shown
