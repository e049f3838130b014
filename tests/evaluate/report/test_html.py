"""The HTML page, read by a parser: everything of the report is there, nothing comes from outside, no text is code."""

import re
from dataclasses import fields, replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.report import html
from compresskit.evaluate.report.page.lineage import duration, lineage
from compresskit.evaluate.report.table import COLUMNS
from compresskit.evaluate.row import Flip, Gate, Report, Row
from compresskit.evaluate.units import UNMEASURED
from tests.evaluate.report import dom
from tests.evaluate.report.samples import BROKEN, DENSE, MANIFEST, PREDICTED, PRUNED, REPORT, ROWS

HOSTILE = (
    "</script></style></title><script>alert(1)</script><img src=x onerror=\"alert('1')\">{{ 7*7 }}{% raw %}-->&amp;"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("a<é"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a<é"), inner, max_size=3),
    max_leaves=8,
)


def page(report: Report = REPORT) -> dom.Node:
    return dom.parse(html.render(report))


def with_rows(*rows: Row) -> Report:
    return replace(REPORT, rows=rows)


def table(root: dom.Node) -> dict[str, dict[str, dom.Node]]:
    """Cells by the name of the row and the heading of the column."""
    results = root.one("table", id="results")
    headings = [th.text for th in results.one("thead").all("th") if th.all("button")]
    found = {}
    for row in results.one("tbody").all("tr"):
        cells = row.all("th") + row.all("td")
        found[cells[0].one("a", href=cells[0].all("a")[0]["href"]).text] = dict(zip(headings, cells, strict=False))
    return found


def shown(cell: dom.Node) -> str:
    """The figure of a cell, without the note below it."""
    notes = [note.text for note in cell.all("small")]
    return cell.text.removesuffix(notes[0]).strip() if notes else cell.text


def hostile() -> Report:
    """Every text that a report can hold is an attack."""
    text = HOSTILE
    flip = Flip(text, text, text, (text,), text, text, False)
    row = replace(
        PRUNED,
        name=text,
        path=text,
        family=text,
        method=text,
        sha256=text,
        created=text,
        predictions=text,
        metrics={text: 1.0},
        device={"name": text, text: text},
        versions={text: text},
        flips=(flip, replace(flip, won=True)),
        manifest={
            "kind": text,
            "created": text,
            "base": {text: text},
            "steps": [{"method": text, "config": {text: text}}],
        },
    )
    data = replace(REPORT.dataset, path=text, sha256=text)
    return Report(
        text,
        {text: text},
        {"name": text},
        data,
        (row, replace(BROKEN, name=f"{text}2", error=text)),
        (Gate(text, text, False, 1.0, 2.0),),
    )


@pytest.mark.parametrize("report", [REPORT, with_rows(BROKEN), with_rows(), with_rows(PREDICTED), hostile()])
def test_nothing_comes_from_outside(report):
    root = page(report)
    outside = {"link", "img", "iframe", "object", "embed", "base", "form", "use", "image", "audio", "video", "source"}
    assert outside.isdisjoint(node.tag for node in root.all())
    for node in root.all():
        for name, value in node.attributes.items():
            assert not name.startswith("on"), f"{name} of {node.tag}"
            assert name not in ("src", "srcset", "xlink:href", "action", "data", "style", "poster", "ping")
            assert name != "href" or value.startswith("#")
    code = root.one("style").text + root.one("script").text
    assert not re.search(r"@import|url\(|https?:|//\w|fetch\(|XMLHttp|import\(|innerHTML|eval\(|document\.write", code)


def test_the_policy_forbids_everything_external():
    policy = page().one("meta", **{"http-equiv": "Content-Security-Policy"})["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    assert rules.pop("style-src") == rules.pop("script-src") == "'unsafe-inline'"
    assert set(rules.values()) == {"'none'"}


def test_hostile_texts_stay_texts():
    root, plain = page(hostile()), page()
    assert root.one("script").text == plain.one("script").text
    assert root.one("style").text == plain.one("style").text
    words = " ".join(HOSTILE.split())
    places = [
        root.one(id="data"),
        root.one(id="verdict"),
        root.one("table", id="results"),
        root.one("table", css="gates"),
        *root.all("ol", css="lineage"),
        *root.all("ol", css="flips"),
        root.one("footer"),
    ]
    assert len(places) == 8
    for place in places:
        assert words in place.text


def test_every_row_and_figure_is_there():
    rows = table(page())
    assert list(rows) == [row.name for row in ROWS]
    for row in ROWS[:-1]:
        for column in COLUMNS:
            assert shown(rows[row.name][column.heading.replace("\n", " ")]) == column.show(row)
    for heading, text in {
        "zstd": "19.4 MB",
        "Load": "211 MB",
        "Reserved": "645 MB",
        "Process": "887 MB",
        "Load s": "0.75",
        "bleu": "33.25",
        "p50 ms": "4.25",
    }.items():
        assert shown(rows["int8"][heading]) == text
        assert shown(rows["dense"][heading]) == {"p50 ms": "8.31"}.get(heading, UNMEASURED)
    pruned = rows["pruned-0.9"]
    assert [pruned[name].text for name in ("p", "Won", "Lost")] == ["0.0012", "31", "117"]
    assert pruned["Δ EM"].text == "-2.83 -3.91 to -1.77"
    assert pruned["Δ F1"].text == "-2.20 -3.10 to -1.25"
    assert pruned["EM"].text == "71.02 69.30 to 72.60"
    assert rows["dense"]["q/s"].text == "313 302 to 320"


def test_no_figure_of_a_row_is_left_out():
    """Each figure of a row, changed alone, changes the page."""
    was = html.render(with_rows(DENSE, PRUNED))
    figures = [
        field.name for field in fields(Row) if str(field.type) in ("float | None", "int | None", "Interval | None")
    ]
    assert len(figures) > 25
    for name in figures:
        if name == "error_code":  # goes with an error
            continue
        value: object = (1.5, 2.5) if name.endswith(("_ci95", "_range")) else 51
        assert html.render(with_rows(DENSE, replace(PRUNED, **{name: value}))) != was, name  # type: ignore[arg-type]


def test_columns_that_nobody_measured_are_left_out():
    headings = set(next(iter(table(page(with_rows(DENSE, PREDICTED))).values())))
    assert {"zstd", "Reserved", "Process", "Load", "Load s", "p", "Won"}.isdisjoint(headings)
    assert "Δ EM" in headings
    assert "Δ EM" not in next(iter(table(page(with_rows(PREDICTED))).values()))


def test_what_was_not_measured_is_a_dash_without_a_value():
    cell = table(page())["predictions"]["Deploy"]
    assert (cell.text, "data-value" in cell.attributes) == (UNMEASURED, False)


def test_cells_carry_the_value_they_are_sorted_by():
    rows = table(page())
    assert float(rows["dense"]["Deploy"]["data-value"]) == 90_300_000
    assert float(rows["dense"]["p50 ms"]["data-value"]) == 8.312
    assert "data-value" not in rows["dense"]["Method"].attributes


def test_the_best_of_a_column_and_the_baseline_are_marked():
    rows = table(page())
    best = {
        name: [heading for heading, cell in cells.items() if cell.all("b", css="best")] for name, cells in rows.items()
    }
    assert {"EM", "F1"} <= set(best["dense"])
    assert {"Deploy", "p50 ms"} <= set(best["int8"])
    assert "Disk" in best["pruned-0.9"]
    assert best["predictions"] == best["broken"] == []
    assert "baseline" in rows["dense"]["Checkpoint"].text
    assert "baseline" not in rows["int8"]["Checkpoint"].text


def test_headings_sort_best_first():
    root = page()
    headings = root.one("table", id="results").all("th", scope="col")
    first = {th.text: th.one("button")["data-first"] for th in headings}
    assert first["EM"] == first["q/s"] == "descending"
    assert first["Deploy"] == first["p50 ms"] == first["Checkpoint"] == first["Method"] == "ascending"
    groups = root.one("tr", css="groups")
    cells = [cell for cell in groups.all("th") + groups.all("td") if "folded" not in cell.classes]
    assert sum(int(cell.attributes.get("colspan", "1")) for cell in cells) == len(headings)


def test_a_row_that_was_not_scored_says_why():
    root = page()
    row = table(root)["broken"]
    assert row["Method"].text == "Not scored: its process was ended by SIGKILL"
    assert int(row["Method"]["colspan"]) == len(table(root)["dense"]) - 1
    assert "1 checkpoint could not be scored: broken" in root.one(id="verdict").text
    assert "(exit code 5)" in root.one(id="row-5").text
    measured = table(page(with_rows(DENSE, replace(BROKEN, disk_bytes=5_000_000))))["broken"]
    assert measured["Disk"].text == "5.00 MB"


def test_gates_tell_rule_row_value_and_limit():
    root = page()
    verdict = root.one(id="verdict")
    assert "bad" in verdict.classes
    assert "Failed" in verdict.text
    failing = sum(not gate.passed for gate in REPORT.gates)
    assert f"{failing} of {len(REPORT.gates)} gates failed" in verdict.text
    failed, held = (
        [[cell.text for cell in row.all("td")] for row in part.all("tr")[1:]] for part in root.all("table", css="gates")
    )
    checkpoints = sum(1 + cells[2].count(", ") for cells in failed)
    assert (checkpoints, len(held)) == (failing, len(REPORT.gates) - failing)
    remark = "pruned-0.9 the limit lies inside the 95 % interval 69.94 to 72.08; some 6,900 questions would decide"
    assert ["✗ fails", "em>=base-2", remark, "71.02", "71.85"] in failed
    assert ["✗ fails", "size<=0.5x", "pruned-0.9", "91.6 MB", "45.1 MB"] in failed
    lost = "broken not scored"
    assert ["✗ fails", "latency<=9ms", "predictions", UNMEASURED, "9.00 ms"] in failed
    assert ["✗ fails", "latency<=9ms", lost, UNMEASURED, "9.00 ms"] in failed
    assert ["✓ holds", "latency<=9ms", "int8", "4.25 ms", "9.00 ms"] in held
    names = {row: cells["Checkpoint"].text for row, cells in table(root).items()}
    assert names["pruned-0.9"] == "pruned-0.9 fails 2 gates"


@pytest.mark.parametrize(
    ("rules", "words", "css"),
    [
        ([], "Measured no gates were set", "plain"),
        (["em>=50"], "✓ Passed all 3 gates hold", "good"),
        (["em>=90"], "✗ Failed 3 of 3 gates failed", "bad"),
    ],
)
def test_the_verdict(rules, words, css):
    root = page(gated(with_rows(*ROWS[:4]), [parse(rule) for rule in rules]))
    assert words in root.one(id="verdict").text
    assert css in root.one(id="verdict").classes
    assert bool(root.all(id="gates")) == bool(rules)


def test_a_verdict_shows_the_digits_that_decide_it():
    gates = (Gate("em>=79.5", "x", False, 79.4999999, 79.5), Gate("from=another version", "x", False, 1.0, 2.0, True))
    rows = page(replace(REPORT, gates=gates)).one("table", css="gates").all("tr")[1:]
    assert [cell.text for cell in rows[0].all("td")][3:] == ["79.4999999", "79.5"]
    assert [cell.text for cell in rows[1].all("td")][3:] == ["1 worse end of the 95 % interval", "2"]


def test_the_data_and_its_sample():
    text = page().one(id="data").text
    assert "data/eval.json.gz" in text
    assert "2,003, 700 of them unanswerable" in text
    assert "whole paragraphs out of 4,761 questions, seed 20" in text
    assert "Some CPU" not in text, "rows that name their own device go before the report's"
    whole = replace(REPORT, dataset=replace(REPORT.dataset, sampled_from=None, seed=None), rows=(DENSE,))
    assert "Sample" not in page(whole).one(id="data").text
    assert "Some CPU" in page(whole).one(id="data").text


def test_flips_are_grouped_with_answers_and_context():
    body = page().one(id="row-2")
    assert [heading.text for heading in body.all("h4")] == [
        "Lost: right in the baseline, wrong here: 1 of 117",
        "Won: wrong in the baseline, right here: 1 of 31",
    ]
    lost, won = (part.one("li") for part in body.all("ol", css="flips"))
    assert lost.one("p", css="question").text == "Which river runs through Paris?"
    assert [dd.text for dd in lost.all("dd")] == ["The Seine · Seine", "Seine", "Le Havre"]
    assert [dd.text for dd in won.all("dd")] == ["no answer", "Paris", "no answer"]
    assert lost.one("details").one("mark").text == "The Seine"
    assert lost.one("p", css="context").text.endswith("at Le Havre.")
    assert not won.all("mark")
    assert not page().one(id="row-1").all("ol", css="flips")


def test_details_tell_lineage_versions_and_device():
    root = page()
    dense, pruned, int8 = (root.one(id=f"row-{number}").text for number in (1, 2, 3))
    assert "SHA-256 " + "a" * 64 in dense
    assert "Null threshold 0.25" in dense
    assert "Best EM 74.01 at null threshold -1.5, chosen on these very questions" in dense
    assert "a checkpoint of another tool" in dense
    assert "name Some CPU" in dense
    assert "torch 2.13.0+cpu" in dense
    assert "name GPU of this row" in int8
    assert "torch 2.13.0+cu130" in int8
    for words in (
        "base ref hub/base-model sha256 " + "b" * 64,
        "prune/smp data train.json.gz questions 28235 unanswerable 9277 data sha256 " + "d" * 64,
        "wall time 7 min 20 s seed 42",
        "lr 3e-05 epochs 9 block 32, 32 distill.temperature 2 distill.weight 0.9 structured no",
        "train_loss 43.791 head teacher",
        "mask checkpoint, made 2026-11-22T00:25:01+00:00",
    ):
        assert words in pruned, words
    assert "teacher_training" not in pruned
    assert "method smp" not in pruned, "told already"


@given(
    st.dictionaries(st.sampled_from(sorted(MANIFEST)), JSON)
    | st.just({"steps": [{"data": 1, "config": [], "seed": {}}]})
)
def test_any_manifest_can_be_shown(manifest):
    lineage(manifest)
    dom.parse(html.render(with_rows(replace(PRUNED, manifest=manifest))))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.5, "59.5 s"), (60, "1 min 0 s"), (3599.6, "1 h 00 min"), (11_100, "3 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_plots_are_drawn_without_script():
    text = html.render(REPORT)
    drawings = [ElementTree.fromstring(part) for part in re.findall(r'<svg[^>]*role="img".*?</svg>', text, re.DOTALL)]
    assert len(drawings) == 2
    for drawing, front in zip(drawings, ("int8, dense", "int8, dense"), strict=True):
        assert drawing.get("aria-label", "").endswith(f": {front}.")
        marks = [mark for mark in drawing.iter("g") if "mark" in mark.get("class", "").split()]
        assert [mark.findtext("title", "").split(":")[0] for mark in marks] == [
            "dense (baseline)",
            "pruned-0.9",
            "int8",
        ]
        assert [mark.findtext("title", "").endswith("on the Pareto front") for mark in marks] == [True, False, True]
        width, height = map(float, drawing.get("viewBox", "").split()[2:])
        places = [tuple(map(float, re.findall(r"[\d.]+", mark.get("transform", "")))) for mark in marks]
        assert all(0 < x < width and 0 < y < height for x, y in places)
        labels = [node.text for node in drawing.iter("text") if "label" in node.get("class", "").split()]
        assert labels == ["dense", "pruned-0.9", "int8"]
    assert "EM 73.85, 90.3 MB" in text
    assert "EM 73.85, 8.31 ms" in text
    assert text.count("Not shown, for want of a figure: <bdi>predictions, broken</bdi>") == 2


def test_a_plot_without_points_says_so():
    root = page(with_rows(replace(DENSE, latency_ms_p50=None)))
    assert [node.text for node in root.all("p", css="nothing")] == ["No checkpoint has both EM and latency."]
    assert len(root.all("svg", role="img")) == 1


def test_links_lead_to_what_is_there():
    root = page()
    ids = [node["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {node["href"][1:] for node in root.all("a")} <= set(ids)
    levels = [int(node.tag[1]) for node in root.all() if re.fullmatch("h[1-6]", node.tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_same_report_gives_the_same_page():
    assert html.render(REPORT) == html.render(Report.from_json(REPORT.to_json()))
