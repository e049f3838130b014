import json
import math

import pytest

from compresskit.text import (
    LONGEST,
    QUOTED,
    check_depth,
    finite_or_none,
    from_json,
    one_line,
    printable,
    to_json,
    whole,
    whole_json,
    with_article,
)

NASTY = "a\x1b[31mb\x9b2Jc\x00\x07\x7f\rd\u202ee\u2066f\udcff\uffff"
KEPT = "Zürich 東京\u00a0\u200d\t\n \U0001f600 'q' \\"


def test_what_steers_a_terminal_is_shown_as_an_escape():
    shown = printable(NASTY)
    assert shown == (
        r"a\u001b[31mb\u009b2Jc\u0000\u0007\u007f\u000dd\u202ee\u2066f\udcff\uffff"  # as JSON writes them
    )
    assert printable(KEPT) == KEPT


def test_json_carries_no_such_character_and_the_same_value():
    value = {NASTY: [NASTY, KEPT, 1.5, None], "\\": "\\\x9b"}
    for indent in (None, 2):
        text = to_json(value, indent=indent)
        assert json.loads(text) == value
        assert printable(text) == text
        assert text.encode()  # no half characters


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_no_json(number: float):
    with pytest.raises(ValueError, match="JSON"):
        to_json({"figures": [number]})
    kept = finite_or_none({"figures": [number, 1.5, 2, "inf", (number,)], "none": None})
    assert kept == {"figures": [None, 1.5, 2, "inf", [None]], "none": None}


def test_quoted_text_is_cut():
    for mark in "'\"":
        line = one_line(f"config.json has {mark}{'x y ' * 10**6}{mark}; mend it")
        assert len(line) < 2 * QUOTED
    quote = "x" * 1000
    line = one_line(f"config.json has {quote!r}, the model's is {quote!r}; mend it")
    cut = "x" * QUOTED + "…"
    assert line == f"config.json has '{cut}', the model's is '{cut}'; mend it"
    short = "x" * QUOTED
    assert one_line(f"has {short!r}; mend") == f"has {short!r}; mend"


def test_an_apostrophe_is_no_quotation_mark():
    line = f"the model's {'weights and ' * 30} the base's words"
    assert one_line(line) == line.replace("  ", " ")


@pytest.mark.parametrize("letter", ["x", "\x1b", "x\n", "\U000e0001"])
def test_a_line_without_end_keeps_its_beginning_and_its_mend(letter: str):
    line = one_line(f"config.json: {letter * 10**6}; copy it again")
    assert len(line) <= LONGEST + 3
    assert line.startswith("config.json: ")
    assert line.endswith("; copy it again")


@pytest.mark.parametrize(
    "text", ["[" * 102 + "]" * 102, "[" * 100_000, "1" * 5000, r'{"a": ["\ud800"]}', "[NaN]"], ids=lambda text: text[:9]
)
def test_json_that_nobody_can_walk_over_or_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|digits|half|NaN"):
        from_json(text)


def test_json_that_is_deep_and_has_a_pair_of_surrogates() -> None:
    assert from_json("[" * 100 + r'"\ud83d\ude00"' + "]" * 100) == from_json("[" * 100 + '"😀"' + "]" * 100)


def test_a_value_that_unfolds_or_holds_itself() -> None:
    itself: list[object] = []
    itself.append(itself)
    wide: list[object] = ["x"]
    for _ in range(30):
        wide = [wide, wide]
    for value in (itself, wide, 1 << 20_000):
        with pytest.raises(ValueError, match=r"nested|unfolds|digits"):
            check_depth([value], most=1000)


@pytest.mark.parametrize(("word", "told"), [("bert", "a bert"), ("albert", "an albert"), ("T5", "a T5")])
def test_a_word_has_its_article(word: str, told: str) -> None:
    assert with_article(word) == told


def test_a_byte_order_mark_is_passed_over() -> None:
    assert from_json('\ufeff{"a": 1}') == from_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


def test_half_a_character_is_replaced_wherever_it_stands() -> None:
    assert whole("a\ud800b\udc00 😀") == "a\ufffdb\ufffd 😀"
    text = rb'["\ud800", "\ud83d\ude00", "\udc00\ud83d", "\\ud800", "\u00e9", "\ud83d\n"]'
    found = whole_json(text)
    assert len(found) == len(text)
    assert json.loads(found) == ["\ufffd", "😀", "\ufffd\ufffd", "\\ud800", "é", "\ufffd\n"]
