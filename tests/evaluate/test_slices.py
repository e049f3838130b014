"""The figures of slices against plain loops over the questions, what gates make of them, and what is told."""

import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import binomtest

from compresskit.data.examples import ExampleSet
from compresskit.data.load import load
from compresskit.errors import UsageError
from compresskit.evaluate.combine import combined
from compresskit.evaluate.compare import compared
from compresskit.evaluate.evaluate import Extras, evaluate
from compresskit.evaluate.gate import explain, gated, parse, parse_rules
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.report import html, render
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.slice import SliceName
from compresskit.evaluate.slices import check_keys, lost_most, with_slices
from compresskit.evaluate.slicing import Division
from compresskit.evaluate.stats import Clusters, bootstrap_intervals, holm, mcnemar, mcnemar_each
from tests.evaluate.report import dom

QUESTIONS = 400
RNG = np.random.default_rng(5)
WORD = RNG.choice(["who", "when", "where"], QUESTIONS).tolist()
PARAGRAPH = np.sort(RNG.integers(0, 60, QUESTIONS)).tolist()
BASE = (RNG.random(QUESTIONS) < 0.8).astype(float)
# Worse by half on "when", and nowhere else but by chance.
HALF = np.where((np.array(WORD) == "when") & (RNG.random(QUESTIONS) < 0.5), 0.0, BASE)
HALF[:4] = 1 - HALF[:4]
WINDOWS = RNG.integers(1, 4, QUESTIONS).tolist()
DIVISIONS = {"question": Division.of(WORD, ("who", "when", "where"))}


def outcome(em: Any, windows: Any = ()) -> Outcome:
    return Outcome(question_em=em.tolist(), question_f1=(em * 0.5).tolist(), paragraph=PARAGRAPH, windows=windows)


def row(name: str, em: Any, baseline: bool = False) -> Row:
    return Row(name, name, "encoder", "-", baseline, em=100 * float(em.mean()), f1=50 * float(em.mean()))


OUTCOMES = [outcome(BASE), outcome(HALF), Outcome()]
LOST = Row("lost", "lost", "-", "-", False, error="out of memory")
ROWS = with_slices(compared([row("base", BASE, True), row("half", HALF), LOST], OUTCOMES), OUTCOMES, DIVISIONS)
REPORT = Report("now", {}, {}, Dataset("d", "0", QUESTIONS, 0), tuple(ROWS))


def test_a_slice_has_the_figures_of_its_questions_alone() -> None:
    base, half, lost = ROWS
    assert lost.slices is None
    assert half.slices is not None
    assert base.slices is not None
    assert list(half.slices) == ["question"]  # no model, no windows
    for word, found in half.slices["question"].items():
        mine = [at for at, each in enumerate(WORD) if each == word]
        before, after = ([float(em[at]) for at in mine] for em in (BASE, HALF))
        assert found.questions == len(mine)
        assert found.em == pytest.approx(100 * sum(after) / len(mine))
        assert found.f1 == pytest.approx(50 * sum(after) / len(mine))
        assert found.delta_em == pytest.approx(100 * (sum(after) - sum(before)) / len(mine))
        won, lost_ = (sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((after, before), (before, after)))
        assert found.p_value == pytest.approx(binomtest(won, won + lost_).pvalue if won + lost_ else 1.0)
        plain = base.slices["question"][word]
        assert plain.em == pytest.approx(100 * sum(before) / len(mine))
        assert (plain.delta_em, plain.p_value) == (None, None)
        assert found.of_baseline.em == pytest.approx(plain.em)
    p_values = [(each.p_value, each.p_value_holm) for each in half.slices["question"].values()]
    assert [after for _, after in p_values] == pytest.approx(naive_holm([before or 0.0 for before, _ in p_values]))


