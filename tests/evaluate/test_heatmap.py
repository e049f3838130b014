"""The drawing of the remaining weights."""

import sys
from pathlib import Path

import pytest

from compresskit.errors import InputError, MissingError, UsageError
from compresskit.evaluate.heatmap import plot_remaining
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
    plot_remaining("half", MATRICES + UNCOUNTED, tmp_path / name)
    written = (tmp_path / name).read_bytes()
    assert written.startswith(magic)
    assert len(written) > 5000


@pytest.mark.parametrize("matrices", [[], UNCOUNTED], ids=["none", "none that can be counted"])
def test_a_plot_of_nothing(matrices: list[Matrix], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match="half"):
        plot_remaining("half", matrices, tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()


def test_a_format_that_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"map\.pdf"):
        plot_remaining("half", MATRICES, tmp_path / "map.pdf")


def test_a_plot_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingError, match=r"pip install 'compresskit\[plot\]'"):
        plot_remaining("half", MATRICES, tmp_path / "map.png")
