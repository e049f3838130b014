"""What an evaluation leaves: a row for each checkpoint, in a report (schema ``compresskit.eval/1``)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NoReturn, get_args

from compresskit.errors import InputError

SCHEMA = "compresskit.eval/1"

MemoryKind = Literal["cuda", "rss"]


@dataclass(frozen=True, slots=True)
class Row:
    """One checkpoint in figures.

    Metrics are per cent (0-100), times milliseconds; what was not measured is None.

    ``disk_bytes`` is what the checkpoint's folder holds, ``deploy_bytes`` what a user needs to run it (the
    base of an overlay included). ``best_em`` is the EM at ``best_null_threshold``, the null threshold that would
    have suited these very questions best. ``error`` says in one line why the checkpoint could not be scored; it is
    left out of the JSON otherwise.
    """

    name: str
    path: str
    family: str
    method: str
    baseline: bool
    em: float | None = None
    f1: float | None = None
    has_ans_em: float | None = None
    has_ans_f1: float | None = None
    no_ans_em: float | None = None
    best_em: float | None = None
    best_null_threshold: float | None = None
    delta_em: float | None = None
    delta_em_ci95: tuple[float, float] | None = None
    p_value: float | None = None
    params_total: int | None = None
    params_nonzero: int | None = None
    params_trainable: int | None = None
    disk_bytes: int | None = None
    deploy_bytes: int | None = None
    peak_memory_bytes: int | None = None
    peak_memory_kind: MemoryKind | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    questions_per_s: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the row as it stands in the JSON, keys in the order of the schema."""
        values: dict[str, object] = asdict(self)
        if self.error is None:
            del values["error"]
        return values

    @classmethod
    def from_dict(cls, value: object, where: str = "row") -> Row:
        """Read a row back; InputError where a key is missing, unknown, or of another type."""
        fields = _Fields(value, where, cls.__slots__, optional=("error", "best_null_threshold"))
        return cls(
            name=fields.text("name"),
            path=fields.text("path"),
            family=fields.text("family"),
            method=fields.text("method"),
            baseline=fields.flag("baseline"),
            em=fields.number("em"),
            f1=fields.number("f1"),
            has_ans_em=fields.number("has_ans_em"),
            has_ans_f1=fields.number("has_ans_f1"),
            no_ans_em=fields.number("no_ans_em"),
            best_em=fields.number("best_em"),
            best_null_threshold=fields.number("best_null_threshold") if fields.has("best_null_threshold") else None,
            delta_em=fields.number("delta_em"),
            delta_em_ci95=fields.interval("delta_em_ci95"),
            p_value=fields.number("p_value"),
            params_total=fields.count("params_total"),
            params_nonzero=fields.count("params_nonzero"),
            params_trainable=fields.count("params_trainable"),
            disk_bytes=fields.count("disk_bytes"),
            deploy_bytes=fields.count("deploy_bytes"),
            peak_memory_bytes=fields.count("peak_memory_bytes"),
            peak_memory_kind=fields.memory_kind("peak_memory_kind"),
            latency_ms_p50=fields.number("latency_ms_p50"),
            latency_ms_p95=fields.number("latency_ms_p95"),
            questions_per_s=fields.number("questions_per_s"),
            error=fields.text("error") if fields.has("error") else None,
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """The data a report stands on: path or Hub id, SHA-256 of its bytes, and counts of questions."""

    path: str
    sha256: str
    questions: int
    unanswerable: int

    @classmethod
    def from_dict(cls, value: object, where: str = "dataset") -> Dataset:
        """Read the data set's entry back; InputError where a key is missing, unknown, or of another type."""
        fields = _Fields(value, where, cls.__slots__)
        return cls(
            path=fields.text("path"),
            sha256=fields.text("sha256"),
            questions=fields.whole("questions"),
            unanswerable=fields.whole("unanswerable"),
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict of one gate on one row; ``value`` and ``limit`` are in the metric's own unit."""

    rule: str
    row: str
    passed: bool
    value: float | None
    limit: float | None

    @classmethod
    def from_dict(cls, value: object, where: str = "gate") -> Gate:
        """Read a verdict back; InputError where a key is missing, unknown, or of another type."""
        fields = _Fields(value, where, cls.__slots__)
        return cls(
            rule=fields.text("rule"),
            row=fields.text("row"),
            passed=fields.flag("passed"),
            value=fields.number("value"),
            limit=fields.number("limit"),
        )


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

    def to_json(self) -> str:
        """Return the report as indented JSON; ValueError where a figure is not finite."""
        value = {
            "schema": SCHEMA,
            "created": self.created,
            "versions": dict(self.versions),
            "device": dict(self.device),
            "dataset": asdict(self.dataset),
            "rows": [row.to_dict() for row in self.rows],
            "gates": [asdict(gate) for gate in self.gates],
            "passed": self.passed,
        }
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "report") -> Report:
        """Read a report back; InputError, naming ``where`` and the entry, where it is no such JSON."""
        try:
            value: object = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: is no JSON ({error}); write it anew with compresskit eval") from error
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise InputError(f"{where}: has no schema {SCHEMA!r}; give the JSON that compresskit eval writes")
        fields = _Fields(value, where, ("schema", *cls.__slots__))
        return cls(
            created=fields.text("created"),
            versions=fields.texts("versions"),
            device=fields.device("device"),
            dataset=Dataset.from_dict(fields.get("dataset"), f"{where}: dataset"),
            rows=tuple(
                Row.from_dict(row, f"{where}: rows[{index}]") for index, row in enumerate(fields.entries("rows"))
            ),
            gates=tuple(
                Gate.from_dict(gate, f"{where}: gates[{index}]") for index, gate in enumerate(fields.entries("gates"))
            ),
            passed=fields.flag("passed"),
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(value: object) -> float | None:
    """Return a JSON number as a float; None for anything else, and for one beyond all floats (``1e999``)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


class _Fields:
    """A JSON object whose entries are taken out by type; every complaint is an InputError that says where."""

    def __init__(self, value: object, where: str, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        self._where = where
        if not isinstance(value, dict):
            raise InputError(f"{where}: is no JSON object; write the report anew with compresskit eval")
        self._value: dict[str, object] = value
        for key in keys:
            if key not in value and key not in optional:
                raise InputError(f"{where}: lacks the key {key!r}; write the report anew with compresskit eval")
        for key in value:
            if key not in keys:
                raise InputError(f"{where}: has an unknown key {key!r}; remove it, or read it with its own version")

    def has(self, key: str) -> bool:
        return key in self._value

    def get(self, key: str) -> object:
        return self._value[key]

    def _wrong(self, key: str, wanted: str) -> InputError:
        return InputError(f"{self._where}: {key} is {self._value[key]!r:.80}, not {wanted}; mend or remove the file")

    def text(self, key: str) -> str:
        value = self._value[key]
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str) -> bool:
        value = self._value[key]
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str) -> float | None:
        value = self._value[key]
        if value is None:
            return None
        found = _finite(value)
        if found is None:
            raise self._wrong(key, "a number or null")
        return found

    def count(self, key: str) -> int | None:
        return None if self._value[key] is None else self.whole(key)

    def whole(self, key: str) -> int:
        value = self._value[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, "a whole number from 0")
        return value

    def interval(self, key: str) -> tuple[float, float] | None:
        value = self._value[key]
        if value is None:
            return None
        ends = [_finite(end) for end in value] if isinstance(value, list) else []
        match ends:
            case [float(low), float(high)]:
                return low, high
        raise self._wrong(key, "a pair of numbers or null")

    def memory_kind(self, key: str) -> MemoryKind | None:
        value = self._value[key]
        for kind in get_args(MemoryKind):
            if value == kind:
                return "cuda" if kind == "cuda" else "rss"
        if value is not None:
            raise self._wrong(key, "one of cuda, rss, null")
        return None

    def entries(self, key: str) -> list[object]:
        value = self._value[key]
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def texts(self, key: str) -> dict[str, str]:
        value = self._value[key]
        if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
            raise self._wrong(key, "an object of texts")
        return dict(value)

    def device(self, key: str) -> dict[str, str | int]:
        value = self._value[key]
        if not isinstance(value, dict) or not all(isinstance(entry, str | int) for entry in value.values()):
            raise self._wrong(key, "an object of texts and whole numbers")
        return dict(value)
