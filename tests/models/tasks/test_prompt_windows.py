"""Prompts in windows: nothing is cut in silence, and every window is the text that it says."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from compresskit.data.examples import Example
from compresskit.errors import UsageError
from compresskit.models.answering import WindowOptions
from compresskit.models.prompt import LINES, Prompt
from compresskit.models.tasks.prompt_windows import encode_prompts
from tests.models import texts, tiny

PROMPT = Prompt("a {question} b {context} c")
TOKENIZERS = {"wordpiece": tiny.wordpiece(), "bpe": tiny.bpe()}
WORDS = st.sampled_from(["bad", "face", "jade", "abcdefgh", "yes", "no", "a"])


def example(question: str, context: str) -> Example:
    return Example("q", "t", question, context, (), True, 0)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=120),
    kind=st.sampled_from(sorted(TOKENIZERS)),
    length=st.integers(52, 70),
    stride=st.integers(0, 10),
)
def test_windows_show_all_of_the_context(words: list[str], kind: str, length: int, stride: int) -> None:
    tokenizer: Any = TOKENIZERS[kind]
    context = " ".join(words)
    asked = example("face ?", context)
    options = WindowOptions(length, stride)
    windows = encode_prompts(tokenizer, [asked], PROMPT, options)
    assert windows[0].start == 0
    assert windows[-1].end == len(context)
    for window in windows:
        shown = context[window.start : window.end].strip()
        assert len(window.ids) <= length
        assert list(window.ids) == tokenizer(PROMPT.text("face ?", shown))["input_ids"]
    for before, after in itertools.pairwise(windows):
        assert before.start < after.start
        assert before.end < after.end
        assert not context[before.end : after.start].strip(), "nothing but blanks lies between"
        assert context[after.start : after.end].strip()
        shared = context[after.start : before.end]
        assert len(tokenizer(shared, add_special_tokens=False)["input_ids"]) >= stride - 1
    whole = tokenizer(PROMPT.text("face ?", context))["input_ids"]
    assert (len(windows) == 1) == (len(whole) <= length)


def test_examples_keep_their_order() -> None:
    asked = [example("yes ?", "bad " * n) for n in (2, 90, 1, 60)]
    windows = encode_prompts(TOKENIZERS["wordpiece"], asked, PROMPT, WindowOptions(52, 8))
    assert [window.example for window in windows] == sorted(window.example for window in windows)
    assert {window.example for window in windows} == {0, 1, 2, 3}


def test_a_long_question_is_cut_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    windows = encode_prompts(TOKENIZERS["wordpiece"], [example("no " * 60, "bad " * 60)], PROMPT, WindowOptions(52, 8))
    assert len(windows) > 1
    assert all(len(window.ids) <= 52 for window in windows)
    assert "cut 1 question too long for a window" in capsys.readouterr().err


def test_a_model_goes_on_with_a_prompt_that_has_no_end() -> None:
    """A tokenizer that ends texts by itself gives the windows of one that does not; both begin them."""
    tokenizer = texts.metaspace()
    own = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.backend_tokenizer.post_processor = own
    asked = [example("Where does Anna live?", " ".join(["Anna lives in Rome."] * n)) for n in (1, 30)]
    windows = encode_prompts(tokenizer, asked, LINES, WindowOptions(52, 8), True)
    assert len(windows) > 2
    assert windows == encode_prompts(texts.metaspace(), asked, LINES, WindowOptions(52, 8))
    assert all(window.ids[0] == tokenizer.bos_token_id for window in windows)
    kept = encode_prompts(tokenizer, asked, LINES, WindowOptions(52, 8))
    assert all(window.ids[-1] == tokenizer.eos_token_id for window in kept)


def test_no_room_for_a_question() -> None:
    with pytest.raises(UsageError, match="leaves no room for a question beside the prompt's"):
        encode_prompts(TOKENIZERS["wordpiece"], [example("no " * 60, "bad")], PROMPT, WindowOptions(32, 8))
