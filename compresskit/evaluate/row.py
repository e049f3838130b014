"""What an evaluation leaves: a row for each checkpoint, in a report (schema `compresskit.eval/1`).

The published JSON Schema of the format is `SCHEMA_FILE`; what is read back is held against it.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compresskit.errors import InputError
from compresskit.evaluate.figures import (
    ASKED,
    BLIND,
    Figure,
    Group,
    asked_figure,
    cost,
    difference,
    figure_in,
    measured,
    paired,
    quality,
)
from compresskit.evaluate.look import Blind
from compresskit.evaluate.ratio import RATIOS, Ratio
from compresskit.evaluate.slice import Slice, Slices
from compresskit.evaluate.units import (
    BYTES,
    LOGITS,
    MILLISECONDS,
    PARAMETERS,
    PER_CENT,
    PER_SECOND,
    PROBABILITY,
    QUESTIONS,
    SECONDS,
)
from compresskit.text import check_depth, finite_or_none, from_json, to_json

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = "compresskit.eval/1"
SCHEMA_FILE = Path(__file__).with_name("eval.schema.json")

MemoryKind = Literal["cuda", "rss"]
Verdict = Literal["holds", "fails", "undecided"]
Interval = tuple[float, float]
Parts = Mapping[str, int]

_BEST_EM = "EM at best_null_threshold, which was chosen on these very questions; not for gates"
_DEPLOY = "what is needed to run it, the base of an overlay included"
_RESERVED = "peak that torch's allocator reserved on CUDA"
_PROCESS = "device memory of the process as NVML says"
_LIBRARY = "what the libraries take before there is a model: resident set, or the context on CUDA"
_LATENCY = "one question at a time, milliseconds"
_LATENCY_P95 = "one question at a time, milliseconds; 95 of 100 took no longer"
_QUESTIONS_PER_S = "at the chosen batch size; median of the repetitions"
_UNFAIR = (
    "is chosen on the very questions that it is scored on; "
    "tune the threshold on other data: --null-threshold auto --tune-data F, and gate em"
)


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one of two checkpoints gets right and the other does not; `won` where it is the row's."""

    id: str
    question: str
    context: str
    gold: tuple[str, ...]
    baseline: str
    answer: str
    won: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint in figures, each of which is described by its field.

    Metrics are per cent (0-100), times milliseconds (`load_s` seconds); what was not measured is None. `*_ci95`
    are bootstrap intervals over paragraphs, `questions_per_s_range` holds the least and most of the repetitions. `em`
    is the EM at `null_threshold`. `beats_nothing` says whether it is above that of answering nothing by its paired
    interval, None where nobody can tell. `peak_memory_kind` says what `peak_memory_bytes` counts: what torch allocated
    on CUDA, or the resident set elsewhere.

    `metrics` holds figures asked for by name. `settings` are how it was asked and measured. `sha256` is that of all
    files needed to run the checkpoint, `manifest` its compresskit.json, `predictions` the file of its answers. `slices`
    are its figures on parts of the questions, `overlap` counts questions and paragraphs that stand in its training data
    too; None where that is unknown. `error` says in one line why the checkpoint could not be scored, `error_code` is
    the exit code for that.

    `kept` tells that the row is of an earlier call: its times and memory were not measured in this one. `turns` holds
    what was measured in turns, by the keys of the figures: one pair a round, the row's figure and the baseline's. The
    `*_ratio` are what they say of p50 latency, questions per second and peak memory.

    `same_as` is the name of the row that computes the same (`same.py`), `bytes_explained` what the folder's bytes are
    (`explained.py`), `blind` what the row has on a blind set (`look.py`).

    A row of several runs holds these in `runs`, whole; its own figures are their means (`mean.py`), and `sd` holds the
    sample standard deviations, by key, of those that a sample of questions gives. Both are None elsewhere.
    """

    name: str
    path: str
    family: str
    method: str
    baseline: bool
    em: float | None = quality("EM", "exact match, per cent", 0, interval="em_ci95", difference="delta_em")
    em_ci95: Interval | None = None
    f1: float | None = quality("F1", "token F1, per cent", 1, interval="f1_ci95", difference="delta_f1")
    f1_ci95: Interval | None = None
    has_ans_em: float | None = quality("HasAns\nEM", "EM of the questions that have an answer", 7)
    has_ans_f1: float | None = quality("HasAns\nF1", "F1 of the questions that have an answer", 11)
    no_ans_em: float | None = quality("NoAns\nEM", "EM of the questions that have no answer", 8)
    null_threshold: float | None = None
    best_em: float | None = measured(Figure("Best EM", PER_CENT, _BEST_EM, "higher", sampled=True, unfair=_UNFAIR))
    best_null_threshold: float | None = measured(
        Figure("Best threshold", LOGITS, "null threshold with the best EM, in logits", sampled=True, unfair=_UNFAIR)
    )
    delta_em: float | None = difference("Δ EM", "EM less the baseline's, in points", 2, interval="delta_em_ci95")
    delta_em_ci95: Interval | None = None
    p_value: float | None = paired("p", PROBABILITY, "McNemar's exact test of EM")
    delta_f1: float | None = difference("Δ F1", "F1 less the baseline's, in points", interval="delta_f1_ci95")
    delta_f1_ci95: Interval | None = None
    questions_won: int | None = paired("Won", QUESTIONS, "right here, wrong in the baseline")
    questions_lost: int | None = paired("Lost", QUESTIONS, "wrong here, right in the baseline")
    beats_nothing: bool | None = None
    params_total: int | None = cost("Params", PARAMETERS, "number of parameters", Group.SIZE, 12)
    params_nonzero: int | None = cost("Nonzero", PARAMETERS, "number of parameters that are not zero")
    params_trainable: int | None = cost("Trained", PARAMETERS, "parameters that training changed", Group.SIZE, 15)
    disk_bytes: int | None = cost("Disk", BYTES, "what the folder holds", Group.SIZE, 3)
    deploy_bytes: int | None = cost("Deploy", BYTES, _DEPLOY, Group.SIZE, 10, short="size")
    zstd_bytes: int | None = cost("zstd", BYTES, "deploy_bytes after zstandard", Group.SIZE)
    load_s: float | None = cost("Load\ns", SECONDS, "time of loading, seconds", Group.SPEED)
    load_memory_bytes: int | None = cost("Load", BYTES, "peak memory of loading", Group.MEMORY, last=True)
    peak_memory_bytes: int | None = cost("Memory", BYTES, "peak memory of answering", Group.MEMORY, 6, short="memory")
    peak_memory_kind: MemoryKind | None = None
    reserved_memory_bytes: int | None = cost("Reserved", BYTES, _RESERVED, Group.MEMORY)
    process_memory_bytes: int | None = cost("Process", BYTES, _PROCESS, Group.MEMORY)
    library_memory_bytes: int | None = cost("Library", BYTES, _LIBRARY, Group.MEMORY)
    latency_ms_p50: float | None = cost("p50\nms", MILLISECONDS, _LATENCY, Group.SPEED, 4, short="latency")
    latency_ms_p95: float | None = cost("p95\nms", MILLISECONDS, _LATENCY_P95, Group.SPEED, 14)
    questions_per_s: float | None = measured(
        Figure("q/s", PER_SECOND, _QUESTIONS_PER_S, "higher", Group.SPEED, 13, interval="questions_per_s_range")
    )
    questions_per_s_range: Interval | None = None
    latency_ratio: Ratio | None = None
    rate_ratio: Ratio | None = None
    memory_ratio: Ratio | None = None
    turns: Mapping[str, list[list[float]]] = field(default_factory=dict)
    kept: bool = False
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    arithmetic: str | None = None
    same_as: str | None = None
    bytes_explained: Parts | None = None
    created: str | None = None
    sha256: str | None = None
    predictions: str | None = None
    device: Mapping[str, str | int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    slices: Slices | None = None
    overlap: Mapping[str, int] | None = None
    blind: Blind | None = None
    flips: tuple[Flip, ...] = ()
    runs: tuple[Row, ...] | None = None
    sd: Mapping[str, float] | None = None
    error: str | None = None
    error_code: int | None = None

    @property
    def weights_left(self) -> float | None:
        """Share of parameters that are not zero, per cent; see `figures.WEIGHTS_LEFT`."""
        if not self.params_total or self.params_nonzero is None:
            return None
        return 100.0 * self.params_nonzero / self.params_total

    @property
    def named(self) -> Mapping[str, float | None]:
        """The figures that were asked for: those on a blind set, and the metrics."""
        return self.metrics if self.blind is None else {**self.blind.figures(), **self.metrics}

    def value(self, name: str) -> float | None:
        """A figure by its key, or by its name among the metrics that were asked for."""
        found: float | None = getattr(self, name) if name in FIGURES else self.named.get(name)
        return found

    def interval(self, figure: Figure) -> Interval | None:
        """The interval of one of the row's figures; None where it has none, or none was measured."""
        found: Interval | None = None if figure.interval is None else getattr(self, figure.interval)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The row as it stands in the JSON, in the order of the schema; an error only where there is one."""
        values = asdict(replace(self, runs=None))
        values["runs"] = None if self.runs is None else [run.to_dict() for run in self.runs]
        return values if self.error is not None else {k: v for k, v in values.items() if k not in _ERROR}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Row:
        """The row of a dictionary that holds to the schema."""
        values: dict[str, Any] = {
            key: tuple(entry) if key in _INTERVALS and entry is not None else entry for key, entry in value.items()
        }
        values["flips"] = tuple(Flip(**{**flip, "gold": tuple(flip["gold"])}) for flip in value.get("flips", ()))
        if (slices := value.get("slices")) is not None:
            values["slices"] = {
                key: {name: Slice.from_dict(each) for name, each in of_key.items()} for key, of_key in slices.items()
            }
        if (runs := value.get("runs")) is not None:
            values["runs"] = tuple(map(cls.from_dict, runs))
        values |= {key: Ratio(**value[key]) for key in RATIOS if value.get(key) is not None}
        if (blind := value.get("blind")) is not None:
            values["blind"] = Blind(**blind)
        return cls(**values)


FIGURES: Mapping[str, Figure] = {
    entry.name: found for entry in fields(Row) if (found := figure_in(entry.metadata)) is not None
}
"""The figures of a row by their keys."""

_INTERVALS = {figure.interval for figure in FIGURES.values()}
_ERROR = ("error", "error_code")


def figure_of(name: str) -> Figure | None:
    """What is known of a figure: of a row by its key, of `Row.metrics` by its name; None where there is none.

    A name with a slash (task/metric) is one of lm-evaluation-harness.
    """
    if name in FIGURES:
        return FIGURES[name]
    return asked_figure(name) if name in ASKED or name in BLIND or "/" in name else None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data a report stands on: path or Hub id, SHA-256 of its bytes, and counts of questions.

    Where only a part was asked, whole paragraphs drawn with `seed`, `sampled_from` is the number of all questions.
    `nothing` holds "em" and "f1" of answering nothing at all, per cent. `blind` is what is known of a blind set
    (`compresskit.evaluate.blind.BlindSet.facts`), and how many checkpoints were scored on it.
    """

    path: str
    sha256: str
    questions: int
    unanswerable: int
    sampled_from: int | None = None
    seed: int | None = None
    nothing: Mapping[str, float] | None = None
    blind: Mapping[str, Any] | None = None

    @property
    def scores_of_nothing(self) -> Mapping[str, float] | None:
        """What answering nothing has of each figure that a gate names, those on a blind set too."""
        if self.blind is None:
            return self.nothing
        return {**(self.nothing or {}), **{f"blind.{key}": value for key, value in self.blind["nothing"].items()}}

    def to_dict(self) -> dict[str, Any]:
        """The entry as it stands in the JSON; what tells of a sample only where it is one."""
        return {key: value for key, value in asdict(self).items() if value is not None}


