"""What every family of models, and its task, must fulfil. A new one is tested by being registered (see makers.py)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ViTConfig

from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions, WindowOptions
from compresskit.models.families import FAMILIES, family_of_config
from compresskit.models.folder import read_config
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from compresskit.models.task import Batch, Features, Items, Kept, Lesson, Task
from tests.contract import makers

WINDOWS = WindowOptions(40, 8)  # so short that a long context takes two


@dataclass(frozen=True)
class Case:
    """A model of a family, questions, and the features that its task makes of them."""

    loaded: TrainableModel
    examples: ExampleSet
    features: Features
    folder: Path

    @property
    def task(self) -> Task:
        return self.loaded.task

    def batch(self, *numbers: int, kept: Any = None) -> Batch:
        """The collated features of these numbers, with what is kept of a teacher for each."""
        items = [dict(self.features[number]) | (kept[at] if kept else {}) for at, number in enumerate(numbers)]
        return self.task.collator(self.loaded.tokenizer)(items)


@pytest.fixture(scope="module", params=[family.name for family in FAMILIES])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    folder = makers.made(request.param, root / "checkpoint")
    loaded = load_trainable(Source("tiny", folder))
    loaded.model.eval()
    examples = load_data(str(makers.data(root / "data.json")), "train")
    loaded.task.write(loaded.tokenizer, examples, WINDOWS, root / "features")
    return Case(loaded, examples, loaded.task.open(root / "features"), folder)


def test_a_family_without_a_maker_is_told() -> None:
    with pytest.raises(pytest.fail.Exception, match="register a maker for the family nobody"):
        makers.made("nobody", Path())


# The family


def test_names_are_unlike() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_it_owns_exactly_its_configurations(case: Case) -> None:
    config = read_config(case.folder)
    assert family_of_config(config, "tiny") is case.loaded.family
    with pytest.raises(InputError, match="vit"):
        family_of_config(ViTConfig(), "tiny")
    assert not case.loaded.family.owns(ViTConfig())


def test_loading_tells_what_is_missing(case: Case, tmp_path: Path) -> None:
    family, config = case.loaded.family, read_config(case.folder)
    model, missing = family.load(case.folder, config, torch.float32)
    assert missing == set()
    bare = makers.without_head(makers.made(family.name, tmp_path / "bare"))
    assert family.load(bare, config, torch.float32)[1] == family.head(model)
    assert load_trainable(Source("bare", bare)).missing_head == bool(family.head(model))
    assert not case.loaded.missing_head


def test_what_a_method_may_change_learns_apart_from_the_head(case: Case) -> None:
    family, model = case.loaded.family, case.loaded.model
    parameters, weights = dict(model.named_parameters()), family.weights(model)
    head, alongside = family.head(model), family.alongside(model)
    assert weights
    assert {*weights, *head, *alongside} <= parameters.keys()
    assert not weights.keys() & head
    assert not weights.keys() & alongside
    assert head <= alongside
    for name, module in weights.items():
        assert module.get_parameter(name.rpartition(".")[2]) is parameters[name]
        assert parameters[name].ndim == 2


def test_limits_are_numbers(case: Case) -> None:
    family, config = case.loaded.family, case.loaded.model.config
    positions = family.max_positions(config)
    assert positions is None or positions >= WINDOWS.max_length
    assert family.defaults.lr > 0
    assert family.defaults.epochs > 0


# Its task


def test_features_are_those_that_were_written(case: Case, tmp_path: Path) -> None:
    features, task = case.features, case.task
    assert len(features) == len(features.lengths) > len(case.examples)
    assert features.bounds.shape == (len(features) + 1,)
    assert features.bounds[0] == 0
    assert (np.diff(features.bounds) > 0).all()
    assert 0 < features.lengths.min() <= features.lengths.max() <= WINDOWS.max_length
    task.write(case.loaded.tokenizer, case.examples, WINDOWS, tmp_path / "again")
    assert task.open(tmp_path / "again").fingerprint() == features.fingerprint()
    task.write(case.loaded.tokenizer, case.examples, WindowOptions(48, 8), tmp_path / "other")
    assert task.open(tmp_path / "other").fingerprint() != features.fingerprint()


@torch.no_grad()
def test_every_label_is_a_choice(case: Case) -> None:
    batch = case.batch(*range(6))
    choices = case.task.choices(case.loaded.model, batch)
    assert choices.labels is not None
    assert choices.logits.dtype == torch.float32
    assert choices.logits.ndim == 2
    assert choices.labels.shape == choices.logits.shape[:1]
    assert choices.labels.dtype == torch.int64
    assert not choices.logits.isnan().any()
    assert choices.logits.gather(1, choices.labels.unsqueeze(1)).isfinite().all()


@torch.no_grad()
def test_choices_do_not_depend_on_the_batch(case: Case) -> None:
    """The loss of a feature is the same beside longer ones."""
    order = np.argsort(case.features.lengths)
    ends = [int(order[0]), int(order[-1])]
    together = loss(case, case.batch(*ends))
    assert together == pytest.approx(sum(loss(case, case.batch(number)) for number in ends), abs=1e-4)


def loss(case: Case, batch: Batch) -> float:
    choices = case.task.choices(case.loaded.model, batch)
    assert choices.labels is not None
    return float(torch.nn.functional.cross_entropy(choices.logits, choices.labels, reduction="sum"))


@torch.no_grad()
def test_what_is_kept_of_a_teacher_is_recalled(case: Case) -> None:
    numbers = [0, 5, 2]
    batch = case.batch(*numbers)
    choices = case.task.choices(case.loaded.model, batch)
    kept = case.task.keep(choices, batch)
    for number, each in zip(numbers, kept, strict=True):
        assert {len(rows) for rows in each.values()} == {np.diff(case.features.bounds)[number]}
        assert not each.keys() & dict(case.features[number]).keys()
    recalled = case.task.recall(case.batch(*numbers, kept=kept), choices.logits.shape[1])
    assert recalled.dtype == torch.float32
    torch.testing.assert_close(recalled, choices.logits)


@torch.no_grad()
def test_a_model_can_teach_itself(case: Case) -> None:
    def ask(items: Items, lengths: NDArray[np.int64]) -> Iterator[tuple[int, Kept]]:
        for number in reversed(range(len(lengths))):
            batch = case.task.collator(case.loaded.tokenizer)([items[number]])
            yield number, case.task.keep(case.task.choices(case.loaded.model, batch), batch)[0]

    pairing = case.task.pairing(case.loaded, case.loaded)
    assert pairing is not None
    lesson = Lesson(case.features, case.examples, WINDOWS)
    assert isinstance(pairing.key(lesson), str)
    kept = dict(pairing.kept(lesson, ask))
    assert sorted(kept) == list(range(len(case.features)))
    batch = case.batch(3)
    logits = case.task.choices(case.loaded.model, batch).logits
    recalled = case.task.recall(case.batch(3, kept=[kept[3]]), logits.shape[1])
    torch.testing.assert_close(recalled, logits)


def test_answers_come_in_the_order_of_the_questions(case: Case) -> None:
    options = AnswerOptions(WINDOWS.max_length, WINDOWS.stride, batch_size=3, n_best=3, null_threshold=1e9)
    questions = list(case.examples)
    found = list(case.task.answer(case.loaded, questions, options))
    assert [each.id for each in found] == [question.id for question in questions]
    for each, question in zip(found, questions, strict=True):
        assert len(each.n_best) <= 3
        if case.task.name == "spans":
            assert each.text
            assert each.text in question.context
            assert all(one.text == question.context[one.start : one.end] for one in each.n_best)
            assert all(one.start is not None for one in each.n_best)
        *chances, null = (*each.probabilities[0], each.probabilities[1] or 0.0)
        assert sum(chances) + null == pytest.approx(1)
    refusing = AnswerOptions(WINDOWS.max_length, WINDOWS.stride, null_threshold=-1e9)
    assert all(each.text == "" for each in case.task.answer(case.loaded, questions, refusing) if each.null_score)


def test_perplexity_is_that_of_a_text(case: Case) -> None:
    options = AnswerOptions(WINDOWS.max_length, WINDOWS.stride)
    found = case.task.perplexity(case.loaded, case.examples, options)
    assert found is None or found > 1
