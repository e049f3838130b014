"""The drawing of the remaining weights."""

import re
import sys
from pathlib import Path

import pytest

from compresskit.errors import InputError, MissingError, UsageError
from compresskit.evaluate.heatmap import HeatMap, plot, remaining_weights
from compresskit.models.kind import Matrix

MATRICES = [
    Matrix(f"encoder.layer.{layer}.{role}.weight", (4, 8), "mask", remaining, 32)
    for layer in range(3)
    for role, remaining in (("query", 4 * layer), ("output.dense", 32))
]
UNCOUNTED = [Matrix("encoder.layer.0.query.weight", (4, 8), "uint8", None, 32)]


@pytest.mark.parametrize(("name", "magic"), [("map.png", b"\x89PNG\r\n\x1a\n"), ("map.svg", b"<?xml")])
def test_the_plot_is_an_image(name: str, magic: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot("half", [remaining_weights(MATRICES + UNCOUNTED)], tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(magic)
    assert len(written) > 5000


def test_each_figure_has_a_map_of_its_own(tmp_path: Path) -> None:
    """An SVG tells the values that stand in it."""
    pytest.importorskip("matplotlib")
    costs = HeatMap("cost, nats", ".3g", [(matrix, 1.5 * number) for number, matrix in enumerate(MATRICES)])
    plot("half", [remaining_weights(MATRICES), costs, HeatMap("nothing", "", [])], tmp_path / "map.svg")
    plot("half", [remaining_weights(MATRICES)], tmp_path / "one.svg")
    both, one = ((tmp_path / name).read_text() for name in ("map.svg", "one.svg"))
    told = re.findall(r"<!-- (.*?) -->", both)
    assert {"7.5", "4.5", "half: cost", "cost, nats", "100.0", "half: remaining weights"} <= set(told)
    assert "nothing" not in both
    assert "half: cost" not in one


def test_per_cents_go_from_0_to_100(tmp_path: Path) -> None:
    """One colour means one share in every picture: the bar says 100, whatever remains."""
    pytest.importorskip("matplotlib")
    few = [Matrix(matrix.name, (4, 8), "mask", 1, 32) for matrix in MATRICES]
    plot("half", [remaining_weights(few)], tmp_path / "map.svg")
    told = re.findall(r"<!-- (.*?) -->", (tmp_path / "map.svg").read_text())
    assert told.count("3.1") == len(few)
    assert "100" in told


@pytest.mark.parametrize("matrices", [[], UNCOUNTED], ids=["none", "none that can be counted"])
def test_a_plot_of_nothing(matrices: list[Matrix], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="half"):
        plot("half", [remaining_weights(matrices)], tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_format_that_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"map\.pdf"):
        plot("half", [remaining_weights(MATRICES)], tmp_path / "map.pdf")


def test_a_plot_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"pip install 'compresskit\[plot\]'"):
        plot("half", [remaining_weights(MATRICES)], tmp_path / "map.png")
