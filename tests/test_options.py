"""Options: what a value may be, how a wrong one is told, and how values of TOML and YAML are read."""

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from compresskit.errors import InputError, UsageError
from compresskit.options import check, from_text, like, option, options_of, range_of, read, refuse


def pair(text: str) -> tuple[int, int]:
    """`2:3` as (2, 3)."""
    first, second = text.split(":")
    return int(first), int(second)


@dataclass(frozen=True, slots=True)
class Sample:
    """One option of every type."""

    name: str = option(dataclasses.MISSING, "A text.", metavar="NAME", argument=True)
    count: int = option(3, "A whole number.", least=1, most=9)
    rate: float | None = option(None, "A number.", above=0, below=1, hint="such as 0.5")
    shift: float = option(0.0, "A number without bounds.")
    kind: Literal["smp", "smp-l", "movement"] = option("smp", "One of three.")
    unit: str = option("ms", "Another.", choices=("ms", "seconds"))
    quick: bool = option(False, "A switch.")
    folder: Path | None = option(None, "A folder.", flag="--to", short="-t")
    names: tuple[str, ...] = option((), "Some texts.", choices=("exact", "f1"))
    shape: tuple[int, int] = option((1, 1), "A pair.", parse=pair, metavar="A:B")
    size: int | Literal["all"] = option("all", "A number or a word.")
    hidden: Any = None

    def __post_init__(self) -> None:
        check(self)


