"""Options: types, bounds and choices of fields, checked in one place for flags, TOML, YAML and Python alike."""

import subprocess
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.options import (
    Option,
    check,
    fault,
    from_text,
    like,
    option,
    options_of,
    range_of,
    read,
    refuse,
    shown,
)


def even(text: str) -> int:
    """An even number; ValueError for anything else."""
    if int(text) % 2:
        raise ValueError(f"{text} is odd")
    return int(text)


@dataclass(frozen=True, slots=True)
class Settings:
    """A field of every type."""

    model: str = option(MISSING, "What to start from.", metavar="MODEL", argument=True)
    count: int = option(3, "How many.", least=1, most=9, hint="count on your fingers")
    rate: float | None = option(None, "How fast.", above=0, below=1)
    scale: float = option(1.0, "How large.")
    keep: bool = option(False, "Keep all.")
    size: Literal["small", "medium", "large"] = option("small", "How big.")
    colour: str = option("red", "Which one.", choices=("red", "green"), flag="--color")
    names: tuple[str, ...] = option((), "What they are called.")
    gates: tuple[Literal["exact", "f1"], ...] | None = option(None, "What holds.", flag="--gate")
    table: Path | Literal[False] = option(False, "Where to write.")
    output: Path | None = option(None, "Where to write.", short="-o")
    pair: int = option(2, "An even number.", parse=even, metavar="EVEN", hint="such as 2")
    hidden: int = 7

    def __post_init__(self) -> None:
        check(self)


def made(**values: Any) -> Settings:
    return Settings("m", **values)


def test_it_needs_no_torch() -> None:
    code = "import sys, compresskit.options; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "typer", "numpy"} & set(found.split())


def test_defaults_are_possible() -> None:
    assert made() == made(count=3, hidden=7)


GOOD: list[tuple[str, Any]] = [
    *(("count", value) for value in (1, 9)),
    *(("rate", value) for value in (None, 1e-9, 0.999, 0.5)),
    *(("scale", value) for value in (-1e30, 0, 7)),  # a whole number is a number too
    ("keep", True),
    ("size", "large"),
    ("colour", "green"),
    *(("names", value) for value in ((), ("a", "b"), ["a"])),
    *(("gates", value) for value in (None, ("exact",), ("f1", "exact"))),
    *(("table", value) for value in (False, "t.csv", Path("t.csv"))),
    *(("output", value) for value in (None, "out", Path("out"))),
    ("pair", 4),
]