def naive_holm(p_values: list[float]) -> list[float]:
    """The closed test of Bonferroni's: the greatest p-value of all sets of hypotheses that one is in."""
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    of_set = {chosen: min(1.0, len(chosen) * min(p_values[at] for at in chosen)) for chosen in sets}
    return [max(p for chosen, p in of_set.items() if at in chosen) for at in places]


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.01, 0.02]), max_size=6))
def test_holm_is_the_closed_test(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(naive_holm(p_values))


def test_many_mcnemars_are_one_by_one() -> None:
    won, lost = (np.repeat(np.arange(12), 12), np.tile(np.arange(12), 12))
    one_by_one = [mcnemar(int(a), int(b)) for a, b in zip(won, lost, strict=True)]
    np.testing.assert_allclose(mcnemar_each(won, lost), one_by_one)


def test_intervals_of_slices_are_about_those_of_the_bootstrap() -> None:
    slices, paragraph = DIVISIONS["question"].number, np.array(PARAGRAPH)
    found = Clusters(slices, 3, paragraph).intervals(HALF)
    for number, interval in enumerate(found):
        mine = slices == number
        (expected,) = bootstrap_intervals(HALF[mine, None], paragraph[mine])
        assert interval is not None
        assert interval == pytest.approx(expected, abs=1.0)
    # Questions that go the same way within their paragraph tell less than as many that do not.
    same = np.repeat(RNG.integers(0, 2, 20), 10).astype(float)
    (together,) = Clusters(np.zeros(200, dtype=int), 1, np.repeat(np.arange(20), 10)).intervals(same)
    (apart,) = Clusters(np.zeros(200, dtype=int), 1, np.arange(200)).intervals(same)
    assert together is not None
    assert apart is not None
    assert together[1] - together[0] > 2.5 * (apart[1] - apart[0])
    assert Clusters(np.array([0, 0, 1, 1]), 2, np.array([3, 3, 3, 4])).intervals(np.array([1.0, 0, 1, 0]))[0] is None


def test_windows_are_those_of_the_baseline_or_else_of_the_row() -> None:
    other = [5] * QUESTIONS
    cases: list[tuple[bool, Any, Any, list[str] | None]] = [
        (True, WINDOWS, other, ["1", "2", "3-4"]),
        (True, (), other, ["5-8"]),
        (True, WINDOWS, (), ["1", "2", "3-4"]),
        (False, WINDOWS, other, ["5-8"]),
        (True, (), (), None),
    ]
    for has_base, of_base, own, expected in cases:
        outcomes = [outcome(BASE, of_base), outcome(HALF, own)]
        _, half = with_slices([row("base", BASE, has_base), row("half", HALF)], outcomes, DIVISIONS)
        assert half.slices is not None
        windows = half.slices.get("windows")
        assert (windows and list(windows)) == expected


def test_without_a_baseline_each_row_has_its_own_windows() -> None:
    """However many rows there are: the windows of one are never those of another."""
    every = [[1 + (at * number) % 7 for at in range(QUESTIONS)] for number in range(60)]
    outcomes = [outcome(BASE, own) for own in every]
    found = with_slices([row(str(number), BASE) for number in range(60)], outcomes, DIVISIONS)
    for sliced, own in zip(found, every, strict=True):
        assert sliced.slices is not None
        division = Division.of_lengths("windows", own)
        counts = dict(zip(division.values, np.bincount(division.number).tolist(), strict=True))
        assert {value: each.questions for value, each in sliced.slices["windows"].items()} == counts


@pytest.mark.parametrize(
    ("rule", "ci95", "passed"),
    [
        ("em[question=who]>=base-3", False, True),
        ("em[question=when]>=base-3", False, False),
        ("em>=base-30", False, True),
        ("em[question=when]>=0.9x", False, False),
        ("em[question=who]>=0.9x", False, True),
        ("em[question='who']>=70", False, True),
        ("f1[question=when]<=30", False, True),
        ("em[question=who]>=base-2", False, True),
        ("em[question=who]>=base-2", True, False),
        ("em[question=who]>=base-8", True, True),
        ("em[question=who]>=79", True, False),
        ("em[question=why]>=0", False, False),
        ("em[question=why]>=base-50", True, False),
        ("em[windows=1]>=0", False, False),
        ("em[colour=red]<=100", False, False),
    ],
)
def test_gates_on_slices(rule: str, ci95: bool, passed: bool) -> None:
    rules = parse_rules([rule], has_baseline=True, ci95=ci95)
    verdict = gated(REPORT, rules).gates[0]
    assert (verdict.row, verdict.passed) == ("half", passed)
    found = parse(rule).part
    assert (found is None) == ("[" not in rule)


def test_the_limit_of_a_slice_is_the_baselines_on_the_same_questions() -> None:
    verdict = gated(REPORT, [parse("em[question=when]>=base-3")]).gates[0]
    when = np.array(WORD) == "when"
    assert verdict.limit == pytest.approx(100 * BASE[when].mean() - 3)
    assert verdict.value == pytest.approx(100 * HALF[when].mean())


@pytest.mark.parametrize("rule", ["size[question=who]<=1", "delta_em[question=who]>=1", "em[question]>=1", "em[a=b>=1"])
def test_gates_that_name_no_figure_of_a_slice_are_refused(rule: str) -> None:
    with pytest.raises(UsageError):
        parse(rule)


def test_a_gate_that_fails_names_the_slice_that_lost_most() -> None:
    rules = [parse(rule) for rule in ("em>=base-1", "em>=base-40", "em<=1")]
    verdicts = {each.rule: each for each in gated(REPORT, rules).gates if each.row == "half"}
    assert "question=when lost most: Δ EM -" in explain(verdicts["em>=base-1"])
    assert "corrected" in explain(verdicts["em>=base-1"])
    assert [verdicts[rule].lost_most for rule in ("em>=base-40", "em<=1")] == [None, None]
    once = json.loads(gated(REPORT, [parse("em>=base-1")]).to_json())["gates"][0]
    assert once["lost_most"].startswith("question=when")


def test_no_slice_is_named_that_chance_explains() -> None:
    a_little = BASE.copy()
    a_little[np.flatnonzero(np.array(WORD) == "when")[:3]] = 0.0
    outcomes = [outcome(BASE), outcome(a_little)]
    rows = with_slices([row("base", BASE, True), row("a", a_little)], outcomes, DIVISIONS)
    assert lost_most(rows[1]) == "no slice stands out"
    assert lost_most(rows[0]) is None


def test_reports_are_read_back_and_compared_anew() -> None:
    again = Report.from_json(REPORT.to_json())
    assert again == REPORT
    assert combined([again], ["a.json"]).rows == REPORT.rows
    other = combined([again], ["a.json"], "half")
    base, half, _ = other.rows
    assert base.slices is not None
    assert half.slices is not None
    of_half = (ROWS[1].slices or {})["question"]["when"]
    found = base.slices["question"]["when"]
    assert found.delta_em == pytest.approx(-(of_half.delta_em or 0))
    assert (found.delta_em_ci95, found.p_value, found.p_value_holm) == (None, None, None)
    check_keys(REPORT, ["question"])
    with pytest.raises(UsageError, match="--slice topic: no row has slices of it; the rows are divided by question"):
        check_keys(REPORT, ["topic"])


def test_slices_are_told_in_every_text_that_asks_for_them() -> None:
    shown = replace(REPORT, shown=("question", "windows"))
    terminal = Console(file=io.StringIO(), width=100)
    terminal.print(render(shown, "table"))
    assert isinstance(terminal.file, io.StringIO)
    lines = terminal.file.getvalue().splitlines()
    when = next(number for number, line in enumerate(lines) if line.startswith("when"))
    half = next(line for line in lines[when:] if "half" in line)
    assert half.rstrip().endswith("*"), "a value stands once, above the rows that have it"
    assert any("beyond chance" in line for line in lines)
    assert "windows: no row has slices of it" in lines
    markdown = render(shown, "markdown")
    assert isinstance(markdown, str)
    assert "| **when** | **half** |" in markdown
    assert "| who | half |" in markdown
    assert "| who |" not in str(render(REPORT, "markdown"))
    page = dom.parse(html.render(REPORT))
    (table,) = page.all("table", css="slices")
    assert [each.text for each in table.all("th")][:5] == ["question", "Name", "Questions", "EM", "F1"]
    assert [[cell.text for cell in each.all("td")][:2] for each in table.all("tr")[1:] if each.all("b")] == [
        ["when", "half"]
    ]
    assert not dom.parse(html.render(replace(REPORT, rows=(LOST,)))).all("table", css="slices")


@pytest.mark.usefixtures("measured_here")
def test_files_of_answers_have_slices_by_a_column_of_the_data(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    asked = [{"id": str(at), "context": f"{at} Ada.", "question": "Who?", "answers": ["Ada"]} for at in range(4)]
    data.write_text(
        "\n".join(json.dumps({**each, "topic": "new art" if at else "old"}) for at, each in enumerate(asked))
    )
    for name, right in (("a", 4), ("b", 2)):
        (tmp_path / f"{name}.json").write_text(json.dumps({str(at): "Ada" if at < right else "" for at in range(4)}))
    refs = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    extras = Extras(slices=(SliceName("topic", "new art"),))
    report = evaluate(refs, str(data), EvalSettings(), refs[0], extras=extras)
    slices = report.rows[1].slices
    assert slices is not None
    assert {value: (each.questions, each.em) for value, each in slices["topic"].items()} == {
        "new art": (3, pytest.approx(100 / 3)),
        "old": (1, 100.0),
    }
    assert list(slices) == ["question", "answerable", "answer_length", "context_length", "topic"]
    assert report.rows[1].overlap is None
    with pytest.raises(UsageError, match="no question has topic=x"):
        evaluate(refs, str(data), EvalSettings(), extras=Extras(slices=(SliceName("topic", "x"),)))


def test_a_set_knows_what_was_kept_wherever_it_is_drawn(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(
        "\n".join(json.dumps({"context": f"{at}", "question": "Who?", "answers": [], "n": at}) for at in range(5))
    )
    examples = load(str(data), "eval", keep=("n", "m"))
    assert examples.kept() == [[str(at), None] for at in range(5)]
    assert ExampleSet.opened(examples.select([3, 1]).files()).kept() == [["3", None], ["1", None]]
