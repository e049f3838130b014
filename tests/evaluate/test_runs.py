"""Rows of several runs: means, spreads, intervals and pairs, against numpy, scipy and plain loops."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, sem
from scipy.stats import t as student

from compresskit.errors import UsageError
from compresskit.evaluate.mean import told_of_runs
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import check_names, parse_runs, seed_of, singles, with_runs
from compresskit.evaluate.same import told_same, with_same
from compresskit.evaluate.stats import bootstrap_intervals, margin_of_runs, widened
from tests.evaluate.several import PARAGRAPH, PARAGRAPHS, PARITY, Made, a_report, made, rows_of

BASE = [made(f"dense-seed{seed}", 0.7, seed, baseline=True) for seed in (1, 2, 3)]
OWN = [made(f"smp-seed{seed}", 0.5 + 0.08 * seed, seed) for seed in (1, 2, 3)]


def scores(found: list[Made]) -> Any:
    return np.array([outcome.question_em for _, outcome in found])


def plain_loop(own: Any, base: Any = None, *, paired: bool = False, replicates: int = 3000) -> tuple[float, float]:
    """Draw paragraphs for the mean of the runs; add Student's margin of the runs', or of the pairs', mean."""
    draw = random.Random(1)
    members = [np.flatnonzero(number == PARAGRAPH) for number in range(PARAGRAPHS)]
    values = own.mean(axis=0) - (0 if base is None else base.mean(axis=0))
    found = [100 * values[np.concatenate(draw.choices(members, k=PARAGRAPHS))].mean() for _ in range(replicates)]
    groups = [own - base] if paired else [own] if base is None else [own, base]
    squares = sum(
        (100 * sem(each.mean(axis=1)) * student.ppf(0.975, len(each) - 1)) ** 2 for each in groups if len(each) > 1
    )
    point, (low, high) = 100 * values.mean(), np.percentile(found, (2.5, 97.5))
    return point - ((point - low) ** 2 + squares) ** 0.5, point + ((high - point) ** 2 + squares) ** 0.5


def names(found: list[Made]) -> list[str]:
    return [row.name for row, _ in found]


def test_figures_are_means_and_sd_is_that_of_a_sample() -> None:
    (row,) = rows_of(OWN, ["smp", *names(OWN)])
    assert row.runs is not None
    assert row.sd is not None
    assert [run.name for run in row.runs] == names(OWN)
    for key in ("em", "f1"):
        values: Any = [run.value(key) for run in row.runs]
        assert row.value(key) == pytest.approx(np.mean(values))
        assert row.sd[key] == pytest.approx(np.std(values, ddof=1))
    assert set(row.sd) == {"em", "f1"}, "what a sample of questions does not give has none"
    assert row.latency_ms_p50 == pytest.approx(np.mean([run.latency_ms_p50 for run in row.runs]))
    assert (row.disk_bytes, row.params_total, row.family) == (1_000_009, 100, "encoder")
    assert (row.p_value, row.questions_won, row.manifest) == (None, None, None)
    assert row.beats_nothing is True


def test_intervals_are_those_of_a_plain_loop_over_paragraphs_widened_by_runs() -> None:
    _, row = rows_of([*BASE, *OWN], ["dense", *names(BASE)], ["smp", *names(OWN)])
    assert row.em_ci95 == pytest.approx(plain_loop(scores(OWN)), abs=1.0)
    assert row.delta_em_ci95 == pytest.approx(plain_loop(scores(OWN), scores(BASE), paired=True), abs=1.0)
    assert row.delta_em == pytest.approx(100 * (scores(OWN).mean() - scores(BASE).mean()))

    others = [(replace(each, manifest=None), outcome) for each, outcome in OWN]
    _, apart = rows_of([*BASE, *others], ["dense", *names(BASE)], ["smp", *names(OWN)])
    assert apart.delta_em_ci95 == pytest.approx(plain_loop(scores(OWN), scores(BASE)), abs=1.0)
    assert apart.delta_em == row.delta_em
    assert apart.delta_em_ci95 != row.delta_em_ci95


def test_the_interval_of_a_mean_covers_what_it_should() -> None:
    """Of questions and of runs drawn anew, at least 93 of 100 intervals of 95 % hold the true mean, with 3 runs too."""
    rng, tries, paragraphs, spread = np.random.default_rng(3), 400, 40, 0.04
    held = 0
    for _ in range(tries):
        of_paragraphs = rng.normal(0.5, 0.2, paragraphs)
        runs = rng.normal(0, spread, (3, 1)) + of_paragraphs
        low, high = widened(
            bootstrap_intervals(runs.mean(axis=0)[:, None], np.arange(paragraphs), replicates=400)[0] or (0.0, 0.0),
            100 * float(runs.mean()),
            [float(margin_of_runs(100 * runs.mean(axis=1)))],
        )
        held += low <= 50.0 <= high
    assert held / tries >= 0.93