BAD: list[tuple[str, Any, str]] = [
    *(("count", value, rf"--count {value} .*at least 1 and at most 9; count on your fingers") for value in (0, -1, 10)),
    *(("count", value, r"--count .*a whole number") for value in (1.0, True, "3", (3,))),
    *(("rate", value, rf"--rate {value:g} .*above 0 and below 1") for value in (0.0, 1.0, -0.5, 7)),
    *(("rate", value, rf"--rate {value:g} .*finite") for value in (float("nan"), float("inf"), float("-inf"))),
    ("scale", float("nan"), "--scale nan .*finite"),
    *(("scale", value, "--scale .*a number") for value in ("1", True, [1.0])),
    *(("keep", value, "--keep .*true or false") for value in (1, "yes", 0.0)),
    ("size", "tiny", r"--size tiny .*small, medium, large"),
    ("size", 3, r"--size 3 .*small, medium, large"),
    ("colour", "gren", r"--color gren .*red, green; did you mean green\?"),
    ("size", "Medium", r"--size Medium .*small, medium, large; did you mean medium\?"),
    *(("names", value, "--names .*list of texts") for value in ("a", ("a", 1), 3)),
    ("gates", ("f1", "exakt"), r"--gate .*exakt.*exact, f1; did you mean exact\?"),
    ("gates", "exact", "--gate exact .*exact, f1"),
    *(("table", value, "--table") for value in (True, 3)),
    *(("output", value, "--output") for value in (3, ("out",))),
    ("pair", "odd", "--pair odd .*EVEN; such as 2"),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_what_can_be(name: str, value: Any) -> None:
    assert getattr(made(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "words"), BAD)
def test_what_cannot_be_is_told_by_flag_and_value(name: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        made(**{name: value})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_an_argument_is_called_by_its_metavar() -> None:
    values: Any = {"model": 3}
    with pytest.raises(UsageError, match=r"^MODEL 3 "):
        Settings(**values)


def test_what_has_no_option_is_not_checked() -> None:
    assert "hidden" not in options_of(Settings)
    assert made(hidden="anything").hidden == "anything"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_bounds(value: float) -> None:
    known = options_of(Settings)["rate"]
    assert (fault(known, value) is None) == (0 < value < 1)
    assert (fault(options_of(Settings)["scale"], value) is None) == (abs(value) < float("inf"))


# What is known of a field.


def test_what_is_known_of_each_field() -> None:
    known = options_of(Settings)
    assert list(known) == [field.name for field in fields(Settings) if field.name != "hidden"]
    assert {name: each.flag for name, each in known.items()}["colour"] == "--color"
    assert (known["rate"].kind, known["rate"].is_list, known["rate"].default) == (float, False, None)
    assert (known["names"].kind, known["names"].is_list, known["names"].default) == (str, True, ())
    assert (known["gates"].is_list, known["gates"].option.choices) == (True, ("exact", "f1"))
    assert known["size"].option.choices == ("small", "medium", "large")
    assert known["model"].default is MISSING
    assert (known["output"].kind, known["output"].option.short) == (Path, "-o")
    assert options_of(Settings) is known


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, ""),
        ({"least": 1}, "x>=1"),
        ({"above": 0}, "x>0"),
        ({"least": 0, "below": 1}, "0<=x<1"),
        ({"above": 0, "most": 2}, "0<x<=2"),
        ({"most": 2**32 - 1, "least": 0}, "0<=x<=4294967295"),
    ],
)
def test_the_range_that_help_shows(bounds: dict[str, float], expected: str) -> None:
    assert range_of(Option("Some.", **bounds)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, "0.5"),
        (5e-05, "5e-05"),
        (3, "3"),
        ("a", "a"),
        ("a b", "'a b'"),
        ("", "''"),
        ("a\nb", r"'a\nb'"),
        (None, "None"),
    ],
)
def test_a_value_on_one_line(value: Any, expected: str) -> None:
    assert shown(value) == expected
    assert len(shown("x y" * 1000)) == 80


def test_a_field_like_another() -> None:
    @dataclass(frozen=True)
    class Other:
        count: int = like(Settings, "count")
        more: int = like(Settings, "count", default=5, help="More.", most=20, flag="--lots")
        output: Path | None = like(Settings, "output")
        model: str = like(Settings, "model", default="m")

        def __post_init__(self) -> None:
            check(self)

    own, known = options_of(Settings), options_of(Other)
    assert known["count"] == own["count"]
    assert known["output"] == own["output"]
    assert (known["more"].flag, known["more"].option.help, known["more"].default) == ("--lots", "More.", 5)
    assert known["more"].option.hint == own["count"].option.hint
    assert Other().more == Other(more=5).more == 5
    assert Other(more=20).more == 20
    with pytest.raises(UsageError, match=r"--lots 21 .*at least 1 and at most 20; count on"):
        Other(more=21)
    with pytest.raises(UsageError, match="--count 20 "):
        Other(count=20)


