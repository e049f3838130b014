"""The encoder family on four kinds of models, against transformers' own forward passes and losses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    BertConfig,
    CanineConfig,
    GPT2Config,
    LlamaConfig,
    T5Config,
)

from compresskit.models.answering import WindowOptions
from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.models.tasks.span_answers import best_spans
from compresskit.models.tasks.span_batches import SpanCollator
from compresskit.models.tasks.span_features import SpanFeatures
from tests.models import tiny
from tests.models.tiny import KINDS, Kind, example

FAMILY = EncoderFamily()


def opened(folder: Path) -> TrainableModel:
    loaded = load_trainable(resolve(str(folder)))
    loaded.model.eval()
    return loaded


BERT_BLOCK = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
BLOCKS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "bert": ("bert.encoder.layer", BERT_BLOCK),
    "roberta": ("roberta.encoder.layer", BERT_BLOCK),
    "electra": ("electra.encoder.layer", BERT_BLOCK),
    "distilbert": (
        "distilbert.transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: tiny.save(kind, root / kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def loaded(kind: Kind, folders: dict[Kind, Path]) -> TrainableModel:
    return opened(folders[kind])


@pytest.fixture
def built(loaded: TrainableModel, tmp_path: Path) -> SpanFeatures:
    asked = [
        example("a bad head", "face jade " * 3, (5, 9)),
        example("bad", "face", (0, 4)),
        example("a bad jade head?", "jade, face. " * 9, (6, 10)),
        example("no head", "a b c d e f g h"),
    ]
    return FAMILY.features(loaded.tokenizer, asked, WindowOptions(64, 8), tmp_path / "features")


def test_what_may_be_masked(kind: Kind, loaded: TrainableModel) -> None:
    prefix, parts = BLOCKS[kind]
    expected = {f"{prefix}.{layer}.{part}.weight" for layer in range(2) for part in parts}
    found = FAMILY.prunable(loaded.model)
    assert set(found) == expected
    assert all(module.weight is loaded.model.get_parameter(name) for name, module in found.items())
    assert {type(module) for module in found.values()} == {nn.Linear}


def test_the_head(loaded: TrainableModel) -> None:
    assert FAMILY.head(loaded.model) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert not loaded.missing_head


def test_what_learns_beside_the_masked_weights(kind: Kind, loaded: TrainableModel) -> None:
    """Biases and norms of the blocks and the head, and nothing of the embeddings."""
    prefix, parts = BLOCKS[kind]
    masked = {f"{prefix}.{layer}.{part}.weight" for layer in range(2) for part in parts}
    names = {name for name, _ in loaded.model.named_parameters()}
    expected = {name for name in names if name.startswith((prefix + ".", "qa_outputs."))} - masked
    assert FAMILY.trainable_with_masks(loaded.model) - masked == expected
    assert sum("norm" in name.lower() for name in expected) == 2 * 2 * 2  # two norms a block, weight and bias


def test_longest_input(kind: Kind, loaded: TrainableModel) -> None:
    longest = FAMILY.max_positions(loaded.model.config)
    assert longest == tiny.POSITIONS
    ids = torch.full((1, longest + 1), 7)
    loaded.model(input_ids=ids[:, :longest])
    with pytest.raises((IndexError, RuntimeError)):
        loaded.model(input_ids=ids)


def test_no_limit_where_the_configuration_names_none() -> None:
    assert FAMILY.max_positions(T5Config()) is None


def own_inputs(loaded: TrainableModel, ids: Any, types: Any) -> dict[str, Tensor]:
    """One window as transformers wants it, without padding."""
    inputs = {"input_ids": torch.tensor(np.asarray(ids, dtype=np.int64))[None]}
    if loaded.model.config.model_type in ("bert", "electra"):
        inputs["token_type_ids"] = torch.tensor(np.asarray(types, dtype=np.int64))[None]
    return inputs


@torch.no_grad()
def test_logits_with_padding_are_those_without(loaded: TrainableModel, built: SpanFeatures) -> None:
    batch = FAMILY.collator(loaded.tokenizer)(list(built))
    logits = FAMILY.logits(loaded.model, batch)
    lengths = built.lengths.tolist()
    assert len(set(lengths)) > 2
    assert logits.shape == (len(built), math.ceil(max(lengths) / 8) * 8, 2)
    assert logits.dtype == torch.float32
    for row, length in enumerate(lengths):
        own = loaded.model(**own_inputs(loaded, built[row]["input_ids"], built[row]["token_type_ids"]))
        expected = torch.stack((own.start_logits[0], own.end_logits[0]), dim=1)
        torch.testing.assert_close(logits[row, :length], expected, rtol=1e-4, atol=1e-5)
        assert bool((logits[row, length:] == float("-inf")).all())


@torch.no_grad()
def test_the_loss_is_transformers_own(loaded: TrainableModel) -> None:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(loaded.tokenizer), (5, 16), generator=generator)  # a multiple of 8: no padding
    start, end = torch.randint(0, 16, (2, 5), generator=generator)
    features = [
        {"input_ids": row, "token_type_ids": np.zeros(16), "start": int(s), "end": int(e)}
        for row, s, e in zip(ids.numpy(), start, end, strict=True)
    ]
    batch = FAMILY.collator(loaded.tokenizer)(features)
    ours = FAMILY.loss(FAMILY.logits(loaded.model, batch), batch)
    theirs = loaded.model(input_ids=ids, start_positions=start, end_positions=end).loss
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_padding_does_not_change_the_loss(loaded: TrainableModel, built: SpanFeatures) -> None:
    collate = FAMILY.collator(loaded.tokenizer)
    together = collate(list(built))
    apart = [collate([feature]) for feature in built]
    single = torch.stack([FAMILY.loss(FAMILY.logits(loaded.model, batch), batch) for batch in apart])
    torch.testing.assert_close(
        FAMILY.loss(FAMILY.logits(loaded.model, together), together), single.mean(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("with_types", [True, False])
def test_the_collator_pads_everything(with_types: bool) -> None:
    features = [
        {
            "input_ids": [5, 6, 7],
            "token_type_ids": [0, 1, 1],
            "start": 1,
            "end": 2,
            "teacher": np.ones((3, 2), np.half),
        },
        {"input_ids": [8] * 9, "token_type_ids": [1] * 9, "start": 0, "end": 0, "teacher": np.zeros((9, 2), np.half)},
    ]
    batch = SpanCollator(pad_id=3, with_types=with_types)(features)
    assert batch["input_ids"].tolist() == [[5, 6, 7] + [3] * 13, [8] * 9 + [3] * 7]
    assert batch["attention_mask"].tolist() == [[1] * 3 + [0] * 13, [1] * 9 + [0] * 7]
    assert ("token_type_ids" in batch) is with_types
    if with_types:
        assert batch["token_type_ids"].tolist() == [[0, 1, 1] + [0] * 13, [1] * 9 + [0] * 7]
    assert (batch["start"].tolist(), batch["end"].tolist()) == ([1, 0], [2, 0])
    assert bool((batch["teacher"][0, :3] == 1).all())
    assert bool((batch["teacher"][0, 3:] == float("-inf")).all())
    assert bool((batch["teacher"][1, 9:] == float("-inf")).all())


@pytest.mark.parametrize(
    ("config", "owned"),
    [(BertConfig(), True), (CanineConfig(), True), (GPT2Config(), False), (LlamaConfig(), False), (T5Config(), False)],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_encoders_are_owned_and_decoders_are_not(config: Any, owned: bool) -> None:
    assert FAMILY.owns(config) is owned


def test_a_model_is_built_of_a_configuration(kind: Kind, folders: dict[Kind, Path]) -> None:
    config = AutoConfig.from_pretrained(folders[kind])
    assert type(FAMILY.build(config)) is type(AutoModelForQuestionAnswering.from_config(config))


# The label words' embeddings as a head.


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_masked_lm_base_gets_the_embeddings_of_yes_and_no(kind: Kind, tmp_path: Path) -> None:
    loaded = opened(tiny.save(kind, tmp_path / kind, head="mlm"))
    assert loaded.missing_head
    assert FAMILY.label_head(tmp_path / kind, loaded.model, loaded.tokenizer)
    embeddings = loaded.model.get_input_embeddings().get_parameter("weight")
    yes, no = (loaded.tokenizer.get_vocab()[word] for word in ("yes", "no"))
    weight, bias = (loaded.model.get_parameter(f"qa_outputs.{name}") for name in ("weight", "bias"))
    assert torch.equal(weight, torch.stack((embeddings[yes], embeddings[no])))
    assert bias.tolist() == [0.0, 0.0]


REFUSED = [
    *(pytest.param(kind, "none", True, id=f"{kind} without a head") for kind in KINDS),
    pytest.param("electra", "mlm", True, id="embeddings of another width"),
    pytest.param("bert", "mlm", False, id="no such word"),
]


@pytest.mark.parametrize(("kind", "head", "knows_yes"), REFUSED)
def test_other_bases_keep_their_random_head(kind: Kind, head: str, knows_yes: bool, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind, head=head)
    loaded = opened(folder)
    if not knows_yes:
        words = loaded.tokenizer.get_vocab()
        words["zzz"] = words.pop("yes")
        loaded.tokenizer = type(loaded.tokenizer)(vocab=words)
    before = {name: loaded.model.get_parameter(name).clone() for name in FAMILY.head(loaded.model)}
    assert not FAMILY.label_head(folder, loaded.model, loaded.tokenizer)
    assert all(torch.equal(loaded.model.get_parameter(name), value) for name, value in before.items())


# Spans.


def every_span(logits: Tensor, context: Tensor, longest: int) -> dict[tuple[int, int], float]:
    """The score of every span inside the context, by a loop."""
    inside = [position for position, is_context in enumerate(context.tolist()) if is_context]
    return {
        (start, end): float(logits[start, 0] + logits[end, 1])
        for start in inside
        for end in inside
        if start <= end < start + longest
    }


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=3),
    n_best=st.integers(1, 7),
    longest=st.integers(1, 20),
    whole=st.booleans(),
)
def test_best_spans_are_those_of_a_loop(seed, lengths, n_best: int, longest: int, whole: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(lengths), 16, 2, generator=generator)
    if whole:
        logits = logits.round()  # many spans of one score
    context = torch.zeros(len(lengths), 16, dtype=torch.bool)
    for row, (first, size) in enumerate(lengths):
        context[row, first : first + size] = True
        logits[row, first + size + 1 :] = float("-inf")  # padding
    found = best_spans(logits, context, n_best, longest)
    for row in range(len(lengths)):
        spans = every_span(logits[row], context[row], longest)
        best = sorted(spans.values(), reverse=True)[:n_best]
        shown = [score for score in found.scores[row].tolist() if score != float("-inf")]
        assert shown == pytest.approx(best)
        places = list(zip(found.starts[row].tolist(), found.ends[row].tolist(), strict=True))[: len(shown)]
        assert len(set(places)) == len(places)
        assert [spans[place] for place in places] == pytest.approx(shown)
