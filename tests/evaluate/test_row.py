"""Rows and reports as JSON."""

import json
from dataclasses import Field, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from compresskit.errors import InputError
from compresskit.evaluate.look import Blind
from compresskit.evaluate.ratio import Ratio
from compresskit.evaluate.row import FIGURES, SCHEMA_FILE, Dataset, Flip, Gate, Report, Row
from compresskit.evaluate.slice import Slice
from compresskit.evaluate.units import BYTES, PARAMETERS, PER_CENT, PROBABILITY, QUESTIONS, SECONDS

# What the design names: a reader of the format may count on these.
CONTRACT = {
    *("name", "path", "family", "method", "baseline"),
    *("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em"),
    *("delta_em", "delta_em_ci95", "p_value", "params_total", "params_nonzero", "params_trainable"),
    *("disk_bytes", "deploy_bytes", "peak_memory_bytes", "peak_memory_kind"),
    *("latency_ms_p50", "latency_ms_p95", "questions_per_s"),
}

numbers = st.floats(allow_nan=False, allow_infinity=False)
per_cents = st.none() | st.floats(0, 100)
counts = st.none() | st.integers(0, 2**60)
intervals = st.none() | st.tuples(st.floats(-100, 100), st.floats(-100, 100))
texts = st.none() | st.text()
slices = st.builds(
    Slice, st.integers(0, 9), per_cents, st.none() | st.tuples(numbers, numbers), delta_em=st.none() | numbers
)
single_rows = st.builds(Row, *[st.text()] * 4, st.booleans(), em=per_cents, error=texts, disk_bytes=counts)
by_kind = {
    "float | None": st.none() | numbers,
    "int | None": counts,
    "Interval | None": intervals,
    "str | None": texts,
    "str": st.text(),
    "bool": st.booleans(),
    "bool | None": st.none() | st.booleans(),
    "MemoryKind | None": st.sampled_from([None, "cuda", "rss"]),
    "Mapping[str, float | None]": st.dictionaries(st.text(), st.none() | numbers, max_size=2),
    "Mapping[str, str | int]": st.dictionaries(st.text(), st.text() | st.integers(), max_size=2),
    "Parts | None": st.none() | st.dictionaries(st.text(), st.integers(0, 2**60), max_size=2),
    "Mapping[str, str]": st.dictionaries(st.text(), st.text(), max_size=2),
    "Mapping[str, Any]": st.dictionaries(st.text(), st.integers() | st.lists(st.text()), max_size=2),
    "Mapping[str, Any] | None": st.none() | st.dictionaries(st.text(), st.lists(st.integers()), max_size=2),
    "Slices | None": st.none() | st.dictionaries(st.text(), st.dictionaries(st.text(), slices, max_size=2), max_size=2),
    "Mapping[str, int] | None": st.none()
    | st.fixed_dictionaries(dict.fromkeys(("questions", "paragraphs"), st.integers(0, 9))),
    "Ratio | None": st.none() | st.builds(Ratio, numbers, st.none() | st.floats(0, 1e9), st.integers(1, 99)),
    "Blind | None": st.none()
    | st.builds(
        Blind,
        *[st.floats(0, 100)] * 2,
        st.text(),
        st.integers(1, 9),
        st.booleans(),
        st.none() | st.fixed_dictionaries(dict.fromkeys(("questions", "paragraphs"), st.integers(0, 9))),
    ),
    "Mapping[str, list[list[float]]]": st.dictionaries(
        st.text(), st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=2), max_size=2
    ),
    "tuple[Row, ...] | None": st.none() | st.lists(single_rows, min_size=2, max_size=2).map(tuple),
    "Mapping[str, float] | None": st.none() | st.dictionaries(st.text(), st.floats(0, 100), max_size=2),
    "tuple[Flip, ...]": st.lists(
        st.builds(Flip, *[st.text()] * 3, st.lists(st.text()).map(tuple), *[st.text()] * 2, st.booleans()), max_size=2
    ).map(tuple),
}
in_per_cent = dict.fromkeys(("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em", "best_em"), per_cents)
special = {**in_per_cent, "p_value": st.none() | st.floats(0, 1), "load_s": st.none() | st.floats(0, 1e6)}
rows = st.builds(Row, **{field.name: special.get(field.name, by_kind[str(field.type)]) for field in fields(Row)}).map(
    # The exit code of an error stands only beside one.
    lambda row: row if row.error is not None else replace(row, error_code=None)
)
reports = st.builds(
    Report,
    created=st.text(),
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
    device=st.dictionaries(st.text(), st.text() | st.integers(), max_size=3),
    dataset=st.builds(
        Dataset,
        *(st.text(), st.text(), st.integers(0), st.integers(0), counts, counts),
        st.none() | st.fixed_dictionaries({"em": st.floats(0, 100), "f1": st.floats(0, 100)}),
    ),
    rows=st.lists(rows, max_size=3).map(tuple),
    gates=st.lists(
        st.builds(
            Gate,
            *[st.text()] * 2,
            st.booleans(),
            *[st.none() | numbers] * 2,
            st.booleans(),
            st.none() | st.just("slice"),
            st.sampled_from([None, 0.25]),
            st.sampled_from(["holds", "fails", "undecided"]),
            *(counts, texts, st.none() | st.just("smp-seed42")),
        ),
        max_size=2,
    ).map(tuple),
    passed=st.booleans(),
)


