"""Gates proven: rules held against made-up rows on both sides of their limits, so that each is seen to fail and hold.

Of figures that answers give (`OF_ANSWERS`) the row is a file of gold answers, damaged question by question in a seeded
order until the verdict turns. It goes the way of any file of answers: read, scored, compared with the baseline, gated.
Any other figure is made up itself, just beside the limit. No model is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compresskit.checkpoint.temporary import temporary_folder
from compresskit.data.examples import ExampleSet
from compresskit.data.match import normalizer
from compresskit.errors import GateFailed, UsageError
from compresskit.evaluate import timed
from compresskit.evaluate.answers import AnswersWriter
from compresskit.evaluate.compare import compared
from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.evaluate import Known, known
from compresskit.evaluate.gate import Rule, gated
from compresskit.evaluate.look import PREFIX
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.evaluate.nothing import answering_nothing, as_figures
from compresskit.evaluate.row import FIGURES, Dataset, Gate, Report, Row, figure_of
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.slice import SliceName
from compresskit.evaluate.slices import with_slices
from compresskit.evaluate.slicing import Division, divided
from compresskit.evaluate.turns import ROUNDS
from compresskit.evaluate.units import BYTES, PARAMETERS, PER_CENT, POINTS, PROBABILITY, QUESTIONS, Unit, per_cent
from compresskit.evaluate.worker import score_answers

OF_ANSWERS = frozenset(
    ("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "delta_em", "delta_f1", "questions_won", "questions_lost")
)
"""The figures that a file of answers is damaged for."""

_MADE_UP = "made up"
_WRONG = "made-up wrong answer"
# Of the answerable questions, those that a made-up baseline has wrong.
_WRONG_IN_BASELINE = 0.3
# Made-up rows that are compared at once share the draws of their intervals, which take most of the time. Each has four
# numbers a question.
_AT_ONCE, _NUMBERS = 33, 16_000_000
_RANGES: Mapping[Unit, tuple[float, float]] = {PER_CENT: (0, 100), POINTS: (-100, 100), PROBABILITY: (0, 1)}
# What a made-up baseline takes.
_USUAL: Mapping[Unit, float] = {BYTES: 4e8, PARAMETERS: 1e8}


@dataclass(frozen=True, slots=True)
class Proof:
    """One rule on the two rows beside its limit: `above` is the verdict on the greater figure.

    `problem` says why it is no gate: it cannot fail, or it cannot hold.
    """

    rule: str
    above: Gate
    below: Gate
    problem: str | None


@dataclass(frozen=True, slots=True)
class Proven:
    """All proofs, and what baseline they stand on in words; None where there is none."""

    proofs: tuple[Proof, ...]
    baseline: str | None

    def require(self) -> None:
        """GateFailed, naming rule and reason, where one cannot fail or cannot hold."""
        if problems := [f"{proof.rule} {proof.problem}" for proof in self.proofs if proof.problem is not None]:
            raise GateFailed("; ".join(problems))


def prove(
    rules: Sequence[Rule],
    data_ref: str,
    settings: EvalSettings,
    baseline: str | None = None,
    options: GateOptions | None = None,
    use_cache: bool = True,
) -> Proven:
    """Hold every rule against made-up rows on both sides of its limit, on the questions of `data_ref`.

    The baseline is the real one where it is a file of answers, or was measured before (`use_cache`), else a made-up
    one. Raises UsageError where there is no rule, and what the data or a baseline's file of answers raise.
    """
    if not rules:
        raise UsageError("--prove-gates proves gates, and there is none; give a --gate")
    parts = [rule.part for rule in rules if rule.part is not None]
    given = known(baseline, data_ref, settings, parts, use_cache=use_cache)
    _check_windows(parts, given)
    keys = {part.key for part in parts}
    divisions = {key: each for key, each in divided(given.asked, parts).items() if key in keys} if parts else None
    with temporary_folder() as folder:
        stage = _Stage(_Answers(given.asked, settings, folder), divisions)
        if baseline is not None:
            stage.take_baseline(baseline, given.outcome)
        proofs = tuple(stage.proofs(rules, options or GateOptions()))
    return Proven(proofs, None if stage.base is None else _told(stage.base, given))


def _check_windows(parts: Sequence[SliceName], given: Known) -> None:
    """UsageError for a slice of windows where no baseline tells them: only a model reads in windows."""
    for part in parts:
        if part.key == "windows" and (given.outcome is None or not given.outcome.windows):
            raise UsageError(
                f"{part.asker}: made-up rows have no windows; measure the --baseline first, or leave it out"
            )


def _told(base: Row, given: Known) -> str:
    em = "no EM" if base.em is None else f"EM {per_cent(base.em)}"
    return f"a made-up one ({em}): {given.why_not}" if given.why_not else f"{base.name} as it was measured ({em})"


class _Answers:
    """Gold answers to all questions, and files of them in which some are damaged.

    A damaged answer is wrong by all measures: nothing where there is an answer, something where there is none.
    """

    def __init__(self, asked: ExampleSet, settings: EvalSettings, folder: Path) -> None:
        """`asked` are the questions; files are written to `folder`."""
        # What has no say in answers that are there already.
        self._settings = replace(settings, null_threshold=0.0, tune_data=None, metrics=(), harness=())
        self._asked, self._folder = asked, folder
        self.nothing = answering_nothing(asked, settings.normalize)
        normalize = normalizer(settings.normalize)
        self.gold = [next((each.text for each in one.answers if normalize(each.text)), "") for one in asked]
        self.has_answer = np.array([bool(one.answers) for one in asked], dtype=np.bool_)
        self.paragraph = [one.paragraph for one in asked]
        self.order = np.random.default_rng(settings.seed).permutation(len(self.gold))
        info = asked.info
        self.dataset = Dataset(
            info.path, info.sha256, info.questions, info.unanswerable, nothing=as_figures(self.nothing)
        )

    def supposed(self, damaged: Iterable[int], *, has_interval: bool) -> tuple[Row, Outcome]:
        """What answers score of which these are damaged, without asking the metric: 1 or 0 a question.

        Where no interval is needed, all are of one paragraph: then none is drawn, which takes a second each.
        """
        em = np.ones(len(self.gold))
        em[list(damaged)] = 0.0
        parts = {"em": em, "has_ans_em": em[self.has_answer], "no_ans_em": em[~self.has_answer]}
        figures: dict[str, Any] = {
            key: 100.0 * sum(part.tolist()) / len(part) if len(part) else None for key, part in parts.items()
        }
        row = Row(_MADE_UP, _MADE_UP, "-", "-", False, **figures, f1=figures["em"], has_ans_f1=figures["has_ans_em"])
        paragraph = self.paragraph if has_interval else [0] * len(em)
        return row, Outcome(question_em=em.tolist(), question_f1=em.tolist(), paragraph=paragraph)

    def scored(self, damaged: Iterable[int]) -> tuple[Row, Outcome]:
        """The same by way of a file of answers, as `eval` scores one."""
        wrong, path = set(damaged), self._folder / "answers.json"
        with AnswersWriter(path) as writer:
            for index, (example, gold) in enumerate(zip(self._asked, self.gold, strict=True)):
                writer.add(example.id, gold if index not in wrong else "" if gold else _WRONG)
        outcome = score_answers(
            Measurement(str(path), _MADE_UP, self._asked.files(), self._settings, self._folder), self._asked
        )
        assert outcome.row is not None  # a file that was just written can be scored
        return replace(outcome.row, disk_bytes=None), outcome


class _Stage:
    """Holds made-up rows against the baseline, where there is one."""

    def __init__(self, answers: _Answers, divisions: Mapping[str, Division] | None) -> None:
        """Without a baseline; see `take_baseline`.

        `divisions` are those whose slices rules name, by their keys, but for the windows, which the baseline tells;
        None where no rule names a slice.
        """
        self._answers, self._divisions = answers, divisions
        self._rows: dict[tuple[int, bool], Row] = {}  # by how many answers are damaged, and whether it has intervals
        self._base_outcome: Outcome | None = None
        self._is_made_up = False
        self.base: Row | None = None

    def take_baseline(self, name: str, outcome: Outcome | None) -> None:
        """Compare with the baseline of this name: with its outcome, or where that is None, with a made-up one."""
        answers = self._answers
        if outcome is None or outcome.row is None:
            self._is_made_up = True
            answerable = [int(index) for index in answers.order if answers.gold[index]]
            row, outcome = answers.scored(answerable[: math.ceil(_WRONG_IN_BASELINE * len(answerable))])
        else:
            row = outcome.row
        self._base_outcome = outcome
        (self.base,) = compared([replace(row, name=name, baseline=True)], [outcome], answers.nothing)

    def proofs(self, rules: Sequence[Rule], options: GateOptions) -> Iterator[Proof]:
        """What each rule says on both sides of its limit."""
        order = self._answers.order
        turns = {rule: self._turn(rule, options) for rule in rules if rule.metric in OF_ANSWERS}
        counts = sorted({count for pair in turns.values() for count in pair})
        rows = dict(zip(counts, self._compared([self._answers.scored(order[:each]) for each in counts]), strict=True))
        for rule in rules:
            if rule in turns:
                sides = [self._gate(rule, rows[count], options) for count in turns[rule]]
            else:
                sides = self._by_figure(rule, options)
            yield proof_of(sides)

    def _turn(self, rule: Rule, options: GateOptions) -> tuple[int, int]:
        """How many answers to damage for two files that differ in one, between which the verdict turns.

        Where it never turns, none and all.
        """
        least, most = 0, len(self._answers.order)
        at_once = min(max(_NUMBERS // (4 * most), 3), _AT_ONCE)
        while most - least > 1:
            counts = np.unique(np.linspace(least, most, at_once).astype(int)).tolist()
            passed = [self._gate(rule, row, options).passed for row in self._supposed(counts, rule.ci95)]
            turn = next((at for at in range(len(counts) - 1) if passed[at] != passed[at + 1]), None)
            if turn is None:
                break
            least, most = counts[turn], counts[turn + 1]
        return least, most

    def _by_figure(self, rule: Rule, options: GateOptions) -> list[Gate]:
        """The verdicts on a figure just above the limit, and on one just below."""
        figure = figure_of(rule.metric)
        assert figure is not None  # the rule was read by it
        (row,) = self._supposed([0], False)
        found: list[Gate] = []
        for each in timed.all_of(rule):  # of alternatives, the limit at which the verdict turns
            limit = self._gate(replace(each, otherwise=None), self._with(row, rule, 0.0), options).limit
            values = (0.0, 0.0) if limit is None else beside(limit, figure.unit)
            found = [self._gate(rule, self._with(row, rule, value), options) for value in values]
            if found[0].passed != found[1].passed:
                break
        return found

    def _with(self, row: Row, rule: Rule, value: float) -> Row:
        """A row with another figure, which in turns is that of each round."""
        base = self._base_for(rule)
        if not timed.is_in_turns(rule):
            return with_figure(row, rule.metric, value)
        own = None if base is None else base.value(rule.metric)
        return replace(row, turns={} if own is None else {rule.metric: [[value, own]] * ROUNDS})

    def _supposed(self, counts: Sequence[int], has_interval: bool) -> list[Row]:
        """The rows of answers of which so many are damaged, all compared at once."""
        keys = [(count, has_interval) for count in counts]
        new = [key for key in keys if key not in self._rows]
        order = self._answers.order
        made = [self._answers.supposed(order[:count], has_interval=has_interval) for count, _ in new]
        self._rows.update(zip(new, self._compared(made), strict=True))
        return [self._rows[key] for key in keys]

    def _compared(self, made: Sequence[tuple[Row, Outcome]]) -> list[Row]:
        base = [] if self.base is None or self._base_outcome is None else [(self.base, self._base_outcome)]
        both = [*made, *base]  # those in front say which questions are of one paragraph
        outcomes = [outcome for _, outcome in both]
        rows = compared([row for row, _ in both], outcomes)
        return (rows if self._divisions is None else with_slices(rows, outcomes, self._divisions))[: len(made)]

    def _gate(self, rule: Rule, row: Row, options: GateOptions) -> Gate:
        """A rule's verdict on a row, as `eval` comes to it."""
        base = self._base_for(rule)
        rows = (replace(row, baseline=True),) if rule.of_baseline else (*([] if base is None else [base]), row)
        (gate,) = gated(Report("", {}, {}, self._answers.dataset, rows), [rule], options).gates
        return gate

    def _base_for(self, rule: Rule) -> Row | None:
        """The baseline; where it is made up, with a figure that the rule may be relative to, of the usual size."""
        figure = figure_of(rule.metric)
        is_known = not self._is_made_up and not rule.metric.startswith(PREFIX)  # nothing is scored on a blind set
        if self.base is None or is_known or rule.metric in OF_ANSWERS or figure is None:
            return self.base
        usual = _USUAL.get(figure.unit, 0.5 if figure.unit is PROBABILITY else 50.0)
        return with_figure(self.base, rule.metric, max(usual, 4 * abs(rule.number)) if rule.kind == "offset" else usual)


