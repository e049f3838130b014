"""What learns under the masks, and whose head the student takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from compresskit.errors import UsageError
from compresskit.methods.prune.config import Method, PruneConfig
from compresskit.methods.prune.head import set_head
from compresskit.methods.prune.masker import Masker
from compresskit.methods.prune.method import Masks, maskable
from compresskit.methods.run import with_penalties
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.models.lstm import small

METHODS = get_args(Method)
LINEAR = {"attention.self.query", "attention.self.key", "attention.self.value"} | {
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
}


def test_embeddings_are_masked_on_request() -> None:
    loaded = tiny.loaded()
    blocks, words = maskable(loaded, PruneConfig()), maskable(loaded, PruneConfig(mask_embeddings=True))
    assert dict(blocks) == dict(loaded.family.weights(loaded.model))
    (name,) = set(words) - set(blocks)
    assert words[name] is loaded.model.get_input_embeddings()
    assert words[name].weight is loaded.model.get_parameter(name)

    masks = Masker({name: words[name]}, PruneConfig(mask_embeddings=True, sparsity=0.5, penalty=0.0))
    dense = loaded.model.get_parameter("bert.embeddings.word_embeddings.parametrizations.weight.original").clone()
    with torch.no_grad():
        for scores in masks.scores():
            scores[7] = -1.0
            scores[8] = 1.0
    masks.step(1.0)
    read = loaded.model.get_input_embeddings()(torch.tensor([7, 8]))
    assert not read[0].any()
    assert torch.equal(read[1], dense[8])


def test_embeddings_that_another_layer_shares() -> None:
    loaded = tiny.loaded()
    loaded.model.register_module("decoder", torch.nn.Linear(16, 45, bias=False))
    loaded.model.get_submodule("decoder").weight = loaded.model.get_input_embeddings().weight
    with pytest.raises(UsageError, match=r"embeddings with decoder\.weight; leave --mask-embeddings out"):
        maskable(loaded, PruneConfig(mask_embeddings=True))


@pytest.mark.parametrize("head_learns", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_what_learns(method: Any, head_learns: bool, tmp_path: Path) -> None:
    loaded = tiny.loaded(missing_head=head_learns)
    config = PruneConfig(method=method, score_lr=None if method == "magnitude" else 0.5)
    options = TrainingOptions("tiny", tmp_path, lr=0.25, weight_decay=0.125)
    masks = Masks(loaded, config, torch.float32)
    groups = masks.groups(options)

    names = {id(p): name for name, p in loaded.model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected: dict[str, tuple[float, float]] = {}
    for name in names.values():
        block = ".layer." in name
        if name.endswith(".scores"):
            expected[name] = (0.5, 0.0)
        elif name.endswith(".original") and config.learns_weights:
            expected[name] = (0.25, 0.125)
        elif block and config.learns_weights:  # biases and norms
            expected[name] = (0.25, 0.0)
        elif name.startswith("qa_outputs") and (head_learns or config.learns_weights):
            expected[name] = (0.25, 0.0 if name.endswith("bias") else 0.125)
    assert found == expected
    assert {n for n, p in loaded.model.named_parameters() if p.requires_grad} == found.keys()
    scores = [name for name in found if name.endswith(".scores")]
    assert len(scores) == (0 if method == "magnitude" else 2 * len(LINEAR))
    assert [names[id(p)] for p in masks.added()] == scores


@pytest.mark.parametrize("method", METHODS)
def test_a_models_own_penalty_is_on_the_weights_that_learn(method: Any, tmp_path: Path) -> None:
    loaded = small.loaded(tmp_path, l2=0.5)
    config = PruneConfig(method=method)
    masks = Masks(loaded, replace(config, penalty=0.0) if config.regularized else config, torch.float32)
    for scores in masks.added():
        torch.nn.init.normal_(scores)
    masks.groups(TrainingOptions("tiny", tmp_path, lr=1.0))
    objective = with_penalties(lambda model, batch, done: torch.zeros(()), loaded, masks)
    expected = sum(
        0.5 * float(weight.detach().double().square().sum())
        for name, weight in loaded.model.named_parameters()
        if config.learns_weights and weight.ndim > 1 and "scores" not in name and "embeddings.words" not in name
    )
    assert objective(loaded.model.train(), {}, 0.0).item() == pytest.approx(expected, rel=1e-5)
    assert objective(loaded.model.eval(), {}, 0.0).item() == 0


def test_the_penalty_of_the_scores_is_part_of_the_loss_in_training_alone(tmp_path: Path) -> None:
    loaded = tiny.loaded()
    masks = Masks(loaded, PruneConfig(penalty=7.0), torch.float32)
    masks.groups(TrainingOptions("tiny", tmp_path, lr=1.0))
    objective = with_penalties(lambda model, batch, done: torch.tensor(2.0), loaded, masks)
    # The scores are 0, so their sigmoids are a half; from a fraction of 0.8 on the schedule is at its end.
    assert objective(loaded.model.train(), {}, 0.9).item() == pytest.approx(2 + 7 / 2)
    assert objective(loaded.model.eval(), {}, 0.9).item() == 2


def test_the_teachers_head() -> None:
    student, teacher = tiny.loaded(missing_head=True), tiny.loaded(model=tiny.bert(seed=5))
    assert set_head(student, teacher) == "teacher"
    assert not student.missing_head
    for name in ("qa_outputs.weight", "qa_outputs.bias"):
        assert torch.equal(student.model.get_parameter(name), teacher.model.get_parameter(name))
    own = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(student.model.get_parameter(own), teacher.model.get_parameter(own))


def test_the_own_head() -> None:
    student = tiny.loaded()
    assert set_head(student, None) == "base"
    assert torch.equal(student.model.get_parameter("qa_outputs.weight"), tiny.bert().get_parameter("qa_outputs.weight"))


def test_a_wider_teacher_has_no_head_to_give() -> None:
    student = tiny.loaded()
    assert set_head(student, tiny.loaded(model=tiny.bert(hidden=32))) == "base"
    assert torch.equal(student.model.get_parameter("qa_outputs.weight"), tiny.bert().get_parameter("qa_outputs.weight"))
