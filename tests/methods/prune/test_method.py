"""What is masked, what learns under the masks, and what is refused before anything is trained."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from compresskit.errors import UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job
from compresskit.methods.penalties import with_penalties
from compresskit.methods.prune.config import Method, PruneConfig
from compresskit.methods.prune.masker import Masker
from compresskit.methods.prune.method import Masks, PruneMethod, maskable
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers
from tests.models.lstm import small

METHODS: tuple[Method, ...] = get_args(Method)
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


@pytest.mark.parametrize("head_learns", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_what_learns(method: Method, head_learns: bool, tmp_path: Any) -> None:
    loaded = tiny.loaded(missing_head=head_learns)
    config = PruneConfig(method=method, score_lr=None if method == "magnitude" else 0.5)
    masks = Masks(loaded, config, torch.float32)
    groups = masks.groups(TrainingOptions("tiny", tmp_path, lr=0.25, weight_decay=0.125))

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
    scores = {n for n in found if n.endswith(".scores")}
    assert len(scores) == (0 if method == "magnitude" else 2 * len(LINEAR))
    assert {names[id(p)] for p in masks.added()} == scores


@pytest.mark.parametrize("method", METHODS)
def test_a_models_own_penalty_is_on_the_weights_that_learn(method: Method, tmp_path: Any) -> None:
    loaded = small.loaded(tmp_path, l2=0.5)
    loaded.missing_head = False
    config = PruneConfig(method=method)
    masks = Masks(loaded, config, torch.float32)
    for scores in masks.added():
        torch.nn.init.normal_(scores)
    masks.groups(TrainingOptions("tiny", tmp_path, lr=0.1))
    # At the start of a run the penalty on the scores weighs nothing.
    objective = with_penalties(lambda model, batch, done: torch.zeros(()), loaded, masks)
    expected = sum(
        0.5 * float(weight.detach().double().square().sum())
        for name, weight in loaded.model.named_parameters()
        if config.learns_weights and weight.ndim > 1 and "scores" not in name and "embeddings.words" not in name
    )
    assert objective(loaded.model.train(), {}, 0.0).item() == pytest.approx(expected, rel=1e-5)
    assert objective(loaded.model.eval(), {}, 0.0).item() == 0


# What is pruned, and with which options.


def test_a_teacher_takes_the_place_of_an_untrained_base_of_its_family(tmp_path: Path) -> None:
    """Of another family it cannot; a base that was trained is pruned itself."""
    prune = PruneMethod()
    lstm, bert = small.folder(tmp_path), tiny.checkpoint(tmp_path / "bert")
    untrained, trained, other = Source("lstm", lstm, untrained=True), Source("trained", lstm), Source("bert", bert)
    with pytest.raises(UsageError, match="lstm has random weights: nothing to prune yet; train it"):
        prune.prepare_base(untrained, other)
    with pytest.raises(UsageError, match=r"lstm has random weights: .* --distill"):
        prune.prepare_base(untrained, None)
    assert prune.prepare_base(untrained, trained) is trained
    assert prune.prepare_base(trained, other) is trained
    assert prune.prepare_base(trained, None) is trained


def asked(method: Method, lr: float | None = None, block: tuple[int, int] = (1, 1)) -> Job:
    return Job("prune", TrainingOptions("tiny", lr=lr), PruneConfig(method=method, block=block))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [False, True])
def test_a_learning_rate_at_which_nothing_learns(method: Method, missing: bool) -> None:
    """With SMP only scores learn, and a head that is not there."""
    prune, loaded = PruneMethod(), tiny.loaded(missing_head=missing)
    prune.examine(asked(method), loaded)
    if method.startswith("smp") and not missing:
        with pytest.raises(UsageError, match=rf"--lr \S+ has no effect with --method {method} "):
            prune.examine(asked(method, lr=1e-4), loaded)
    else:
        prune.examine(asked(method, lr=1e-4), loaded)


def test_a_learning_rate_for_a_head_that_the_teacher_gives() -> None:
    """Only once the teacher is there is it known that the head needs no training."""
    prune, loaded = PruneMethod(), tiny.loaded(missing_head=True)
    prune.examine(asked("smp", lr=1e-4), loaded)
    with pytest.raises(UsageError, match=r"--lr \S+ has no effect with --method smp "):
        prune.prepare(asked("smp", lr=1e-4), loaded, tiny.loaded(model=tiny.bert(seed=5)))
    assert prune.prepare(asked("smp"), tiny.loaded(missing_head=True), tiny.loaded()) == {"head": "teacher"}


def test_blocks_that_do_not_divide_are_told_before_anything_is_trained() -> None:
    with pytest.raises(UsageError, match=r"\.weight of 16x16 .* 5x5; .* --block"):
        PruneMethod().examine(asked("smp", block=(5, 5)), tiny.loaded())


def test_what_a_run_leaves_is_called_after_method_and_sparsity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for model, config, distillation, name in (
        ("bert", PruneConfig(), Distillation(), "bert-smp-0.5"),
        ("demo/bert", PruneConfig("movement", 0.97), Distillation(distill=True), "demo-bert-movement-0.97-distill"),
        ("./mine/", PruneConfig("smp-l", 0.0), Distillation(teacher="other"), "mine-smp-l-0"),
    ):
        job = Job("prune", TrainingOptions(model), config, distillation)
        assert PruneMethod().output(job) == Path("runs") / name


def test_the_penalty_of_the_scores_is_part_of_the_loss_in_training_alone(tmp_path: Path) -> None:
    loaded = tiny.loaded()
    masks = Masks(loaded, PruneConfig(penalty=7.0), torch.float32)
    masks.groups(TrainingOptions("tiny", tmp_path, lr=1.0))
    objective = with_penalties(lambda model, batch, done: torch.tensor(2.0), loaded, masks)
    # The scores are 0, so their sigmoids are a half; from a fraction of 0.8 on the schedule is at its end.
    assert objective(loaded.model.train(), {}, 0.9).item() == pytest.approx(2 + 7 / 2)
    assert objective(loaded.model.eval(), {}, 0.9).item() == 2


@pytest.mark.parametrize("method", ["smp", "movement", "magnitude"])
def test_tied_embeddings_are_under_one_mask(method: Any, tmp_path: Path) -> None:
    """T5 looks its words up, and writes them, with one matrix: both see it masked, and stay one."""
    loaded = load_trainable(Source("t5", makers.seq2seq(tmp_path / "t5")))
    model: Any = loaded.model
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    masks = Masks(loaded, PruneConfig(method=method, sparsity=0.5, mask_embeddings=True), torch.float32)
    for number, scores in enumerate(masks.added()):
        torch.nn.init.normal_(scores, generator=torch.Generator().manual_seed(number))
    masks.step(1.0)
    model.train()
    readers = [model.shared, model.encoder.embed_tokens, model.decoder.embed_tokens, model.lm_head]
    assert all(reader.weight is model.shared.weight for reader in readers)
    assert 0 < int((model.shared.weight == 0).sum()) < model.shared.weight.numel()
    ids = torch.arange(5, 15)[None]
    model(input_ids=ids, labels=ids[:, :4]).loss.backward()
    learning = masks.added() or [model.shared.parametrizations.weight.original]
    assert all(p.grad is not None and bool(p.grad.any()) for p in learning)
    masks.finish()
    assert all(reader.weight is model.shared.weight for reader in readers)
    kept = torch.from_numpy(masks.masks["shared.weight"].expand())
    assert torch.equal(model.shared.weight, torch.where(kept, weights["shared.weight"], 0))
    assert {name for name, _ in model.named_parameters()} == weights.keys()
    masks.save(tmp_path)
