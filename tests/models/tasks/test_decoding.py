"""The search for answers against the enumeration of all texts, a naive greedy loop, and transformers' generate."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from compresskit.models.tasks import decoding
from compresskit.models.tasks.decoding import Decoder
from compresskit.models.tasks.hypotheses import Hypothesis, Search, Stops, Target
from compresskit.models.tasks.memory import EncoderMemory

PAD, END, START = 0, 1, 0
VOCABULARY = 6
TOKENS = range(2, VOCABULARY)


def t5(vocabulary: int = VOCABULARY, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    config.decoder_start_token_id = START
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.shared.weight.mul_(2.0)  # so that some tokens are likelier than others
    return model


def bart(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=40,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        init_std=0.6,
        pad_token_id=PAD,
        eos_token_id=END,
        bos_token_id=2,
    )
    config.decoder_start_token_id, config.forced_bos_token_id, config.forced_eos_token_id = END, None, None
    return BartForConditionalGeneration(config).eval()


def batch(vocabulary: int = VOCABULARY, rows: int = 5) -> tuple[Tensor, Tensor]:
    """Inputs of unlike length, padded on the right."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(2, vocabulary, (rows, 9), generator=generator)
    mask = (torch.arange(9) < torch.tensor([[9], [4], [6], [2], [7]])[:rows]).long()
    return ids * mask, mask


@torch.no_grad()
def found(model: Any, target: Target, how: Search, ids: Tensor, mask: Tensor) -> tuple[list[float], Any]:
    hidden = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    decoder = Decoder(target, how)
    decoder.add(EncoderMemory(model, hidden, mask), range(len(ids)))
    answers = decoder.finish()
    return [answers[row][0] for row in range(len(ids))], [answers[row][1] for row in range(len(ids))]


@torch.no_grad()
def log_probability(model: Any, ids: Tensor, mask: Tensor, start: list[int], text: tuple[int, ...]) -> float:
    """Of a text with what ends it, by one pass without any memory."""
    decoder = torch.tensor([[*start, *text[:-1]]])
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder).logits[0]
    logp = logits.log_softmax(-1)[len(start) - 1 :]
    return sum(float(logp[position, token]) for position, token in enumerate(text))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("null", [(2, END), (3, 2, END), (2, 2, 4, END)])
def test_with_beams_enough_it_is_the_best_of_all_texts(null: tuple[int, ...], seed: int) -> None:
    """Every text of at most three tokens is enumerated; the unanswerable target is none of the answers."""
    model = t5(seed=seed)
    ids, mask = batch()
    how = Search(beams=(VOCABULARY - 1) ** 3 + 30, length_penalty=0.6, max_tokens=4)
    nulls, answers = found(model, Target([START], null, END), how, ids, mask)
    texts = [text for n in (1, 2, 3) for text in itertools.product((PAD, *TOKENS), repeat=n)]
    for row in range(len(ids)):
        own = ids[row : row + 1], mask[row : row + 1]
        assert nulls[row] == pytest.approx(log_probability(model, *own, [START], null), abs=1e-4)
        scores = {text: log_probability(model, *own, [START], (*text, END)) for text in texts if (*text, END) != null}
        best = max(scores, key=lambda text: scores[text] / (len(text) + 1) ** 0.6)
        ended = [each for each in answers[row] if len(each.tokens) < 4]
        assert tuple(ended[0].tokens) == best
        assert ended[0].score == pytest.approx(scores[best], abs=1e-4)
        assert all((*each.tokens, END) != null for each in answers[row])


def naive_greedy(model: Any, ids: Tensor, mask: Tensor, null: tuple[int, ...], most: int) -> list[int]:
    """The likeliest next token, with the probability of the unanswerable target taken from those that lead to it."""
    excluded = math.exp(log_probability(model, ids, mask, [START], null))
    written: list[int] = []
    while len(written) < most:
        chances = {}
        for token in (END, PAD, *TOKENS):
            text = (*written, token)
            chance = math.exp(log_probability(model, ids, mask, [START], text))
            chances[token] = chance - excluded * (text == null[: len(text)])
        if not written:
            del chances[END]
        best = max(chances, key=lambda token: chances[token])
        if best == END:
            break
        written.append(best)
    return written


@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy_without_the_unanswerable_target(seed: int) -> None:
    model = t5(seed=seed)
    ids, mask = batch()
    # The target is what the model would write, so that it matters.
    plain = found(model, Target([START], (5, 5, 5, 5, END), END), Search(max_tokens=6), ids, mask)[1]
    null = (*plain[0][0].tokens[:3], END)
    _, answers = found(model, Target([START], null, END), Search(max_tokens=6), ids, mask)
    for row, hypotheses in enumerate(answers):
        own = ids[row : row + 1], mask[row : row + 1]
        assert len(hypotheses) == 1
        expected = naive_greedy(model, *own, null, 6)
        assert list(hypotheses[0].tokens) == expected
        ending = (END,) if len(expected) < 6 else ()
        score = log_probability(model, *own, [START], (*expected, *ending))
        assert hypotheses[0].score == pytest.approx(score, abs=1e-4)


