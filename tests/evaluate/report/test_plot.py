"""The plot as an image file."""

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from compresskit.errors import InputError, MissingError, UsageError
from compresskit.evaluate.report import html
from compresskit.evaluate.report.plot import check, save_plot
from compresskit.evaluate.row import Report
from tests.evaluate.report.samples import BROKEN, DENSE, INT8, PREDICTED, REPORT

matplotlib = pytest.importorskip("matplotlib")


def words(report: Report, folder: Path) -> list[str]:
    """The texts of the plot as SVG, in order."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        save_plot(report, folder / "words.svg")
    root = ElementTree.parse(folder / "words.svg").getroot()
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_png_of_two_panels(tmp_path):
    save_plot(REPORT, tmp_path / "plot.PNG")
    written = (tmp_path / "plot.PNG").read_bytes()
    assert written.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(written[at : at + 4], "big") for at in (16, 20))
    assert width > 1.5 * height > 900
    assert len(written) > 20_000


def test_the_plot_names_what_it_shows(tmp_path):
    found = words(REPORT, tmp_path)
    axes = ("Deploy size (log scale)", "Latency p50, ms (log scale)", "40 MB")
    for text in ("EM against deploy size", "EM against latency", *axes):
        assert found.count(text) == 1, text
    for name in ("dense", "pruned-0.9", "int8"):
        assert found.count(name) == 2
    assert any("data/eval.json.gz: 2,003 questions" in text for text in found)


def test_the_plot_and_the_page_draw_the_same(tmp_path):
    page = html.render(REPORT)
    drawings = re.findall(r'<svg[^>]*role="img".*?</svg>', page, re.DOTALL)
    on_page = [node.text for part in drawings for node in ElementTree.fromstring(part).iter("text")]
    assert len(on_page) > 20
    found = words(REPORT, tmp_path)
    assert not Counter(on_page) - Counter(found)
    for legend in ("on the Pareto front: none is both better and smaller", "beaten", "baseline"):
        assert legend in found
        assert f"> {legend}</span>" in page


def test_a_legend_without_room_for_all_names_is_cut(tmp_path):
    lost = tuple(replace(BROKEN, name=f"broken-{number}") for number in range(40))
    (legend, _) = (text for text in words(replace(REPORT, rows=(DENSE, *lost)), tmp_path) if "Not shown" in text)
    assert legend == "Not shown, for want of a figure: broken-0, broken-1 and 38 more"


def test_a_panel_without_points_says_so(tmp_path):
    rows = (replace(DENSE, latency_ms_p50=None), replace(INT8, latency_ms_p50=None))
    found = words(replace(REPORT, rows=rows), tmp_path)
    assert "No checkpoint has both EM and latency." in found
    assert [found.count(name) for name in ("dense", "int8")] == [1, 1]


@pytest.mark.parametrize("rows", [(), (BROKEN,), (PREDICTED, BROKEN), (replace(DENSE, em=None),)])
def test_nothing_to_draw(rows, tmp_path):
    with pytest.raises(InputError, match="no checkpoint has both EM and deploy size or latency"):
        save_plot(replace(REPORT, rows=rows), tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


def test_names_are_no_formulas(tmp_path):
    name = r"$\frac{a}$ & <b>_^"
    assert words(replace(REPORT, rows=(replace(DENSE, name=name), INT8)), tmp_path).count(name) == 2


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_report_gives_the_same_bytes(suffix, tmp_path):
    before = dict(matplotlib.rcParams)
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        save_plot(REPORT, path)
    a, b = (path.read_bytes() for path in paths)
    assert a == b
    assert dict(matplotlib.rcParams) == before
    assert suffix == "png" or not re.search(rb"<dc:date>", a)


def test_a_plot_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fails(self, file, **options):
        file.write(b"half")
        raise OSError("the disk is full")

    (tmp_path / "plot.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(OSError, match="full"):
        save_plot(REPORT, tmp_path / "plot.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("plot.png", b"old")]


@pytest.mark.parametrize("name", ["plot.pdf", "plot", "plot.png.gz"])
@pytest.mark.parametrize("call", [check, lambda path: save_plot(REPORT, path)])
def test_another_suffix(name, call, tmp_path):
    with pytest.raises(UsageError, match=r"is not an image; name a \.png or a \.svg"):
        call(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [check, lambda path: save_plot(REPORT, path)])
def test_without_matplotlib(call, tmp_path, monkeypatch):
    check(tmp_path / "plot.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"pip install 'compresskit\[plot\]'"):
        call(tmp_path / "plot.svg")
