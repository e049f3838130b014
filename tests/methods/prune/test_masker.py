import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from compresskit.checkpoint.mask import Mask
from compresskit.errors import UsageError
from compresskit.methods.prune.config import Method, PruneConfig
from compresskit.methods.prune.masked import original_weight
from compresskit.methods.prune.masker import Masker
from compresskit.models.encoder import EncoderFamily
from compresskit.models.tasks.steps import told
from tests import tiny

METHODS = get_args(Method)
SPARSITIES = [0.0, 0.5, 0.9, 0.97]
BLOCKS = [(1, 1), (4, 4), (8, 2)]


def masker(method: str, sparsity: float = 0.5, block: tuple[int, int] = (1, 1), **config: Any) -> tuple[Any, Masker]:
    model = tiny.bert()
    settings = PruneConfig(method=method, sparsity=sparsity, block=block, **config)  # type: ignore[arg-type]
    return model, Masker(EncoderFamily().weights(model), settings)


def scatter(masks: Masker, seed: int = 3) -> None:
    """Random scores, of another mean in every matrix."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for index, scores in enumerate(masks.scores()):
            scores.copy_(torch.randn(scores.shape, generator=generator) + index / 6 - 1)


def importance(masks: Masker, name: str) -> np.ndarray:
    scores = masks.masks[name].scores
    if scores is not None:
        return np.asarray(scores.detach())
    rows, columns = masks.config.block
    weight = original_weight(masks.modules[name], name).detach().abs().numpy()
    blocks = weight.reshape(weight.shape[0] // rows, rows, weight.shape[1] // columns, columns)
    return np.asarray(blocks.mean(axis=(1, 3)))


def sparsity_of(found: dict[str, Mask]) -> float:
    kept, size = sum(int(m.expand().sum()) for m in found.values()), sum(m.expand().size for m in found.values())
    return 1 - kept / size


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("method", METHODS)
def test_the_final_sparsity_is_exact(method: str, sparsity: float, block: tuple[int, int]) -> None:
    model, masks = masker(method, sparsity, block)
    scatter(masks)
    found = masks.final_masks()
    grid = sum(mask.bits.size for mask in found.values())
    assert sparsity_of(found) == pytest.approx(sparsity, abs=0.5 / grid + 1e-9)
    if block == (1, 1):
        assert abs(sparsity_of(found) - sparsity) < 1e-3
    expected = {f"{name}.weight" for name, module in model.named_modules() if ".layer." in name and is_linear(module)}
    assert found.keys() == expected
    assert len(expected) == 12


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def weight_of(module: nn.Module) -> torch.Tensor:
    """What the layer multiplies with."""
    assert isinstance(module.weight, torch.Tensor)
    return module.weight


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
def test_what_stays_is_what_matters_most(method: str, block: tuple[int, int]) -> None:
    _, masks = masker(method, 0.7, block)
    scatter(masks)
    for name, mask in masks.final_masks().items():
        values = importance(masks, name)
        if 0 < mask.bits.sum() < mask.bits.size:
            assert values[mask.bits].min() > values[~mask.bits].max()


@pytest.mark.parametrize("method", METHODS)
def test_ties(method: str) -> None:
    """All scores are equal before the first step, and so are all weights here."""
    _, masks = masker(method, 0.9)
    with torch.no_grad():
        for module in masks.modules.values():
            original_weight(module, "weight").fill_(0.5)
    assert abs(sparsity_of(masks.final_masks()) - 0.9) < 1e-3


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_the_same_fraction_of_every_matrix(sparsity: float) -> None:
    for method in ("smp-l", "movement", "magnitude"):
        _, masks = masker(method, sparsity)
        scatter(masks)
        for mask in masks.final_masks().values():
            assert abs(mask.bits.mean() - (1 - sparsity)) <= 1 / mask.bits.size


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_smp_shares_by_the_mean_sigmoid_within_a_role(sparsity: float) -> None:
    """Two layers, so two matrices of each role; v_i = L · r · m_i / Σ m (arXiv 2210.06210), at most 1."""
    _, masks = masker("smp", sparsity)
    scatter(masks)
    found = masks.final_masks()
    for name in [n for n in found if ".layer.0." in n]:
        pair = [name, name.replace(".layer.0.", ".layer.1.")]
        means = [1 / (1 + np.exp(-importance(masks, n).astype(float))) for n in pair]
        wanted = np.array([m.mean() for m in means])
        wanted = 2 * (1 - sparsity) * wanted / wanted.sum()
        assert (wanted < 1).all()
        for one, fraction in zip(pair, wanted, strict=True):
            assert abs(found[one].bits.sum() - fraction * found[one].bits.size) <= 1


@pytest.mark.parametrize("block", [(1, 1), (4, 4)])
def test_soft_movement_has_one_threshold_for_all(block: tuple[int, int]) -> None:
    _, masks = masker("soft-movement", 0.8, block)
    scatter(masks)
    found = masks.final_masks()
    names = list(found)
    kept = np.concatenate([importance(masks, n)[found[n].bits] for n in names])
    gone = np.concatenate([importance(masks, n)[~found[n].bits] for n in names])
    assert kept.min() > gone.max()
    fractions = [mask.bits.mean() for mask in found.values()]
    assert max(fractions) - min(fractions) > 0.3  # the matrices with higher scores keep more
    masks.step(1.0)
    values = {mask.threshold.item() for mask in masks.masks.values()}
    assert len(values) == 1
    assert gone.max() < values.pop() <= kept.min()


@pytest.mark.parametrize("method", METHODS)
def test_during_the_run_the_remaining_fraction_follows_the_schedule(method: str) -> None:
    _, masks = masker(method, 0.8, warmup=0.1, cooldown=0.2)
    scatter(masks)
    total = sum(weight_of(module).numel() for module in masks.modules.values())
    for done in (0.0, 0.1, 0.3, 0.6, 0.8, 1.0):
        masks.step(done)
        kept = sum(int((weight_of(module) != 0).sum()) for module in masks.modules.values())
        way = min(max((done - 0.1) / 0.7, 0.0), 1.0)
        expected = 1 - 0.8 * (1 - (1 - way) ** 3)
        assert masks.remaining == pytest.approx(expected)
        assert kept / total == pytest.approx(expected, abs=6 / total * 2)  # half an entry in each of 12 matrices


@pytest.mark.parametrize("method", METHODS)
def test_the_last_masks_of_the_run_are_those_that_are_saved(method: str) -> None:
    _, masks = masker(method, 0.75)
    scatter(masks)
    masks.step(1.0)
    found = masks.final_masks()
    kept = {name: (weight_of(module) != 0).numpy() for name, module in masks.modules.items()}
    differing = sum(int((kept[name] != found[name].bits).sum()) for name in kept)
    assert differing <= 12  # rounding


@pytest.mark.parametrize("method", METHODS)
def test_asking_and_training_see_the_same_weights(method: str) -> None:
    model, masks = masker(method, 0.75)
    scatter(masks)
    masks.step(0.6)
    learning = {name: weight_of(module).detach().clone() for name, module in masks.modules.items()}
    model.eval()
    for name, module in masks.modules.items():
        assert torch.equal(weight_of(module), learning[name])


@pytest.mark.parametrize("method", METHODS)
def test_a_step_sees_the_weights_of_the_moment(method: str) -> None:
    """In the dtype of computation; SMP's frozen weights are converted once, those of the others change."""
    model = tiny.bert()
    settings = PruneConfig(method=method, sparsity=0.5)  # type: ignore[arg-type]
    masks = Masker(EncoderFamily().weights(model), settings, torch.bfloat16)
    scatter(masks)
    for _ in range(2):
        masks.step(1.0)
        for module in masks.modules.values():
            weight = original_weight(module, "weight").detach().to(torch.bfloat16)
            assert weight_of(module).dtype == torch.bfloat16
            kept = weight_of(module) != 0
            assert torch.equal(weight_of(module), torch.where(kept, weight, 0))
            assert 0 < kept.float().mean() < 1
            if settings.learns_weights:
                with torch.no_grad():
                    original_weight(module, "weight").mul_(1.5)