def a_report() -> Report:
    row = Row("dense", "out/dense", "encoder", "train", True, em=80.0)
    dataset = Dataset("eval.json", "00ff", 10, 3)
    return Report("2026-01-01T00:00:00+00:00", {"torch": "2.9"}, {"kind": "cpu", "threads": 2}, dataset, (row,))


def test_a_row_has_the_keys_of_the_design_and_null_for_what_was_not_measured() -> None:
    row = Row("dense", "out/dense", "encoder", "train", True).to_dict()
    assert set(row) > CONTRACT
    assert not {"error", "error_code"} & set(row)
    assert {key for key, value in row.items() if value is not None} == {
        *("name", "path", "family", "method", "baseline"),
        *("metrics", "device", "versions", "settings", "flips", "turns", "kept"),
    }
    failed = Row("dense", "out/dense", "-", "-", False, error="out of memory", error_code=5).to_dict()
    assert (failed["error"], failed["error_code"]) == ("out of memory", 5)


def test_the_published_schema_is_one_and_knows_every_key() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    definitions = schema["$defs"]
    for kind in (Row, Dataset, Gate, Flip, Slice, Ratio, Blind):
        assert list(definitions[kind.__name__.lower()]["properties"]) == [field.name for field in fields(kind)]
    assert set(definitions["row"]["required"]) == CONTRACT


NUMBER, INTEGER, TEXT = ({"type": [kind, "null"]} for kind in ("number", "integer", "string"))
INTERVAL = {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/interval"}]}
IN_SCHEMA: dict[str, dict[str, Any]] = {
    "float | None": NUMBER,
    "int | None": INTEGER,
    "str | None": TEXT,
    "Interval | None": INTERVAL,
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "bool | None": {"type": ["boolean", "null"]},
    "MemoryKind | None": {"enum": ["cuda", "rss", None]},
    "Mapping[str, float | None]": {"type": "object", "additionalProperties": NUMBER},
    "Mapping[str, str | int]": {"$ref": "#/$defs/device"},
    "Parts | None": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "integer", "minimum": 0},
    },
    "Mapping[str, str]": {"$ref": "#/$defs/versions"},
    "Mapping[str, Any]": {"type": "object"},
    "Mapping[str, Any] | None": {"type": ["object", "null"]},
    "Slices | None": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "object", "additionalProperties": {"$ref": "#/$defs/slice"}},
    },
    "Mapping[str, int] | None": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/overlap"}]},
    "Ratio | None": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/ratio"}]},
    "Blind | None": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/blind"}]},
    "Mapping[str, list[list[float]]]": {
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"$ref": "#/$defs/interval"}},
    },
    "tuple[Flip, ...]": {"type": "array", "items": {"$ref": "#/$defs/flip"}},
    "tuple[Row, ...] | None": {"type": ["array", "null"], "items": {"$ref": "#/$defs/row"}, "minItems": 2},
    "Mapping[str, float] | None": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "number", "minimum": 0},
    },
}


@pytest.mark.parametrize("field", fields(Row), ids=lambda field: field.name)
def test_the_published_schema_says_of_a_figure_what_its_field_says(field: Field[Any]) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))["$defs"]["row"]["properties"][field.name]
    # An error stands in the JSON only where there is one.
    expected = {"type": "string"} if field.name == "error" else IN_SCHEMA[str(field.type)]
    assert {key: value for key, value in schema.items() if key not in ("minimum", "maximum", "description")} == expected
    if field.name in FIGURES:
        figure = FIGURES[field.name]
        assert schema["description"] == figure.description
        most = {PER_CENT: 100, PROBABILITY: 1}.get(figure.unit)
        assert schema.get("maximum") == most
        assert schema.get("minimum") == (0 if most or figure.unit in (BYTES, PARAMETERS, QUESTIONS, SECONDS) else None)