def proof_of(sides: Sequence[Gate]) -> Proof:
    """What two verdicts prove, in whatever order they come."""
    below, above = sorted(sides, key=lambda gate: -math.inf if gate.value is None else gate.value)
    if above.passed != below.passed:
        return Proof(above.rule, above, below, None)
    reason = f": {above.reason}" if above.reason else ""
    return Proof(above.rule, above, below, "cannot fail" if above.passed else f"cannot hold{reason}")


def with_figure(row: Row, metric: str, value: float) -> Row:
    """A row with another figure."""
    changes: dict[str, Any] = {metric: value} if metric in FIGURES else {"metrics": {**row.metrics, metric: value}}
    return replace(row, **changes)


def beside(limit: float, unit: Unit) -> tuple[float, float]:
    """A figure just above a limit and one just below: the nearest whole ones of what is counted, else by a thousandth.

    They stay within what the figure can be.
    """
    low, high = _RANGES.get(unit, (0.0, math.inf))
    step = max(1e-3 * abs(limit), 1e-6)
    above, below = limit + step, limit - step
    if unit in (BYTES, PARAMETERS, QUESTIONS):
        above, below = float(math.floor(limit) + 1), float(math.ceil(limit) - 1)
    return min(max(above, low), high), min(max(below, low), high)