def test_one_checkpoint_against_a_mean() -> None:
    one = made("one", 0.6)
    _, row = rows_of([*BASE, one], ["dense", *names(BASE)])
    assert row.delta_em_ci95 == pytest.approx(plain_loop(scores([one]), scores(BASE)), abs=1.0)
    assert (row.p_value, row.questions_won, row.runs, row.sd) == (None, None, None, None)


def test_runs_are_paired_by_seed_whatever_their_order() -> None:
    _, row = rows_of([*BASE, *OWN[::-1]], ["dense", *names(BASE)], ["smp", *names(OWN)])
    for run, own, base in zip(row.runs or (), scores(OWN), scores(BASE), strict=True):
        won, lost = int((own > base).sum()), int((own < base).sum())
        assert run.delta_em == pytest.approx(100 * (own - base).mean())
        assert (run.questions_won, run.questions_lost) == (won, lost)
        assert run.p_value == pytest.approx(binomtest(won, won + lost).pvalue)
    assert (row.sd or {})["delta_em"] == pytest.approx(np.std(100 * (scores(OWN) - scores(BASE)).mean(axis=1), ddof=1))


def test_without_the_same_seeds_runs_are_compared_with_the_mean() -> None:
    fewer = BASE[:2]
    _, row = rows_of([*fewer, *OWN], ["dense", *names(fewer)], ["smp", *names(OWN)])
    for run, own in zip(row.runs or (), scores(OWN), strict=True):
        assert run.delta_em == pytest.approx(100 * (own - scores(fewer).mean(axis=0)).mean())
        assert (run.p_value, run.questions_won) == (None, None)


@given(st.permutations(range(3)))
@settings(max_examples=3, deadline=None)
def test_the_order_of_runs_decides_nothing(order: list[int]) -> None:
    own = [OWN[index] for index in order]
    _, row = rows_of([*BASE, *own], ["dense", *names(BASE)], ["smp", *names(own)])
    _, first = rows_of([*BASE, *OWN], ["dense", *names(BASE)], ["smp", *names(OWN)])
    for key in ("em", "em_ci95", "delta_em", "delta_em_ci95", "delta_f1_ci95"):
        assert getattr(row, key) == pytest.approx(getattr(first, key))
    assert row.sd == pytest.approx(first.sd)


@given(st.integers(2, 5))
@settings(max_examples=4, deadline=None)
def test_equal_runs_have_no_spread_and_the_interval_of_one(count: int) -> None:
    base, one = made("dense", 0.7, baseline=True), made("smp", 0.6)
    runs = [(replace(one[0], name=f"r{index}", path=f"out/r{index}"), one[1]) for index in range(count)]
    _, alone = rows_of([base, one])
    _, row = rows_of([base, *runs], ["smp", *names(runs)])
    assert (row.sd or {})["em"] == 0.0
    for key in ("em", "em_ci95", "f1_ci95", "delta_em", "delta_em_ci95", "beats_nothing"):
        assert getattr(row, key) == pytest.approx(getattr(alone, key))
    assert row.slices is not None
    assert alone.slices is not None
    for value in PARITY.values:
        own, other = row.slices["parity"][value], alone.slices["parity"][value]
        assert own.em_ci95 == pytest.approx(other.em_ci95)
        assert (own.p_value, own.p_value_holm) == (None, None)


def test_slices_are_of_the_mean_and_as_wide_as_runs_differ() -> None:
    _, row = rows_of([*BASE, *OWN], ["dense", *names(BASE)], ["smp", *names(OWN)])
    assert row.slices is not None
    for number, value in enumerate(PARITY.values):
        mine = PARITY.number == number
        found = row.slices["parity"][value]
        own, less = scores(OWN)[:, mine], (scores(OWN) - scores(BASE))[:, mine]
        assert found.em == pytest.approx(100 * own.mean())
        assert found.delta_em == pytest.approx(100 * less.mean())
        for span, values in ((found.em_ci95, own), (found.delta_em_ci95, less)):
            assert span is not None
            # Every paragraph has as many questions, so that a slice's mean is that of its paragraphs.
            of_paragraphs = [values[:, PARAGRAPH[mine] == each].mean() for each in np.unique(PARAGRAPH[mine])]
            # Student's t of 12 paragraphs, and of 3 runs.
            margin = np.hypot(2.201 * sem(of_paragraphs), 4.303 * sem(values.mean(axis=1)))
            assert (span[1] - span[0]) / 2 == pytest.approx(100 * margin, rel=1e-3)