# Words of the command line.


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("count", "4", 4),
        ("count", "-4", -4),  # bounds are checked with the whole
        ("rate", "5e-1", 0.5),
        ("rate", "nan", float("nan")),
        ("size", "none of them", "none of them"),
        ("output", "out", "out"),
        ("pair", "12", 12),
    ],
)
def test_a_word_stands_for_a_value(name: str, text: str, expected: Any) -> None:
    assert repr(from_text(options_of(Settings)[name], text)) == repr(expected)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("count", "4.0", "--count 4.0 .*whole number; count on your fingers"),
        ("count", "", "--count '' .*whole number"),
        ("rate", "fast", "--rate fast .*a number"),
        ("pair", "3", "--pair 3 .*EVEN; such as 2"),
        ("pair", "a b", "--pair 'a b' .*EVEN"),
    ],
)
def test_a_word_that_stands_for_none(name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        from_text(options_of(Settings)[name], text)
    assert caught.value.exit_code == 2


# Options without effect.


@pytest.mark.parametrize(
    ("values", "flag"), [({"rate": 0.5}, "--rate"), ({"keep": True}, "--keep"), ({"scale": 0.0}, "--scale")]
)
def test_an_option_without_effect(values: dict[str, Any], flag: str) -> None:
    """One that was given, be it as 0."""
    with pytest.raises(UsageError, match=f"^{flag} .*no effect without that") as caught:
        refuse(made(**{"scale": None, **values}), ("rate", "keep", "scale"), "without that")
    assert caught.value.exit_code == 2


def test_what_was_not_given_is_not_refused() -> None:
    refuse(made(), ("rate", "keep", "gates"), "without that")
    refuse(made(rate=0.5), ("keep",), "without that")


# TOML and YAML.


def test_values_are_read_under_the_names_of_fields() -> None:
    raw = {
        "count": 4,
        "rate": 0.25,
        "colour": "green",
        "names": ["a", "b"],
        "output": "out",
        "gates": ["f1"],
        "pair": "4",
    }
    found = read([Settings], {**raw, "pair": "4"}, "file")
    assert found == {
        "count": 4,
        "rate": 0.25,
        "colour": "green",
        "names": ("a", "b"),
        "output": Path("out"),
        "gates": ("f1",),
        "pair": 4,
    }
    assert made(**found) == made(**found)


@dataclass(frozen=True)
class More:
    """Another part of the same table."""

    max_length: int = option(8, "How long.", least=1)


@pytest.mark.parametrize("key", ["max-length", "max_length"])
def test_keys_have_dashes_or_underscores(key: str) -> None:
    assert read([Settings, More], {key: 9, "count": 2}, "file") == {"max_length": 9, "count": 2}


UNREADABLE: list[tuple[dict[Any, Any], type[CompresskitError], str]] = [
    ({"max-lenght": 9}, InputError, r"^file: .*'max-lenght'; did you mean max_length\?"),
    ({"zzz": 9}, InputError, r"^file: .*'zzz'; known: .*count.*max_length"),
    ({3: 9}, InputError, r"^file: .* 3; known: "),
    ({"hidden": 9}, InputError, r"^file: .*'hidden'"),
    ({"count": "4"}, InputError, r"^file: count '4' .*whole number; count on your fingers"),
    ({"count": True}, InputError, r"^file: count True .*whole number"),
    ({"count": None}, InputError, r"^file: count None "),
    ({"rate": "0.5"}, InputError, r"^file: rate '0.5' .*a number"),
    ({"names": "a"}, InputError, r"^file: names 'a' .*list of texts"),
    ({"names": ["a", 1]}, InputError, r"^file: names .*list of texts"),
    ({"size": 3}, InputError, r"^file: size 3 .*small, medium, large"),
    ({"output": 3}, InputError, r"^file: output 3 "),
    ({"pair": "3"}, InputError, r"^file: pair '3' .*EVEN; such as 2"),
    ({"keep": "no"}, InputError, r"^file: keep 'no' .*true or false"),
    ({"max-length": 0}, UsageError, r"^file: max-length 0 .*at least 1"),
    ({"rate": float("inf")}, UsageError, r"^file: rate inf .*finite"),
    ({"size": "larg"}, UsageError, r"^file: size 'larg' .*small, medium, large; did you mean large\?"),
    ({"gates": ["exact", "acc"]}, UsageError, r"^file: gates .*acc.*exact, f1"),
]


@pytest.mark.parametrize(("raw", "kind", "words"), UNREADABLE)
def test_what_cannot_be_read_is_told_by_file_and_key(
    raw: dict[Any, Any], kind: type[CompresskitError], words: str
) -> None:
    """Another type or key is a broken file; a value out of its bounds is what it is on the command line."""
    with pytest.raises(kind, match=words) as caught:
        read([Settings, More], raw, "file")
    assert caught.value.exit_code == (3 if kind is InputError else 2)
    assert "\n" not in str(caught.value)