_TOLD_IF_SO = ("ci95", "lost_most", "spread", "run")


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict of one gate on one row; `value` and `limit` are in the metric's own unit.

    `ci95` tells that the value is the worse end of a 95 % interval, not the point; `lost_most` which slice lost most
    where the row lost quality, in words. `spread` is that of a value that was measured in turns (see
    `compresskit.evaluate.ratio.spread`). `verdict` is what the data say (by default as `passed` does): "undecided"
    where they cannot tell. `questions_needed` is how many questions would decide, where these are too few. `reason`
    says in words what the figures do not: why the gate cannot hold, or how sure its verdict is. `run` is the name of
    the run that was judged, where the rule asks for the worst of several.
    """

    rule: str
    row: str
    passed: bool
    value: float | None
    limit: float | None
    ci95: bool = False
    lost_most: str | None = None
    spread: float | None = None
    verdict: Verdict | Literal[""] = ""
    questions_needed: int | None = None
    reason: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if not self.verdict:  # a file of an earlier version has none
            object.__setattr__(self, "verdict", "holds" if self.passed else "fails")

    @property
    def undecided(self) -> bool:
        """Whether the data cannot tell."""
        return self.verdict == "undecided"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as it stands in the JSON; what there is nothing to say of is left out."""
        return {key: value for key, value in asdict(self).items() if value or key not in _TOLD_IF_SO}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole evaluation.

    `created` is ISO 8601 in UTC; `device` is empty where no checkpoint could be run. Its `load` says what else the
    machine did before and after (see `compresskit.evaluate.machine`). `shown` are the keys whose slices texts tell; it
    is no part of the JSON, which has all.
    """

    created: str
    versions: Mapping[str, str]
    device: Mapping[str, Any]
    dataset: Dataset
    rows: tuple[Row, ...]
    gates: tuple[Gate, ...] = ()
    passed: bool = True
    shown: tuple[str, ...] = ()

    @property
    def baseline(self) -> Row | None:
        """The row that the others are compared with, where there is one."""
        return next((row for row in self.rows if row.baseline), None)

    def to_json(self) -> str:
        """The report as indented JSON; a figure that is not finite counts as not measured."""
        value = {
            "schema": SCHEMA,
            "created": self.created,
            "versions": dict(self.versions),
            "device": dict(self.device),
            "dataset": self.dataset.to_dict(),
            "rows": [row.to_dict() for row in self.rows],
            "gates": [gate.to_dict() for gate in self.gates],
            "passed": self.passed,
        }
        return to_json(finite_or_none(value), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "report") -> Report:
        """Read a report back; InputError, naming `where` and the entry, where it does not hold to the schema."""
        try:
            value = from_json(text)
            check_depth(value, _held)
        except ValueError as error:
            raise InputError(f"{where}: is not JSON ({error}); write it anew with compresskit eval") from error
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise InputError(f"{where}: has no schema {SCHEMA!r}; give the JSON that compresskit eval writes")
        _check(value, where)
        known = {entry.name: value[entry.name] for entry in fields(cls) if entry.name in value}
        return cls(
            **{
                **known,
                "dataset": Dataset(**value["dataset"]),
                "rows": tuple(Row.from_dict(row) for row in value["rows"]),
                "gates": tuple(Gate(**gate) for gate in value["gates"]),
            }
        )


def _held(value: Any) -> Iterable[Any]:
    """What JSON holds in a value; ValueError for a whole number that no float is as great as: figures are divided."""
    if isinstance(value, int) and value.bit_length() >= sys.float_info.max_exp:
        raise ValueError(f"it holds a whole number of more than {sys.float_info.max_10_exp} digits")
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _check(value: object, where: str) -> None:
    """InputError where a report does not hold to the published schema, naming the entry that is most to blame."""
    from jsonschema.exceptions import best_match

    # Each error holds what it is about; of a file full of them the first ones tell enough.
    error = best_match(itertools.islice(_validator().iter_errors(value), 100))
    if error is not None:
        place = error.json_path.removeprefix("$").lstrip(".") or "the whole"
        raise InputError(f"{where}: {place}: {error.message[:200]}; write the report anew with compresskit eval")


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
