"""What an evaluation leaves: a row for each checkpoint, in a report (schema ``compresskit.eval/1``).

The published JSON Schema of the format is `SCHEMA_FILE`; what is read back is held against it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from compresskit.errors import InputError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

SCHEMA = "compresskit.eval/1"
SCHEMA_FILE = Path(__file__).with_name("eval.schema.json")

MemoryKind = Literal["cuda", "rss"]
Interval = tuple[float, float]


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
    """One checkpoint in figures.

    Metrics are per cent (0-100), times milliseconds (``load_s`` seconds); what was not measured is None. ``*_ci95``
    are bootstrap intervals over paragraphs.

    ``best_em`` is the EM at ``best_null_threshold``, the null threshold that would have suited these very questions
    best; ``em`` is that at ``null_threshold``. ``questions_won`` are those right here and wrong in the baseline.

    ``disk_bytes`` is what the checkpoint's folder holds, ``deploy_bytes`` what a user needs to run it (the
    base of an overlay included), ``zstd_bytes`` the same compressed by zstandard. ``peak_memory_bytes`` is the peak of
    answering (allocated by torch on CUDA, resident set elsewhere), ``load_memory_bytes`` that of loading,
    ``reserved_memory_bytes`` what torch's allocator took from CUDA, ``process_memory_bytes`` what NVML says of the
    process. ``questions_per_s`` is the median of the repetitions, whose least and most are ``questions_per_s_range``.

    ``metrics`` holds figures asked for by name. ``settings`` are how it was asked and measured. ``sha256`` is that of
    all files needed to run the checkpoint, ``manifest`` its compresskit.json, ``predictions`` the file of its answers.
    ``error`` says in one line why the checkpoint could not be scored, ``error_code`` is the exit code for that.
    """

    name: str
    path: str
    family: str
    method: str
    baseline: bool
    em: float | None = None
    em_ci95: Interval | None = None
    f1: float | None = None
    f1_ci95: Interval | None = None
    has_ans_em: float | None = None
    has_ans_f1: float | None = None
    no_ans_em: float | None = None
    null_threshold: float | None = None
    best_em: float | None = None
    best_null_threshold: float | None = None
    delta_em: float | None = None
    delta_em_ci95: Interval | None = None
    p_value: float | None = None
    delta_f1: float | None = None
    delta_f1_ci95: Interval | None = None
    questions_won: int | None = None
    questions_lost: int | None = None
    params_total: int | None = None
    params_nonzero: int | None = None
    params_trainable: int | None = None
    disk_bytes: int | None = None
    deploy_bytes: int | None = None
    zstd_bytes: int | None = None
    load_s: float | None = None
    load_memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    peak_memory_kind: MemoryKind | None = None
    reserved_memory_bytes: int | None = None
    process_memory_bytes: int | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    questions_per_s: float | None = None
    questions_per_s_range: Interval | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    created: str | None = None
    sha256: str | None = None
    predictions: str | None = None
    device: Mapping[str, str | int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    flips: tuple[Flip, ...] = ()
    error: str | None = None
    error_code: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as it stands in the JSON, in the order of the schema; an error only where there is one."""
        values = asdict(self)
        return values if self.error is not None else {k: v for k, v in values.items() if k not in _ERROR}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Row:
        """Return the row of a dictionary that holds to the schema."""
        values: dict[str, Any] = {
            key: tuple(entry) if _is_interval(key, entry) else entry for key, entry in value.items()
        }
        values["flips"] = tuple(Flip(**{**flip, "gold": tuple(flip["gold"])}) for flip in value.get("flips", ()))
        return cls(**values)


_ERROR = ("error", "error_code")


def _is_interval(key: str, value: object) -> bool:
    return value is not None and key.endswith(("_ci95", "_range"))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data a report stands on: path or Hub id, SHA-256 of its bytes, and counts of questions.

    Where only a part was asked, whole paragraphs drawn with ``seed``, ``sampled_from`` is the number of all questions.
    """

    path: str
    sha256: str
    questions: int
    unanswerable: int
    sampled_from: int | None = None
    seed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in the JSON; what tells of a sample only where it is one."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict of one gate on one row; ``value`` and ``limit`` are in the metric's own unit.

    ``ci95`` tells that the value is the worse end of a 95 % interval, not the point.
    """

    rule: str
    row: str
    passed: bool
    value: float | None
    limit: float | None
    ci95: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as it stands in the JSON; ``ci95`` only where it is so."""
        values = asdict(self)
        return values if self.ci95 else {key: value for key, value in values.items() if key != "ci95"}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole evaluation.

    ``created`` is ISO 8601 in UTC; ``device`` is empty where no checkpoint could be run.
    """

    created: str
    versions: Mapping[str, str]
    device: Mapping[str, str | int]
    dataset: Dataset
    rows: tuple[Row, ...]
    gates: tuple[Gate, ...] = ()
    passed: bool = True

    @property
    def baseline(self) -> Row | None:
        """The row that the others are compared with, where there is one."""
        return next((row for row in self.rows if row.baseline), None)

    def to_json(self) -> str:
        """Return the report as indented JSON; ValueError where a figure is not finite."""
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
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "report") -> Report:
        """Read a report back; InputError, naming ``where`` and the entry, where it does not hold to the schema."""
        try:
            value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is no JSON ({error}); write it anew with compresskit eval") from error
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise InputError(f"{where}: has no schema {SCHEMA!r}; give the JSON that compresskit eval writes")
        _check(value, where)
        known = {entry.name: value[entry.name] for entry in fields(cls)}
        return cls(
            **{
                **known,
                "dataset": Dataset(**value["dataset"]),
                "rows": tuple(Row.from_dict(row) for row in value["rows"]),
                "gates": tuple(Gate(**gate) for gate in value["gates"]),
            }
        )


def _check(value: object, where: str) -> None:
    """InputError where a report does not hold to the published schema, naming the entry that is most to blame."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator().iter_errors(value))
    if error is not None:
        place = error.json_path.removeprefix("$").lstrip(".") or "the whole"
        raise InputError(f"{where}: {place}: {error.message[:200]}; write the report anew with compresskit eval")


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """Return a number of the JSON; ValueError for one beyond all floats (``1e999``)."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
