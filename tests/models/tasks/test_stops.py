"""Texts that end at a stop: those that answer nothing are told as unanswerable, and never stand for an answer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from compresskit.data.examples import Example
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.prompt import LINES
from compresskit.models.tasks import text_answers
from compresskit.models.tasks.causal import CAUSAL, _target
from compresskit.models.tasks.hypotheses import Search, Stops, Target
from compresskit.models.tasks.memory import Memory
from tests.models import texts
from tests.models.tasks.test_decoding import END, START, VOCABULARY, batch, found, log_probability, t5

WORD, BLANK, STOP = 2, 3, 4
NULL = (WORD, END)


def answer(tokens: Sequence[int]) -> tuple[int, ...]:
    """What stands before the stop, without blanks around it, as texts have it."""
    text = "".join(map(str, tokens)).partition(str(STOP))[0].strip(str(BLANK))
    return tuple(map(int, text))


def void(tokens: Sequence[int]) -> bool:
    return answer(tokens) in ((), (WORD,))


STOPS = Stops(lambda told: [STOP in text for text in told], lambda told: [void(text) for text in told], (STOP,))
TARGET = Target([START], NULL, END, STOPS)
ENDS = (END, STOP)


@pytest.mark.parametrize("seed", range(4))
def test_with_beams_enough_it_is_the_best_of_all_texts_that_answer(seed: int) -> None:
    """Every text of at most two tokens before its end or its stop is enumerated."""
    model = t5(seed=seed)
    ids, mask = batch()
    how = Search(beams=VOCABULARY**3, length_penalty=0.6, max_tokens=3)
    nulls, answers = found(model, TARGET, how, ids, mask)
    starts = [text for n in range(3) for text in itertools.product((0, 2, 3, 5), repeat=n)]
    ended = [(*text, end) for text in starts for end in ENDS if not void(text)]
    for row in range(len(ids)):
        own = ids[row : row + 1], mask[row : row + 1]
        likely = functools.partial(log_probability, model, *own, [START])
        assert nulls[row] == pytest.approx(math.log(sum(math.exp(likely((WORD, end))) for end in ENDS)), abs=1e-4)
        scores = {text: likely(text) for text in ended}
        best = sorted(scores, key=lambda text: -scores[text] / len(text) ** 0.6)[:9]
        told = [each for each in answers[row] if len(each.tokens) < 3 or each.tokens[-1] == STOP][:9]
        expected = [tuple(token for token in text if token != END) for text in best]
        assert [tuple(each.tokens) for each in told] == expected
        assert [each.score for each in told] == pytest.approx([scores[text] for text in best], abs=1e-4)
        assert not any(void(each.tokens) for each in answers[row])


def naive(likely: Any, most: int) -> list[int]:
    """The likeliest next token, without the texts that would be over with it and answer nothing."""
    nothing = sum(math.exp(likely((WORD, end))) for end in ENDS)
    tokens: list[int] = []
    while True:
        chances = {}
        for token in range(VOCABULARY):
            text = [*tokens, token]
            over = token in ENDS or len(text) == most
            if not (over and void([each for each in text if each != END])):
                chances[token] = math.exp(likely(tuple(text))) - nothing * (tuple(text) == (WORD,))
        best = max(chances, key=lambda token: chances[token])
        if best == END:
            return tokens
        tokens.append(best)
        if best == STOP or len(tokens) == most:
            return tokens


@pytest.mark.parametrize("seed", range(6))
def test_greedily_the_next_token_is_taken(seed: int) -> None:
    """From a model that likes blanks, ends and stops."""
    model = t5(seed=seed)
    model.shared.weight.data[[END, STOP, BLANK, WORD]] *= 2
    ids, mask = batch()
    _, answers = found(model, TARGET, Search(max_tokens=5), ids, mask)
    for row, (best,) in enumerate(answers):
        likely = functools.partial(log_probability, model, ids[row : row + 1], mask[row : row + 1], [START])
        assert list(best.tokens) == naive(likely, 5)
        assert not void(best.tokens)


# All that is asked of a model beside its memory.
MODEL = SimpleNamespace(config=SimpleNamespace(vocab_size=400))


class Table(Memory):
    """A model that knows some texts (token ids) and how likely each is, and no other."""

    def __init__(self, table: Sequence[tuple[list[int], float]], rows: list[list[int]]) -> None:
        self.table, self.rows = table, rows

    @property
    def size(self) -> int:
        return len(self.rows)

    def together(self, others: Sequence[Self]) -> Self:
        raise NotImplementedError  # a test asks one batch, so that no memories come together

    def logits(self, rows: Sequence[list[int]]) -> Tensor:
        logits = torch.full((len(rows), MODEL.config.vocab_size), 1e-9)
        for row, written in enumerate(rows):
            for text, chance in self.table:
                if text[: len(written)] == written and len(text) > len(written):
                    logits[row, text[len(written)]] += chance
        return logits.log()

    def first(
        self, start: Sequence[int], null: Sequence[int], closing: Sequence[int] = (), unknown: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        told = [self.logits([list(null[:n])])[0].softmax(0) for n in range(len(null))]
        chance = math.prod(float(step[token]) for step, token in zip(told[:-1], null[:-1], strict=True))
        chance *= sum(float(told[-1][token]) for token in (null[-1], *closing))
        return torch.full((len(self.rows),), math.log(chance)), self.logits(self.rows)

    def read(self, tokens: Tensor) -> Tensor:
        self.rows = [[*row, int(token)] for row, token in zip(self.rows, tokens, strict=True)]
        return self.logits(self.rows)

    def repeat(self, times: int) -> None:
        self.rows = [row for row in self.rows for _ in range(times)]

    def select(self, places: Tensor) -> None:
        self.rows = [self.rows[int(place)] for place in places]

    def join(self, others: Sequence[Self]) -> None:
        raise NotImplementedError  # likewise


def predicted(likely: dict[str, float], options: AnswerOptions) -> Prediction:
    """The answer of a model that writes some texts; "$" is the end of a sequence."""
    tokenizer = texts.byte_level()
    table = [(tokenizer(text.replace("$", "<|end|>"))["input_ids"], chance) for text, chance in likely.items()]
    loaded: Any = SimpleNamespace(
        tokenizer=tokenizer, task=CAUSAL, manifest=None, ref="table", device=torch.device("cpu"), model=MODEL
    )
    asked = [Example("q", "t", "Where?", "Anna lives in Rome.", (), False, 0)]
    (answered,) = text_answers.answer(
        loaded,
        asked,
        options,
        functools.partial(_target, CAUSAL),
        lambda loaded, prompts, multiple: Table(table, [[] for _ in prompts]),
    )
    return answered


LIKELY = {" I don't know\n": 0.5, " I don't know \n": 0.39, " I don't know$": 0.01, " Rome\n": 0.099, " Rome$": 0.001}


@pytest.mark.parametrize("search", [{}, {"n_best": 3}, {"beams": 4}])
def test_unanswerable_that_ends_in_a_line_break_is_unanswerable(search: dict[str, Any]) -> None:
    options = AnswerOptions(max_length=128, stride=16, **search)
    found = predicted(LIKELY, options)
    assert (found.text, found.span_text) == ("", "Rome")
    assert found.null_score == pytest.approx(math.log(0.9), abs=1e-3)
    assert found.score == pytest.approx(math.log(0.099), abs=1e-3)
    asked = AnswerOptions(max_length=128, stride=16, null_threshold=1000.0, **search)
    assert predicted(LIKELY, asked).text == "Rome"


@pytest.mark.parametrize(
    ("nothing", "search"),
    [*itertools.product(["\n", " \n", "\n\n"], [{}, {"beams": 3}]), ("  \n", {"beams": 3})],
)
def test_an_answer_is_not_empty(nothing: str, search: dict[str, Any]) -> None:
    options = AnswerOptions(max_length=128, stride=16, **search)
    found = predicted({f"{nothing}$": 0.8, " Rome\n": 0.2}, options)
    assert found.text == "Rome"
    assert found.score == pytest.approx(math.log(0.2), abs=1e-3)


@pytest.mark.parametrize("kind", ["byte_level", "metaspace"])
def test_tokens_that_stop_the_word_for_unanswerable(kind: str) -> None:
    """Blanks may stand before the line break, and anything behind it."""
    tokenizer = getattr(texts, kind)()
    tokenizer.add_tokens(["\nQ", "x\n", "\t\n"])
    loaded: Any = SimpleNamespace(tokenizer=tokenizer, model=MODEL, device=torch.device("cpu"))
    target = _target(CAUSAL, loaded, LINES)
    assert target.stops is not None
    told = {tokenizer.decode([token]) for token in target.stops.closing}
    assert told == {"\n", "\nQ", "\t\n"} | ({"\n\n", " \n"} if kind == "byte_level" else set())
    assert len(target.closing) == len(told)
