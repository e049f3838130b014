"""Windows that are put together of contexts tokenized once, against those that the tokenizer makes of pairs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from compresskit.models.answering import WindowOptions
from compresskit.models.tasks import readings
from compresskit.models.tasks.readings import Reading, read_windows
from compresskit.models.tasks.windows import encode
from tests.models import tiny
from tests.models.tiny import example

OPTIONS = WindowOptions(max_length=48, stride=8)
CONTEXTS = ("Jade, a bad face. " * 9, "the head of a cab: DEAF \n\tfée 😀 ", "日本 é-bad yes no " * 30, "", "a")


def as_lists(reading: Reading) -> Any:
    """All of a reading that can be compared; the characters of each token of the contexts."""
    characters = [
        [reading.characters(window, token) for token in range(reading.first[window], reading.last[window])]
        for window in range(len(reading.ids))
    ]
    ids, types = ([each.tolist() for each in arrays] for arrays in (reading.ids, reading.types))
    bounds = [pair for pair in zip(reading.first, reading.last, strict=True) if pair[0] < pair[1]]  # no place is none's
    return ids, types, reading.example, bounds, reading.null, characters


def expected(tokenizer: PreTrainedTokenizerFast, examples: Any, options: WindowOptions) -> Any:
    return as_lists(readings._as_encoded(tokenizer, encode(tokenizer, examples, options)))


@pytest.fixture(scope="module", params=list(tiny.TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return tiny.TOKENIZERS[request.param]()


@pytest.mark.parametrize("side", ["right", "left"])
def test_windows_are_those_of_the_tokenizer(tokenizer: PreTrainedTokenizerFast, side: str) -> None:
    """From the left the tokenizer cuts otherwise, which has to be noticed."""
    asked = [
        example(question, context, id=f"{i}")
        for i, question in enumerate(("a bad head?", "cage", "a", "bad " * 40))
        for context in CONTEXTS
    ]
    tokenizer.truncation_side = side
    try:
        found = as_lists(read_windows(tokenizer, asked, OPTIONS))
        assert found == expected(tokenizer, asked, OPTIONS)
    finally:
        tokenizer.truncation_side = "right"
    assert len(found[0]) > len(asked) + 9, "some contexts should have several windows"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contexts=st.lists(st.text(alphabet="abcdefghij  \n.,é日😀x", max_size=150), min_size=1, max_size=3),
    questions=st.lists(st.text(alphabet="abcdefghij ?é", max_size=60), min_size=1, max_size=3),
)
def test_any_texts(tokenizer: PreTrainedTokenizerFast, contexts: list[str], questions: list[str]) -> None:
    asked = [example(question, context) for context in contexts for question in questions]
    assert as_lists(read_windows(tokenizer, asked, OPTIONS)) == expected(tokenizer, asked, OPTIONS)


def test_a_context_is_tokenized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    plain = readings._tokenized

    def counted(tokenizer: PreTrainedTokenizerFast, texts: Any) -> Any:
        told.append(len(texts))
        return plain(tokenizer, texts)

    monkeypatch.setattr(readings, "_tokenized", counted)
    monkeypatch.setattr(readings, "_as_encoded", None)
    asked = [example("a bad head?", CONTEXTS[i % 2]) for i in range(10)]
    assert len(read_windows(tiny.wordpiece(), asked, OPTIONS).ids) > 10
    assert told == [2, 10]


def test_what_is_not_the_tokenizers_own_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer whose contexts depend on where they stand: put together, they would be other tokens."""
    tokenizer = tiny.wordpiece()
    asked = [example("a bad head?", "jade face " * 9) for _ in range(4)]
    right = expected(tokenizer, asked, OPTIONS)
    plain = readings._tokenized

    def other(tokenizer: PreTrainedTokenizerFast, texts: Any) -> Any:
        ids, encodings = plain(tokenizer, texts)
        return [each[::-1].copy() for each in ids], encodings

    monkeypatch.setattr(readings, "_tokenized", other)
    assert as_lists(read_windows(tokenizer, asked, OPTIONS)) == right