RIGHT: dict[str, list[Any]] = {
    "name": ["x", ""],
    "count": [1, 9],
    "rate": [None, 0.5, 1e-9, math.nextafter(1, 0)],
    "shift": [-1e30, 0, 7],
    "kind": ["smp", "movement"],
    "unit": ["seconds"],
    "quick": [True, False],
    "folder": [None, Path("x"), "x"],
    "names": [(), ("exact",), ("f1", "exact")],
    "shape": [(2, 3)],
    "size": [7, "all"],
    "hidden": [object()],
}
# What cannot be, and a part of what is said of it.
WRONG: list[tuple[str, Any, str]] = [
    ("name", 5, "NAME 5 is not a text"),
    ("count", 0, "--count 0 is not at least 1 and at most 9"),
    ("count", 10, "--count 10 is not at least 1 and at most 9"),
    ("count", 2.0, "--count 2 is not a whole number"),
    ("count", True, "--count True is not a whole number"),
    ("count", "2", "--count 2 is not a whole number"),
    ("rate", 0.0, "--rate 0 is not above 0 and below 1; such as 0.5"),
    ("rate", 1.0, "--rate 1 is not above 0 and below 1"),
    ("rate", 1, "--rate 1 is not above 0 and below 1"),
    ("rate", math.nan, "--rate nan is not finite"),
    ("rate", math.inf, "--rate inf is not finite"),
    ("rate", False, "--rate False is not a number"),
    ("shift", -math.inf, "--shift -inf is not finite"),
    ("shift", math.nan, "--shift nan is not finite"),
    ("kind", "smp_l", "--kind smp_l is not one of smp, smp-l, movement; did you mean smp-l?"),
    ("kind", 7, "--kind 7 is not one of smp, smp-l, movement"),
    ("unit", "second", "did you mean seconds?"),
    ("quick", 1, "--quick 1 is not true or false"),
    ("quick", "yes", "--quick yes is not true or false"),
    ("folder", 3, "--to 3 is not"),
    ("names", "exact", "--names exact is not a list of texts, each one of exact, f1"),
    ("names", ("f1", "exakt"), "is not one of exact, f1; did you mean exact?"),
    ("names", ("f1", 1), "--names"),
    ("size", "most", "--size most is not"),
    ("size", 1.5, "--size 1.5 is not"),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_values_that_can_be(name: str, value: Any) -> None:
    assert getattr(Sample(**{"name": "x", name: value}), name) == value


@pytest.mark.parametrize(("name", "value", "told"), WRONG)
def test_values_that_cannot_be(name: str, value: Any, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        Sample(**{"name": "x", name: value})
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_nothing_is_like_what_was_given() -> None:
    with pytest.raises(UsageError, match=r"--kind zzz is not one of") as caught:
        Sample("x", kind="zzz")  # type: ignore[arg-type]
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("value", ["a b", "a\nb", "", "\x1b[31m"])
def test_a_value_that_is_not_one_word_is_quoted(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sample("x", unit=value)
    assert repr(value) in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_known() -> None:
    known = options_of(Sample)
    assert list(known) == [field.name for field in dataclasses.fields(Sample) if field.name != "hidden"]
    assert [known[name].flag for name in ("name", "count", "folder")] == ["NAME", "--count", "--to"]
    assert (known["rate"].kind, known["folder"].kind, known["names"].kind) == (float, Path, str)
    assert [name for name, each in known.items() if each.is_list] == ["names"]
    assert known["kind"].option.choices == ("smp", "smp-l", "movement")
    assert known["count"].default == 3
    assert known["name"].default is dataclasses.MISSING


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ({}, ""),
        ({"least": 1}, "x>=1"),
        ({"above": 0}, "x>0"),
        ({"most": 1}, "x<=1"),
        ({"below": 1}, "x<1"),
        ({"least": 0, "below": 1}, "0<=x<1"),
        ({"above": 0, "most": 0.5}, "0<x<=0.5"),
        ({"least": 0, "most": 2**32 - 1}, "0<=x<=4294967295"),
    ],
)
def test_bounds_as_the_help_shows_them(bounds: dict[str, float], shown: str) -> None:
    made = dataclasses.make_dataclass("Made", [("x", float, option(0.0, "A number.", **bounds))])
    assert range_of(options_of(made)["x"].option) == shown


# Words of the command line.


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("count", "7", 7), ("rate", "1e-3", 1e-3), ("kind", "smp", "smp"), ("shape", "2:3", (2, 3)), ("unit", "x", "x")],
)
def test_a_word(name: str, text: str, value: Any) -> None:
    """Whether it is in bounds is seen with the whole dataclass."""
    assert from_text(options_of(Sample)[name], text) == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("count", "7.5", "--count 7.5 is not a whole number"),
        ("count", "", "--count '' is not a whole number"),
        ("rate", "half", "--rate half is not a number; such as 0.5"),
        ("shape", "2x3", "--shape 2x3 is not A:B"),
    ],
)
def test_a_word_of_another_type(name: str, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        from_text(options_of(Sample)[name], text)


# Options without effect.


@pytest.mark.parametrize("given", [{"rate": 0.5}, {"shift": 0.0}, {"shift": 0}, {"quick": True}, {"folder": "x"}])
def test_an_option_without_effect(given: dict[str, Any]) -> None:
    """A 0 is a value like any other."""
    (name,) = given
    flag = options_of(Sample)[name].flag
    with pytest.raises(UsageError, match=rf"^{flag}.* has no effect without --more; leave it out") as caught:
        refuse(Sample("x", **given), ["quick", "folder", name], "without --more")
    assert caught.value.exit_code == 2


def test_options_that_were_not_given() -> None:
    refuse(Sample("x", shift=3.0), ["rate", "quick", "folder"], "without --more")


# A field like another's.


@dataclass(frozen=True, slots=True)
class Other:
    """Takes options over."""

    name: str = like(Sample, "name")
    count: int = like(Sample, "count")
    rate: float = like(Sample, "rate", default=0.25, help="Another help.", below=None)


def test_a_field_like_anothers() -> None:
    ours, theirs = options_of(Other), options_of(Sample)
    assert (ours["count"].option, ours["count"].default) == (theirs["count"].option, 3)
    assert ours["rate"].default == 0.25
    assert (ours["rate"].option.help, ours["rate"].option.below, ours["rate"].option.above) == (
        "Another help.",
        None,
        0,
    )
    assert theirs["rate"].option.below == 1
    assert ours["name"].default is dataclasses.MISSING


# Values of TOML and YAML.


def test_values_are_read() -> None:
    raw = {"count": 4, "rate": 0.5, "folder": "a/b", "names": ["exact", "f1"], "quick": True, "shape": "2:3", "size": 3}
    found = read([Sample], raw, "recipe.yaml")
    assert found == {**raw, "folder": Path("a/b"), "names": ("exact", "f1"), "shape": (2, 3)}
    assert isinstance(found["folder"], Path)


def test_dashes_and_underscores_are_the_same() -> None:
    @dataclass(frozen=True)
    class Long:
        """A name of two words."""

        learning_rate: float = option(1.0, "A number.")

    assert read([Long, Sample], {"learning-rate": 2.0, "count": 2}, "x") == {"learning_rate": 2.0, "count": 2}
    assert read([Long], {"learning_rate": 2}, "x") == {"learning_rate": 2}


@pytest.mark.parametrize(
    ("key", "told"),
    [("cuont", "did you mean count?"), ("zzz", "known: count, "), (7, "unknown key 7"), ("hidden", "unknown key")],
)
def test_a_key_that_is_unknown(key: Any, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        read([Sample], {key: 1}, "recipe.yaml, step 2")
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith("recipe.yaml, step 2: unknown key ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 2.5),
        ("count", True),
        ("count", "2"),
        ("count", None),
        ("rate", "0.5"),
        ("quick", 1),
        ("kind", 3),
        ("names", "exact"),
        ("names", [1]),
        ("folder", ["x"]),
        ("shape", "2x3"),
        ("size", {}),
    ],
)
def test_a_value_of_another_type(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^recipe\.yaml: {key} .* is not ") as caught:
        read([Sample], {key: value}, "recipe.yaml")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("count", 0, "at least 1"),
        ("rate", 1.5, "below 1"),
        ("rate", math.nan, "finite"),
        ("kind", "smpl", "did you mean smp"),
        ("names", ["f1", "exakt"], "did you mean exact?"),
    ],
)
def test_a_value_out_of_bounds(key: str, value: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"^recipe\.yaml: {key} .*{re.escape(told)}") as caught:
        read([Sample], {key: value}, "recipe.yaml")
    assert caught.value.exit_code == 2
