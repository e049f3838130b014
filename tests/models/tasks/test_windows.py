"""Windows and labels against the tokenizer's own offsets and a plain cutting of its tokens."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from compresskit import console
from compresskit.data.examples import Example
from compresskit.errors import MissingError, UsageError
from compresskit.models.answering import WindowOptions
from compresskit.models.tasks import span_features
from compresskit.models.tasks import windows as windows_module
from compresskit.models.tasks.span_features import SpanFeatures, write_features
from compresskit.models.tasks.windows import (
    MIN_STEP,
    Windows,
    encode,
    max_question_tokens,
    null_position,
    token_characters,
)
from tests.models.tiny import TOKENIZERS, example

TOKENS = {name: make() for name, make in TOKENIZERS.items()}
# Letters that have tokens, some that have none, accents, white space, and characters of several bytes.
TEXT = st.text(alphabet="abcdefghij  \n.,-?xé日😀", max_size=160)
QUESTION = st.text(alphabet="abcdefghij .?é日", max_size=60)
OPTIONS = st.builds(WindowOptions, st.integers(48, 72), st.integers(0, 12))


@dataclass(frozen=True)
class Window:
    """One window by hand: its ids, and the span in the context of each of its context tokens."""

    ids: list[int]
    spans: list[tuple[int, int]]
    first: int


def by_hand(tokenizer: PreTrainedTokenizerFast, asked: Example, options: WindowOptions) -> list[Window]:
    """The context's tokens cut at equal steps, each piece behind the whole question."""
    question = tokenizer(asked.question.strip(), add_special_tokens=False)["input_ids"]
    context: Any = tokenizer(asked.context, add_special_tokens=False, return_offsets_mapping=True)
    width = options.max_length - len(question) - tokenizer.num_special_tokens_to_add(pair=True)
    cls, sep = (tokenizer.get_vocab()[str(token)] for token in (tokenizer.cls_token, tokenizer.sep_token))
    between = [sep] * (tokenizer.num_special_tokens_to_add(pair=True) - 2)  # RoBERTa has two
    made, begin = [], 0
    while True:
        piece = slice(begin, begin + width)
        ids = [cls, *question, *between, *context["input_ids"][piece], sep]
        spans = [(start, end) for start, end in context["offset_mapping"][piece]]
        made.append(Window(ids, spans, len(ids) - len(spans) - 1))
        if begin + width >= len(context["input_ids"]):
            return made
        begin += width - options.stride


def char_spans(windows: Windows, window: int) -> list[tuple[int, int]]:
    tokens = range(windows.context_start[window], windows.context_end[window])
    return [token_characters(windows.encoding, window, token) for token in tokens]


def some_answer(data: st.DataObject, context: str) -> tuple[int, int] | None:
    """Characters of a random substring that begins and ends with more than white space."""
    inked = [i for i, character in enumerate(context) if not character.isspace()]
    if not inked:
        return None
    start = data.draw(st.sampled_from(inked))
    return start, 1 + data.draw(st.sampled_from([i for i in inked if start <= i < start + 40]))


@pytest.mark.parametrize("name", TOKENS)
@settings(max_examples=60, deadline=None)
@given(questions=st.lists(QUESTION, min_size=3, max_size=3), contexts=st.lists(TEXT, min_size=3, max_size=3), o=OPTIONS)
def test_windows_are_the_tokens_cut_at_equal_steps(name: str, questions: list[str], contexts: list[str], o) -> None:
    tokenizer = TOKENS[name]
    limit = max_question_tokens(tokenizer, o)
    asked = [example(q[: limit // 3], c) for q, c in zip(questions, contexts, strict=True)]  # 日 is three tokens
    windows = encode(tokenizer, asked, o)
    expected = [(index, window) for index, one in enumerate(asked) for window in by_hand(tokenizer, one, o)]
    assert windows.example == [index for index, _ in expected]
    assert windows.encoding["input_ids"] == [window.ids for _, window in expected]
    for row, (_, window) in enumerate(expected):
        assert len(window.ids) <= o.max_length
        if window.spans:
            assert windows.context_start[row] == window.first
        assert char_spans(windows, row) == window.spans


@pytest.mark.parametrize("name", TOKENS)
@settings(max_examples=60, deadline=None)
@given(context=TEXT, options=OPTIONS)
def test_every_character_stands_in_a_window_and_neighbours_share_the_stride(name: str, context: str, options) -> None:
    tokenizer = TOKENS[name]
    windows = encode(tokenizer, [example("a bad head?", context)], options)
    spans = [char_spans(windows, row) for row in range(len(windows))]
    seen = {character for window in spans for start, end in window for character in range(start, end)}
    assert {i for i, character in enumerate(context) if not character.isspace()} <= seen
    ids = windows.encoding["input_ids"]
    asked = ids[0][: windows.context_start[0]]
    for row in range(1, len(windows)):
        assert ids[row][: windows.context_start[row]] == asked
        last, first = windows.context_end[row - 1], windows.context_start[row]
        tail, head = ids[row - 1][last - options.stride : last], ids[row][first : first + options.stride]
        assert tail == head
        assert spans[row - 1][len(spans[row - 1]) - options.stride :] == spans[row][: options.stride]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), context=TEXT, options=OPTIONS)
def test_labels_are_the_tokens_of_the_answer_or_null(tmp_path_factory, data, context: str, options) -> None:
    tokenizer = TOKENS["wordpiece"]
    asked = example("a bad head?", context, some_answer(data, context))
    made = write_features(tokenizer, [asked], options, tmp_path_factory.mktemp("features"))
    whole = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    found = []
    for feature, window in zip(made, by_hand(tokenizer, asked, options), strict=True):
        label = (feature["start"], feature["end"])
        if not asked.answers:
            assert label == (0, 0)
            continue
        start, end = asked.answers[0].start, asked.answers[0].start + len(asked.answers[0].text)
        touched = [span for span in whole if span[0] < end and span[1] > start]
        if set(touched) <= set(window.spans):
            first, last = (window.first + window.spans.index(span) for span in (touched[0], touched[-1]))
            assert label == (first, last)
            found.append(label)
        else:
            assert label == (0, 0)
    if asked.answers and len(asked.answers[0].text) <= options.stride:
        assert found, "an answer no longer than the overlap stands whole in some window"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), context=st.text(alphabet="abcdefghij  .,", min_size=1, max_size=160), options=OPTIONS)
