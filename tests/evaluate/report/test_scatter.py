"""What the scatter plots stand on: points, the Pareto front, axes; and that labels cover nothing."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from compresskit.evaluate.report.drawing import HEIGHT, PLANE, WIDTH, Text, draw
from compresskit.evaluate.report.labels import MARK_RADIUS, Box, place_boxes, place_labels, shortened
from compresskit.evaluate.report.scatter import Point, pareto_front, scatters
from compresskit.evaluate.units import size
from tests.evaluate.report import fifteen
from tests.evaluate.report.samples import REPORT, ROWS

# Few values, so that ties are frequent.
POINTS = st.lists(st.builds(Point, st.text("ab"), st.integers(0, 6).map(float), st.integers(0, 6).map(float)))


def beats(one: Point, other: Point) -> bool:
    return one.x <= other.x and one.y >= other.y and (one.x < other.x or one.y > other.y)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    by_definition = [point for point in points if not any(beats(other, point) for other in points)]
    front = pareto_front(points)
    assert sorted(map(str, front)) == sorted(map(str, by_definition))
    assert all(a.x <= b.x and a.y <= b.y for a, b in itertools.pairwise(front))


def test_equal_points_are_in_the_front_together():
    a, b, worse, dearer = Point("a", 1, 5), Point("b", 1, 5), Point("c", 1, 4), Point("d", 2, 5)
    assert pareto_front([dearer, worse, b, a]) == [b, a]


def test_the_points_are_the_rows_that_have_both_figures():
    by_size, by_latency = scatters(REPORT)
    assert [(point.name, point.x, point.y) for point in by_size.points] == [
        ("dense", 90_300_000, 73.85),
        ("pruned-0.9", 91_600_000, 71.02),
        ("int8", 23_100_000, 72.4),
    ]
    assert [point.is_baseline for point in by_size.points] == [True, False, False]
    assert by_size.missing == by_latency.missing == ("predictions", "broken")
    assert [point.x for point in by_latency.points] == [8.312, 8.475, 4.25]
    assert [point.name for point in by_size.front] == ["int8", "dense"]
    assert by_size.text(23_100_000) == size(23_100_000)
    assert by_latency.text(8.312) == "8.31 ms"


@pytest.mark.parametrize(("least", "label"), [(45e6, "60 MB"), (1e6, "10 MB"), (12_345, "10 MB")])
def test_sizes_have_round_labels(least, label):
    rows = tuple(replace(row, deploy_bytes=int(least)) if row.name == "int8" else row for row in ROWS)
    found, _ = scatters(replace(REPORT, rows=rows))
    labels = [text for _, text in found.x.ticks]
    assert label in labels
    assert len(set(labels)) == len(labels)
    assert found.x_label == "Deploy size (log scale)"


def test_both_plots_have_one_scale():
    """The y axes are the same, though a row stands in one plot only; the costs are logarithmic in both."""
    rows = (*ROWS, replace(ROWS[0], name="unsized", em=12.5, deploy_bytes=None))
    by_size, by_latency = scatters(replace(REPORT, rows=rows))
    assert len(by_size.points) < len(by_latency.points)
    assert by_size.y == by_latency.y
    assert by_size.y.low < 12.5
    assert by_size.x.is_log
    assert by_latency.x.is_log


@given(
    st.lists(
        st.tuples(st.floats(0, 384), st.floats(0, 262), st.integers(1, 24), st.booleans()), min_size=1, max_size=25
    )
)
@settings(max_examples=40, deadline=None)
def test_labels_cover_no_other_label_and_no_point(given_points):
    points = [(x, y) for x, y, _, _ in given_points]
    sizes = [(6.7 * letters, 15.0) for _, _, letters, _ in given_points]
    bounds = Box(0, 0, 384, 262)
    boxes = place_boxes(points, sizes, [first for *_, first in given_points], [], bounds)
    found = [(point, box) for point, box in zip(points, boxes, strict=True) if box is not None]
    for (_, a), (_, b) in itertools.combinations(found, 2):
        assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
    for point, box in found:
        assert box.left >= 0
        assert box.top >= 0
        assert box.right <= 384
        assert box.bottom <= 262
        for x, y in points:
            if math.dist((x, y), point) > 2 * MARK_RADIUS:
                aside = max(box.left - x, x - box.right, box.top - y, y - box.bottom)
                assert aside > MARK_RADIUS - 1e-6


@given(st.floats(30, 350), st.floats(30, 230))
def test_a_lone_label_is_beside_its_point_and_off_the_lines(x, y):
    assume(abs(y - 131) > 1)
    line = ((0.0, y), (384.0, y))
    (box,) = place_boxes([(x, y)], [(30.0, 15.0)], [False], [line], Box(0, 0, 384, 262))
    assert box is not None
    assert box.bottom <= y or box.top >= y
    assert math.dist(box.nearest((x, y)), (x, y)) < 20


def test_a_drawing_places_everything_in_the_plane():
    drawing = draw(scatters(REPORT)[0], 0.56)
    dense, pruned, int8 = drawing.marks
    assert PLANE.left < int8.x < dense.x < pruned.x < PLANE.right
    assert PLANE.top < dense.y < int8.y < pruned.y < PLANE.bottom, "y grows downwards"
    assert [mark.role for mark in drawing.marks] == ["mark", "mark beaten", "mark"]
    assert [bool(mark.corners) for mark in drawing.marks] == [True, False, False], "the baseline is a diamond"
    assert [mark.title for mark in drawing.marks] == [
        "dense (baseline): EM 73.85, 90.3 MB, on the Pareto front",
        "pruned-0.9: EM 71.02, 91.6 MB",
        "int8: EM 72.40, 23.1 MB, on the Pareto front",
    ]
    (front,) = (line.points for line in drawing.lines if line.role == "front")
    assert front == (
        (int8.x, PLANE.bottom),
        (int8.x, int8.y),
        (dense.x, int8.y),
        (dense.x, dense.y),
        (PLANE.right, dense.y),
    )
    for text in drawing.texts:
        assert 0 <= text.x <= WIDTH
        assert 0 < text.y <= HEIGHT
    for x, y in itertools.chain.from_iterable(line.points for line in drawing.lines):
        assert PLANE.left <= x <= PLANE.right
        assert PLANE.top <= y <= PLANE.bottom


def test_a_drawing_says_what_it_shows():
    by_size, by_latency = (draw(scatter, 0.56) for scatter in scatters(REPORT))
    texts = {role: [text.text for text in by_size.texts if text.role == role] for role in ("quantity", "label")}
    assert texts == {"quantity": ["EM, %", "Deploy size (log scale)"], "label": ["dense", "int8"]}
    assert [text.text for text in by_size.texts if text.role == "label beaten"] == ["pruned-0.9"]
    ticks = [label for axis in (scatters(REPORT)[0].x, scatters(REPORT)[0].y) for _, label in axis.ticks]
    assert [text.text for text in by_size.texts if text.role == "tick"] == ticks
    assert len([line for line in by_size.lines if line.role == "grid"]) == len(ticks)
    assert [key.text.rpartition(" ")[2] for key in by_size.keys] == ["smaller", "beaten", "baseline", "figure:"]
    assert by_latency.keys[0].text.endswith("faster")
    assert by_size.keys[-1].names == ("predictions", "broken")
    assert by_size.summary.endswith("from the smallest deploy size: int8, dense.")


def test_a_drawing_without_points_says_why():
    drawing = draw(scatters(replace(REPORT, rows=ROWS[3:]))[1], 0.56)
    assert (drawing.lines, drawing.texts, drawing.marks, drawing.keys) == ((), (), (), ())
    assert drawing.summary == "No checkpoint has both EM and latency."


def test_a_legend_without_a_baseline_and_with_all_rows_shown():
    drawing = draw(scatters(replace(REPORT, rows=ROWS[1:3]))[0], 0.56)
    assert [key.mark is not None and not key.mark.corners for key in drawing.keys] == [True, True]


def test_a_label_aside_is_led_to_by_a_line():
    crowd = tuple(replace(ROWS[0], name=f"checkpoint {number}", baseline=False) for number in range(6))
    drawing = draw(scatters(replace(REPORT, rows=crowd))[0], 0.56)
    leaders = [line for line in drawing.lines if line.role == "leader"]
    assert leaders
    for leader in leaders:
        assert math.dist(leader.points[0], (drawing.marks[0].x, drawing.marks[0].y)) == pytest.approx(MARK_RADIUS)


def test_long_names_are_shortened_and_wide_letters_get_room():
    long, wide = "a-checkpoint-whose-name-never-ends", "模型" * 4
    points, bounds = [(50.0, 50.0), (50.0, 200.0)], Box(0, 0, 384, 262)
    labels = place_labels([long, wide], points, [False, False], [], bounds, (6.0, 15.0))
    assert labels[0] is not None
    assert labels[1] is not None
    assert labels[0].text == "a-checkpoint…-never-ends", "names of a family differ at the end"
    assert labels[1].box.width == 2 * 8 * 6.0


NAMES = st.text("abcdefghij-0.9_", min_size=1, max_size=40)
FIFTEEN = st.lists(
    st.tuples(NAMES, st.floats(1, 100), st.integers(10**6, 10**9), st.floats(0.5, 500)), min_size=15, max_size=15
)


@settings(max_examples=15, deadline=None)
@given(FIFTEEN)
def test_labels_of_fifteen_checkpoints_do_not_overlap(figures):
    """Whatever has no room is named below the plot instead."""
    rows = tuple(
        replace(ROWS[0], name=f"{number}{name}", em=em, deploy_bytes=size, latency_ms_p50=ms, baseline=number == 3)
        for number, (name, em, size, ms) in enumerate(figures)
    )
    for scatter in scatters(replace(REPORT, rows=rows)):
        drawing = draw(scatter, 0.6)
        texts = [text for text in drawing.texts if text.role.startswith("label")]
        for a, b in itertools.combinations(map(box_of, texts), 2):
            assert a.right <= b.left + 1e-6 or b.right <= a.left + 1e-6 or a.bottom <= b.top or b.bottom <= a.top
        for box in map(box_of, texts):
            assert box.left >= PLANE.left
            assert box.right <= WIDTH
            assert box.top >= 0
        unnamed = [name for key in drawing.keys if key.text.startswith("Not named") for name in key.names]
        assert len(texts) + len(unnamed) == 15
        assert {shortened(row.name) for row in rows} == {text.text for text in texts} | set(map(shortened, unnamed))


def box_of(text: Text) -> Box:
    """The place of a label, by the estimate of its width; its letters are 12 high, less than a line."""
    width = 0.6 * 12 * len(text.text)
    left = {"start": text.x, "middle": text.x - width / 2, "end": text.x - width}[text.anchor]
    return Box(left, text.y - 10, width, 12)


def test_fifteen_checkpoints_are_named():
    """Three of them are seeds of one run, so two points lie on each other's marks."""
    for scatter in scatters(fifteen.REPORT):
        drawing = draw(scatter, 0.56)
        unnamed = [key.names for key in drawing.keys if key.text.startswith("Not named")]
        assert sum(map(len, unnamed)) <= 1
        assert [key.names for key in drawing.keys][-1] == tuple(row.name for row in fifteen.ROWS if row.error)