@pytest.mark.parametrize("done", [0.0, 0.37, 1.0])
@pytest.mark.parametrize("method", ["smp", "smp-l", "soft-movement"])
def test_the_penalty_and_its_gradient(method: str, done: float) -> None:
    _, masks = masker(method, 0.5, penalty=7.0, cooldown=0.2)
    scatter(masks)
    penalty = masks.step(done)
    assert penalty is not None
    progress = 1 - (1 - min(done / 0.8, 1.0)) ** 3
    means = []
    for scores in masks.scores():
        values = [1 / (1 + math.exp(-value)) for value in scores.detach().flatten().tolist()]
        means.append(sum(values) / len(values))
    assert penalty.item() == pytest.approx(7.0 * progress * sum(means) / len(means), rel=1e-5)
    penalty.backward()
    for scores in masks.scores():
        sigmoid = torch.sigmoid(scores.detach())
        expected = 7.0 * progress / 12 * sigmoid * (1 - sigmoid) / scores.numel()
        torch.testing.assert_close(scores.grad, expected)


@pytest.mark.parametrize("method", ["movement", "magnitude"])
def test_no_penalty(method: str) -> None:
    _, masks = masker(method)
    assert masks.step(0.5) is None


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", METHODS)
def test_removing_restores_plain_modules(method: str, block: tuple[int, int]) -> None:
    model, masks = masker(method, 0.6, block)
    scatter(masks)
    plain = tiny.bert()
    found = masks.final_masks()
    masks.remove(found)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    for name, before in plain.state_dict().items():
        after = model.state_dict()[name]
        expected = before * torch.from_numpy(found[name].expand()) if name in found else before
        assert torch.equal(after, expected), name
    assert type(model.bert.encoder.layer[0].output.dense) is nn.Linear


def test_magnitude_has_no_scores_and_the_others_one_a_block() -> None:
    assert masker("magnitude")[1].scores() == []
    shapes = [tuple(scores.shape) for scores in masker("smp", block=(4, 8))[1].scores()]
    assert shapes[:6] == [(4, 2)] * 4 + [(8, 2), (4, 4)]


def test_blocks_that_do_not_divide() -> None:
    with pytest.raises(UsageError, match="cannot be cut into blocks of 5x5"):
        masker("smp", block=(5, 5))


def test_a_captured_pass_sees_that_the_exact_masks_lie_elsewhere() -> None:
    """As long as they stand in, and no longer; a graph that was made of one evaluation is not that of the next."""
    model, masks = masker("smp")
    before = list(told(model))
    with masks.at_target():
        standing_in = {tensor.data_ptr() for mask in masks.masks.values() for tensor in mask.buffers()}
        assert standing_in <= set(told(model))
        assert len(list(told(model))) == len(before) + len(masks.masks)
    assert list(told(model)) == before