def test_a_ratio_in_turns_is_that_of_the_means() -> None:
    rounds = ([[4.0, 10.0], [6.0, 10.0]], [[8.0, 10.0], [10.0, 10.0]])
    own = [
        (replace(row, turns={"latency_ms_p50": each}), outcome)
        for (row, outcome), each in zip(OWN, rounds, strict=False)
    ]
    (row,) = rows_of(own, ["smp", *names(own)])
    assert row.turns == {"latency_ms_p50": [[6.0, 10.0], [8.0, 10.0]]}
    assert row.latency_ratio is not None
    assert row.latency_ratio.median == pytest.approx(0.7)


def test_a_run_that_is_lost_leaves_no_mean() -> None:
    lost = Row("smp-seed3", "out/smp-seed3", "-", "-", False, error="out of memory", error_code=5)
    base, row = rows_of([*BASE, *OWN[:2], (lost, Outcome())], ["dense", *names(BASE)], ["smp", *names(OWN)])
    assert row.error == "of its 3 runs smp-seed3 could not be scored: out of memory"
    assert (row.error_code, row.em, row.em_ci95, len(row.runs or ())) == (5, None, None, 3)
    assert (row.runs or ())[0].delta_em_ci95 is not None, "the others are told"
    assert base.em is not None


def test_runs_that_compute_the_same_say_so() -> None:
    digests = [replace(outcome, answers_digest=digest) for (_, outcome), digest in zip(OWN, "aab", strict=True)]
    rows = with_same([row for row, _ in OWN], digests)
    (mean,) = rows_of(list(zip(rows, digests, strict=True)), ["smp", *names(OWN)])
    report = replace(a_report(), rows=(mean,))
    assert told_same(report) == [], "within a row it is told with the spread"
    assert [line for line in told_of_runs(report) if "smp-seed2 computes the same as smp-seed1" in line]

    both = [*BASE[:2], *OWN[:2]]
    pairs = [replace(outcome, answers_digest=digest) for (_, outcome), digest in zip(both, "abab", strict=True)]
    found = list(zip(with_same([row for row, _ in both], pairs), pairs, strict=True))
    rows = rows_of(found, ["dense", *names(both[:2])], ["smp", *names(both[2:])])
    assert [row.same_as for row in rows] == [None, "dense"]
    assert len(told_same(replace(report, rows=tuple(rows)))) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"method": "quantize/int8"}, "their method (train, quantize/int8)"),
        ({"family": "lstm"}, "their family (encoder, lstm)"),
        ({"sparsity": 0.9, "weight_decay": 1}, "--sparsity, --weight-decay"),
    ],
)
def test_runs_that_differ_in_more_than_their_seed_are_told(changed: dict[str, Any], told: str) -> None:
    def a_run(number: int, **config: Any) -> Row:
        row, _ = OWN[number]
        own = {
            "seed": number,
            **dict.fromkeys(("model", "checkpoint"), f"dense-{number}"),
            "sparsity": 0.5,
            "weight_decay": 0,
            **config,
        }
        return replace(row, manifest={"steps": [{"method": "train", "seed": number, "config": own}]})

    of_row = {key: value for key, value in changed.items() if key in ("method", "family")}
    options = {key: value for key, value in changed.items() if key not in of_row}
    (mean, _), report = made("smp", 0.5), a_report()
    other = replace(mean, runs=(a_run(0), replace(a_run(1, **options), **of_row)))
    (line,) = told_of_runs(replace(report, rows=(other,)))[1:]
    assert line == f"the runs of smp differ in more than their seed, in {told}: their mean is that of no checkpoint"
    assert not told_of_runs(replace(report, rows=(replace(mean, runs=(a_run(0), a_run(1))),)))[1:]


def test_what_runs_are_written_as() -> None:
    assert parse_runs("smp = a, b").refs == ("a", "b")
    for text, told in (
        ("smp", "NAME=CKPT,CKPT"),
        ("=a,b", "NAME=CKPT"),
        ("smp=a,,b", "NAME="),
        ("smp=a", "two at least"),
    ):
        with pytest.raises(UsageError, match=told):
            parse_runs(text)
    with pytest.raises(UsageError, match="another row is called smp"):
        check_names(["dense", "smp"], [parse_runs("smp=a,b")])


def test_the_seed_is_that_of_the_last_step_that_learned() -> None:
    row, _ = OWN[1]
    assert seed_of(row) == 2
    for manifest in (None, {}, {"steps": [{"method": "quantize/int8", "seed": 42}]}, {"steps": ["?"]}):
        assert seed_of(replace(row, manifest=manifest)) is None


def test_a_report_of_runs_is_read_back_whole() -> None:
    report = a_report()
    assert Report.from_json(report.to_json()) == report
    assert [len(each(report.rows)) for each in (singles, with_runs)] == [5, 7]
    older = report.to_json().replace('"runs": null,', "").replace('"sd": null,', "")
    assert [row.name for row in Report.from_json(older).rows] == ["dense", "smp", "one"]