@given(reports)
@settings(deadline=None)
def test_every_report_holds_to_the_published_schema_and_is_read_back(report: Report) -> None:
    """Reading refuses what does not hold to it, as `test_broken_json_is_one_line_that_says_where` shows."""
    assert Report.from_json(report.to_json()) == report


def test_a_report_with_the_keys_of_the_design_alone_is_read() -> None:
    value = json.loads(a_report().to_json())
    value["rows"] = [{key: entry for key, entry in row.items() if key in CONTRACT} for row in value["rows"]]
    value["dataset"] = {key: value["dataset"][key] for key in ("path", "sha256", "questions", "unanswerable")}
    value["gates"] = [{"rule": "em>=80", "row": "dense", "passed": True, "value": 80.0, "limit": 80}]
    report = Report.from_json(json.dumps(value))
    assert (report.rows, report.gates[0].limit) == (a_report().rows, 80)


def test_a_report_has_the_keys_of_the_schema_in_their_order() -> None:
    value = json.loads(a_report().to_json())
    assert list(value) == ["schema", "created", "versions", "device", "dataset", "rows", "gates", "passed"]
    assert value["schema"] == "compresskit.eval/1"
    assert list(value["dataset"]) == ["path", "sha256", "questions", "unanswerable"]
    assert (value["gates"], value["passed"]) == ([], True)


def test_a_figure_that_is_not_finite_is_never_written() -> None:
    report = a_report()
    bad = Report(report.created, {}, {}, report.dataset, (Row("x", "x", "-", "-", False, em=float("nan")),))
    again = Report.from_json(bad.to_json())
    assert again == replace(bad, rows=(replace(bad.rows[0], em=None),))


def broken(path: list[str | int], value: object) -> str:
    """The JSON of a report with one entry replaced, or removed where `value` is Ellipsis."""
    whole: Any = json.loads(a_report().to_json())
    place = whole
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"schema": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "schema"),
        (broken(["schema"], "compresskit.eval/2"), "schema"),
        (broken(["rows"], ...), "'rows' is a required property"),
        (broken(["rows"], {}), "rows: "),
        (broken(["rows", 0], 3), r"rows\[0\]: 3 is not of type 'object'"),
        (broken(["rows", 0, "em"], ...), r"rows\[0\]: 'em' is a required property"),
        (broken(["rows", 0, "em"], "80"), r"rows\[0\].em: '80' is not of type"),
        (broken(["rows", 0, "em"], True), r"rows\[0\].em: True"),
        (broken(["rows", 0, "em"], 101), r"rows\[0\].em: 101 is greater than the maximum of 100"),
        (broken(["rows", 0, "em"], 10**300), r"rows\[0\].em: 1000"),
        (broken(["rows", 0, "latency_ms_p50"], 10**400), "a whole number of more than 308 digits"),
        (broken(["rows", 0, "em"], 8.5).replace("8.5", "1e999"), "1e999 is too large"),
        (broken(["rows", 0, "f2"], 1), "'f2' was unexpected"),
        (broken(["rows", 0, "disk_bytes"], -1), "disk_bytes: -1"),
        (broken(["rows", 0, "disk_bytes"], 1.5), "disk_bytes: 1.5"),
        (broken(["rows", 0, "baseline"], None), "baseline: None"),
        (broken(["rows", 0, "name"], 1), "name: 1"),
        (broken(["rows", 0, "peak_memory_kind"], "ram"), "peak_memory_kind: 'ram'"),
        (broken(["rows", 0, "delta_em_ci95"], [1]), "delta_em_ci95"),
        (broken(["rows", 0, "delta_em_ci95"], [1, "2"]), "delta_em_ci95"),
        (broken(["dataset", "sha256"], None), "dataset.sha256"),
        (broken(["device"], {"kind": []}), "device.kind"),
        (broken(["device"], {"load": {"before": {"load_average": ["1"]}}}), "device.load.before.load_average"),
        (broken(["rows", 0, "latency_ratio"], {"median": 1.0}), "latency_ratio"),
        (broken(["rows", 0, "turns"], {"latency_ms_p50": [[1.0]]}), "turns.latency_ms_p50"),
        (broken(["versions"], {"torch": 2}), "versions.torch"),
        (broken(["gates"], [{}]), r"gates\[0\]"),
        (broken(["passed"], "yes"), "passed: 'yes'"),
    ],
)
def test_broken_json_is_one_line_that_says_where(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        Report.from_json(text, "eval.json")
    assert str(caught.value).startswith("eval.json")
    assert "\n" not in str(caught.value)