def generated(model: Any, ids: Tensor, mask: Tensor, beams: int, penalty: float) -> list[list[int]]:
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=penalty,
        early_stopping=False,
        min_new_tokens=1,
        max_new_tokens=8,
        do_sample=False,
    )
    # Without the start, and what stands behind the end.
    return [list(itertools.takewhile(lambda token: token != END, row[1:].tolist())) for row in out]


def texts(answers: list[list[Hypothesis]]) -> list[list[int]]:
    return [list(each.tokens) for hypotheses in answers for each in hypotheses]


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (3, 1.0), (4, 0.4), (2, 2.0)])
def test_it_equals_transformers_where_unanswerable_is_unlikely(kind: str, beams: int, penalty: float) -> None:
    model, start = (t5(40, seed=3), START) if kind == "t5" else (bart(seed=2), END)
    ids, mask = batch(40)
    null = (*range(20, 32), END)
    nulls, answers = found(model, Target([start], null, END), Search(beams, penalty, 8), ids, mask)
    assert max(nulls) < -20
    expected = generated(model, ids, mask, beams, penalty)
    if kind == "t5":  # padding is not written
        expected = [[token for token in row if token != PAD] for row in expected]
        assert [[token for token in row if token != PAD] for row in texts(answers)] == expected
    else:
        assert texts(answers) == expected


def test_rows_do_not_depend_on_each_other() -> None:
    model = t5(40, seed=3)
    ids, mask = batch(40)
    target, how = Target([START], (9, 8, END), END), Search(3, 1.0, 8)
    together = found(model, target, how, ids, mask)
    for row in range(len(ids)):
        nulls, answers = found(model, target, how, ids[row : row + 1], mask[row : row + 1])
        assert nulls[0] == pytest.approx(together[0][row], abs=1e-4)
        assert texts(answers) == texts(together[1][row : row + 1])


@pytest.mark.parametrize("waiting", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_long_answers_of_several_batches_go_on_together(
    kind: str, beams: int, waiting: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of unlike length find what each row finds alone, in fewer passes."""
    monkeypatch.setattr(decoding, "WAITING", waiting)
    model, start = (t5(40, seed=3), START) if kind == "t5" else (bart(seed=2), END)
    ids, mask = batch(40)
    target, how = Target([start], (9, 8, END), END), Search(beams, 1.0, 14)
    passes: list[int] = []
    model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    alone = [found(model, target, how, ids[row : row + 1], mask[row : row + 1]) for row in range(5)]
    each, decoder = len(passes), Decoder(target, how)
    for rows in ([0, 2], [1], [3, 4]):
        length = int(mask[rows].sum(dim=1).max())
        ids_, mask_ = ids[rows, :length], mask[rows, :length]
        with torch.no_grad():
            hidden = model.get_encoder()(input_ids=ids_, attention_mask=mask_).last_hidden_state
        decoder.add(EncoderMemory(model, hidden, mask_), rows)
    answers = decoder.finish()
    assert max(len(hypotheses[0].tokens) for _, hypotheses in answers.values()) > decoding.STAGES[0]
    assert len(passes) - each < (each if waiting else each + 1)
    for row, ((null,), (expected,)) in enumerate(alone):
        assert answers[row][0] == pytest.approx(null, abs=1e-4)
        assert texts([answers[row][1]]) == texts([expected])
        assert [h.score for h in answers[row][1]] == pytest.approx([h.score for h in expected], abs=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_text_that_stops_is_searched_no_further(beams: int) -> None:
    """The best text of a search that goes on, up to the stop, in fewer passes; its score is that of what is written."""
    model, target = t5(vocabulary=12, seed=3), Target([START], [9, END], END)
    ids, mask = batch(12, rows=1)
    passes: list[int] = []
    model.decoder.register_forward_hook(lambda *_: passes.append(1))
    how = Search(beams, 0.0, 12)
    nulls, ((plain, *_),) = found(model, target, how, ids, mask)
    long, stop = len(passes), plain.tokens[1]
    stops = Stops(lambda written: [stop in tokens for tokens in written], lambda written: [False] * len(written))
    again, (stopped,) = found(model, replace(target, stops=stops), how, ids, mask)
    assert again == nulls
    assert len(passes) - long <= long
    assert any(stop in each.tokens for each in stopped)
    for each in stopped:
        assert stop not in each.tokens[:-1]
        told = log_probability(model, ids, mask, [START], tuple(each.tokens))
        assert each.score == pytest.approx(told, abs=1e-4)
    if beams == 1:
        assert len(passes) - long < long
        assert list(stopped[0].tokens) == list(plain.tokens[: list(plain.tokens).index(stop) + 1])