def test_labelled_tokens_decode_to_a_text_that_holds_the_answer(tmp_path_factory, data, context, options) -> None:
    """With a tokenizer that loses nothing, decoding gives the characters back."""
    tokenizer = TOKENS["bpe"]
    asked = example("a bad head?", context, some_answer(data, context))
    for feature in write_features(tokenizer, [asked], options, tmp_path_factory.mktemp("features")):
        if feature["start"]:
            text = tokenizer.decode(feature["input_ids"][feature["start"] : feature["end"] + 1].tolist())
            assert asked.answers[0].text in text
        else:
            assert feature["end"] == 0


def test_an_answer_cut_by_the_edge_of_a_window_is_null_there(tmp_path: Path) -> None:
    options = WindowOptions(max_length=48, stride=0)
    # One token of question and three special ones leave 44 for the context: the edge falls inside "bcd".
    context = "a" + " a" * 42 + " bcd" + " e" * 10
    start = context.index("bcd")
    made = write_features(TOKENS["wordpiece"], [example("a", context, (start, start + 3))], options, tmp_path)
    assert [(feature["start"], feature["end"]) for feature in made] == [(0, 0), (0, 0)]
    ids = [TOKENS["wordpiece"].convert_ids_to_tokens(feature["input_ids"].tolist()) for feature in made]
    assert ids[0][-2] == "b"
    assert ids[1][3:5] == ["##c", "##d"]


def test_a_long_question_is_cut_with_a_warning_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(console, "warn", told.append)
    tokenizer, options = TOKENS["wordpiece"], WindowOptions(48, 8)
    limit = 48 - 8 - 3 - MIN_STEP
    long, fits = "a " * 60, "b " * limit
    windows = encode(tokenizer, [example(long, "c " * 99), example(fits, "d"), example(long, "e")], options)
    assert told == [f"cut 2 questions of more than {limit} tokens; raise --max-length to keep them whole"]
    letters = [tokenizer.get_vocab()[letter] for letter in "ab"]
    for row, ids in enumerate(windows.encoding["input_ids"]):
        assert len(ids) <= 48
        kept = ids[1 : windows.context_start[row] - 1]
        assert kept == [letters[windows.example[row] == 1]] * limit
    assert windows.example == [0] * 6 + [
        1,
        2,
    ]  # of 99 tokens the first window shows 24, and each further one 16 new ones


@pytest.mark.parametrize("name", TOKENS)
@settings(max_examples=40, deadline=None)
@given(question=st.text(alphabet="abcdefghij .é日😀x", max_size=200), context=TEXT, options=OPTIONS)
def test_no_question_is_too_long(name: str, question: str, context: str, options) -> None:
    windows = encode(TOKENS[name], [example(question, context)], options)
    assert max(map(len, windows.encoding["input_ids"])) <= options.max_length


@pytest.mark.parametrize(
    ("max_length", "stride", "mend"),
    [
        (16, 0, "27 or more"),
        (64, 64, "91 or more, or lower --stride to 37 or less"),
        (64, 200, "227 or more, or lower --stride to 37 or less"),
        (64, 38, "65 or more, or lower --stride to 37 or less"),
        (26, 0, "27 or more"),
    ],
)
def test_options_that_leave_no_room_are_wrong_usage(tmp_path: Path, max_length: int, stride: int, mend: str) -> None:
    told = f"--max-length {max_length} .* --stride {stride}; raise --max-length to {mend}$"
    with pytest.raises(UsageError, match=told):
        write_features(TOKENS["wordpiece"], [example("a", "b")], WindowOptions(max_length, stride), tmp_path)


