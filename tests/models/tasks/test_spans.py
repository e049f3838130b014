"""The task of extractive reading: batches, choices and their loss on four kinds of encoders, against transformers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compresskit.methods.teaching import cross_entropy
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from compresskit.models.task import Batch
from compresskit.models.tasks.span_batches import SpanCollator, span_logits
from compresskit.models.tasks.span_features import SpanFeatures, write_features
from compresskit.models.tasks.spans import SPANS
from tests.models import tiny
from tests.models.tiny import KINDS, Kind, example


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainableModel:
    kind: Kind = request.param
    made = load_trainable(resolve(str(tiny.save(kind, tmp_path_factory.mktemp("spans") / kind))))
    made.model.eval()
    return made


@pytest.fixture
def built(loaded: TrainableModel, tmp_path: Path) -> SpanFeatures:
    asked = [
        example("a bad head", "face jade " * 3, (5, 9)),
        example("bad", "face", (0, 4)),
        example("a bad jade head?", "jade, face. " * 9, (6, 10)),
        example("no head", "a b c d e f g h"),
    ]
    return write_features(loaded.tokenizer, asked, WindowOptions(64, 8), tmp_path / "features")


def own_inputs(loaded: TrainableModel, ids: Any, types: Any) -> dict[str, Tensor]:
    """One window as transformers wants it, without padding."""
    inputs = {"input_ids": torch.tensor(np.asarray(ids, dtype=np.int64))[None]}
    if loaded.model.config.model_type in ("bert", "electra"):
        inputs["token_type_ids"] = torch.tensor(np.asarray(types, dtype=np.int64))[None]
    return inputs


@torch.no_grad()
def test_logits_with_padding_are_those_without(loaded: TrainableModel, built: SpanFeatures) -> None:
    batch = SPANS.collator(loaded.tokenizer)(list(built))
    logits = span_logits(loaded.model, batch)
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
def test_what_is_not_padded_needs_no_mask(loaded: TrainableModel) -> None:
    """With it or without, the logits are the same, and a teacher's are kept at full length."""
    row = {"input_ids": list(range(5, 21)), "token_type_ids": [0] * 16, "start": 1, "end": 2}
    batch = SPANS.collator(loaded.tokenizer)([row, row])
    assert "attention_mask" not in batch
    masked = {**batch, "attention_mask": torch.ones(2, 16, dtype=torch.long)}
    assert torch.equal(span_logits(loaded.model, batch), span_logits(loaded.model, masked))
    kept = [SPANS.keep(SPANS.choices(loaded.model, each), each) for each in (batch, masked)]
    assert [len(each["teacher"]) for each in kept[0]] == [16, 16]
    assert all(np.array_equal(a["teacher"], b["teacher"]) for a, b in zip(*kept, strict=True))


def loss(loaded: TrainableModel, batch: Batch) -> Tensor:
    return cross_entropy(SPANS.choices(loaded.model, batch))


@torch.no_grad()
def test_choices_are_the_starts_and_then_the_ends(loaded: TrainableModel, built: SpanFeatures) -> None:
    batch = SPANS.collator(loaded.tokenizer)(list(built))
    choices, logits = SPANS.choices(loaded.model, batch), span_logits(loaded.model, batch)
    assert torch.equal(choices.logits, torch.cat((logits[:, :, 0], logits[:, :, 1])))
    assert choices.labels is not None
    assert choices.labels.tolist() == [row["start"] for row in built] + [row["end"] for row in built]
    del batch["start"], batch["end"]
    assert SPANS.choices(loaded.model, batch).labels is None


@torch.no_grad()
def test_the_loss_is_transformers_own(loaded: TrainableModel) -> None:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, len(loaded.tokenizer), (5, 16), generator=generator)  # a multiple of 8: no padding
    start, end = torch.randint(0, 16, (2, 5), generator=generator)
    features = [
        {"input_ids": row, "token_type_ids": np.zeros(16), "start": int(s), "end": int(e)}
        for row, s, e in zip(ids.numpy(), start, end, strict=True)
    ]
    batch = SPANS.collator(loaded.tokenizer)(features)
    ours = loss(loaded, batch)
    theirs = loaded.model(input_ids=ids, start_positions=start, end_positions=end).loss
    torch.testing.assert_close(ours, theirs)


@torch.no_grad()
def test_padding_does_not_change_the_loss(loaded: TrainableModel, built: SpanFeatures) -> None:
    collate = SPANS.collator(loaded.tokenizer)
    together = collate(list(built))
    apart = [collate([feature]) for feature in built]
    single = torch.stack([loss(loaded, batch) for batch in apart])
    torch.testing.assert_close(loss(loaded, together), single.mean(), rtol=1e-4, atol=1e-5)


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