@pytest.mark.parametrize(("max_length", "stride"), [(27, 0), (64, 37)])
def test_options_that_leave_just_enough_room(tmp_path: Path, max_length: int, stride: int) -> None:
    options = WindowOptions(max_length, stride)
    assert len(write_features(TOKENS["wordpiece"], [example("a", "b")], options, tmp_path)) == 1


MANY = [
    example("a bad head" * (i % 3) + "?", "jade face " * (7 * i), (0, 4) if i % 2 else None, str(i)) for i in range(8)
]


def direct(tokenizer: PreTrainedTokenizerFast, asked: Sequence[Example], options: WindowOptions) -> list[list[int]]:
    """What the tokenizer itself makes of each question."""
    ids = []
    for one in asked:
        made = tokenizer(
            [one.question],
            [one.context],
            truncation="only_second",
            max_length=options.max_length,
            stride=options.stride,
            return_overflowing_tokens=True,
        )
        ids += made["input_ids"]
    return ids


@pytest.mark.parametrize("name", TOKENS)
def test_a_feature_set_is_the_tokenizers_output(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_features, "CHUNK", 3)  # the questions fall into several chunks
    tokenizer, options = TOKENS[name], WindowOptions(64, 8)
    built = write_features(tokenizer, iter(MANY), options, tmp_path)
    expected = direct(tokenizer, MANY, options)
    for made in (built, SpanFeatures(tmp_path)):
        assert len(made) == len(expected) > len(MANY)
        assert [feature["input_ids"].tolist() for feature in made] == expected
        assert made.lengths.tolist() == [len(ids) for ids in expected]
        assert [feature["index"] for feature in made] == list(range(len(expected)))


def test_token_types_tell_question_from_context(tmp_path: Path) -> None:
    made = write_features(TOKENS["wordpiece"], [example("a bad", "face")], WindowOptions(48, 0), tmp_path)
    assert made[0]["token_type_ids"].tolist() == [0, 0, 0, 0, 1, 1]
    assert made[0]["token_type_ids"].dtype == np.uint8
    assert made[0]["input_ids"].dtype == np.int32


def test_the_fingerprint_is_that_of_the_inputs_alone(tmp_path: Path) -> None:
    variants = {
        "one": example("a bad head", "jade face", (0, 4)),
        "other answer": example("a bad head", "jade face", (5, 9)),
        "other context": example("a bad head", "jade head", (0, 4)),
        "other types": example("a bad", "head jade face"),
    }
    prints = {
        name: write_features(TOKENS["wordpiece"], [one], WindowOptions(48, 0), tmp_path / name).fingerprint()
        for name, one in variants.items()
    }
    assert prints["one"] == prints["other answer"]
    assert len({prints["one"], prints["other context"], prints["other types"]}) == 3


@pytest.mark.parametrize("name", TOKENS)
def test_null_stands_on_the_first_token(name: str, tmp_path: Path) -> None:
    made = write_features(TOKENS[name], [example("a bad", "face")], WindowOptions(48, 0), tmp_path)
    assert (made[0]["start"], made[0]["end"]) == (0, 0)
    assert made[0]["input_ids"][0] == TOKENS[name].cls_token_id
    assert null_position(TOKENS[name], [9, 8, TOKENS[name].cls_token_id]) == 2
    assert null_position(TOKENS[name], [9, 8]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("file", ["ids.i32", "types.u8", "bounds.i64", "spans.i32"])
def test_a_full_disk_is_told_as_one(file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    name, make = next(iter(TOKENIZERS.items()))
    with pytest.raises(OSError, match="No space left") as caught:
        write_features(make(), [example("who?", "rome")], WindowOptions(64, 8), tmp_path)
    assert caught.value.errno == errno.ENOSPC, name


def test_a_tokenizers_that_loses_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check passes here; a library that stops after the first window is named, with the mend."""
    windows_module.require_windows.cache_clear()
    windows_module.require_windows()
    windows_module.require_windows.cache_clear()
    monkeypatch.setattr(windows_module, "_count_windows", lambda **_: 1)
    with pytest.raises(MissingError, match=r"drops the windows of long contexts; .*tokenizers>=0\.23\.3"):
        windows_module.require_windows()


def test_the_name_of_a_special_token_in_a_text_is_text() -> None:
    tokenizer = TOKENS["wordpiece"]
    sep = tokenizer.sep_token
    asked = example(f"is {sep} a?", f"a {sep}{sep} b {tokenizer.cls_token} c", (0, 1))
    windows = encode(tokenizer, [asked], WindowOptions(64, 8))
    (ids,) = windows.encoding["input_ids"]
    separators = [place for place, each in enumerate(ids) if each == tokenizer.sep_token_id]
    assert separators == [windows.context_start[0] - 1, len(ids) - 1]
    assert ids.count(tokenizer.cls_token_id) == 1
    assert len(tokenizer(sep, add_special_tokens=False)["input_ids"]) == 1  # elsewhere it is one still
