from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compresskit.errors import UsageError
from compresskit.methods.prune.masked import MaskedWeight, MeanPenalty, attach, masked_weights, original_weight

BLOCKS = [(1, 1), (2, 4), (6, 1), (1, 8), (6, 8)]


def masked(block: tuple[int, int], *, with_scores: bool = True, frozen: bool = False) -> tuple[nn.Linear, MaskedWeight]:
    """A linear layer of 8 inputs and 6 outputs under a mask that keeps about half."""
    layer = nn.Linear(8, 6)
    mask = attach("layer.weight", layer, block, with_scores=with_scores)
    original_weight(layer, "weight").requires_grad_(not frozen)
    with torch.no_grad():
        if mask.scores is not None:
            mask.scores.normal_()
        # Beside the values, so that no rounding decides.
        mask.threshold.copy_(mask.importance(original_weight(layer, "weight")).median() - 1e-4)
    return layer, mask


def expand(grid: Tensor, block: tuple[int, int]) -> Tensor:
    return torch.kron(grid.float(), torch.ones(block))


def block_sum(full: Tensor, block: tuple[int, int]) -> Tensor:
    sums = torch.zeros(full.shape[0] // block[0], full.shape[1] // block[1], dtype=full.dtype)
    for row in range(full.shape[0]):
        for column in range(full.shape[1]):
            sums[row // block[0], column // block[1]] += full[row, column]
    return sums


def straight_through(weight: Tensor, scores: Tensor, threshold: Tensor, block: tuple[int, int]) -> Tensor:
    """The definition by plain autograd: the mask's value is 0 or 1, its gradient that of the scores themselves."""
    soft = torch.kron(scores, torch.ones(block))
    hard = torch.kron((scores >= threshold).float(), torch.ones(block))
    return weight * (hard + soft - soft.detach())


@pytest.mark.parametrize("block", BLOCKS)
def test_forward_is_weight_times_mask(block: tuple[int, int]) -> None:
    layer, mask = masked(block)
    assert mask.scores is not None
    assert mask.scores.shape == (6 // block[0], 8 // block[1])
    kept = expand(mask.scores >= mask.threshold, block)
    assert torch.equal(layer.weight, original_weight(layer, "weight") * kept)
    inputs = torch.randn(3, 8)
    torch.testing.assert_close(layer(inputs), inputs @ (original_weight(layer, "weight") * kept).T + layer.bias)


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_are_straight_through(block: tuple[int, int]) -> None:
    layer, mask = masked(block)
    assert mask.scores is not None
    inputs, targets = torch.randn(5, 8), torch.randn(5, 6)
    (layer(inputs) - targets).pow(2).sum().backward()

    weight = original_weight(layer, "weight").detach().clone().requires_grad_()
    scores = mask.scores.detach().clone().requires_grad_()
    effective = straight_through(weight, scores, mask.threshold, block)
    (nn.functional.linear(inputs, effective, layer.bias) - targets).pow(2).sum().backward()
    torch.testing.assert_close(original_weight(layer, "weight").grad, weight.grad)
    torch.testing.assert_close(mask.scores.grad, scores.grad)
    assert scores.grad is not None
    assert scores.grad.abs().min() > 0  # also what is masked learns


@pytest.mark.parametrize("block", BLOCKS)
def test_without_scores_the_magnitude_decides(block: tuple[int, int]) -> None:
    layer, mask = masked(block, with_scores=False)
    assert mask.scores is None
    weight = original_weight(layer, "weight").detach()
    importance = block_sum(weight.abs(), block) / (block[0] * block[1])
    torch.testing.assert_close(mask.importance(weight), importance)
    assert torch.equal(layer.weight, weight * expand(importance >= mask.threshold, block))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("block", [(1, 1), (2, 4)])
def test_autocast_in_bf16(block: tuple[int, int], frozen: bool) -> None:
    layer, mask = masked(block, frozen=frozen)
    assert mask.scores is not None
    weight = original_weight(layer, "weight").detach().clone()
    kept = expand(mask.scores >= mask.threshold, block)
    inputs = torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(inputs)
    assert output.dtype == torch.bfloat16
    low = [tensor.to(torch.bfloat16) for tensor in (inputs, weight * kept, layer.bias)]
    torch.testing.assert_close(output, nn.functional.linear(*low))
    output.float().sum().backward()
    # d(sum of outputs)/dW' is the sum of the inputs, for every row.
    grad = inputs.sum(dim=0).expand(6, 8)
    assert mask.scores.grad is not None
    assert mask.scores.grad.dtype == torch.float32
    torch.testing.assert_close(mask.scores.grad, block_sum(grad * weight, block), rtol=0.05, atol=0.05)
    found = original_weight(layer, "weight").grad
    if frozen:
        assert found is None
    else:
        assert found is not None
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, grad * kept, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_scores", [False, True])
@pytest.mark.parametrize("block", [(1, 1), (2, 4)])
def test_many_matrices_in_one_node(block: tuple[int, int], with_scores: bool, dtype: torch.dtype) -> None:
    """As straight-through by plain autograd; gradients are fp32 and not rounded on the way to the scores."""
    weights = [torch.randn(4, 8, requires_grad=True), torch.randn(6, 8, requires_grad=True)]
    grids = [torch.randn(w.shape[0] // block[0], w.shape[1] // block[1], requires_grad=True) for w in weights]
    kept = [grid.detach() >= 0 for grid in grids]
    values = [w.detach().to(dtype) for w in weights]
    scores: list[Tensor | None] = [*grids] if with_scores else [None, None]
    upstream = [torch.randn(w.shape).to(dtype) for w in weights]

    found = masked_weights(weights, scores, kept, values, block)
    for effective, value, mask in zip(found, values, kept, strict=True):
        assert effective.dtype == dtype
        assert torch.equal(effective, value * expand(mask, block).to(dtype))
    torch.autograd.backward(found, upstream)

    for weight, grid, grad in zip(weights, grids, upstream, strict=True):
        plain = weight.detach().clone().requires_grad_(), grid.detach().clone().requires_grad_()
        straight_through(*plain, torch.tensor(0.0), block).backward(grad.float())
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32
        torch.testing.assert_close(weight.grad, plain[0].grad)
        if with_scores:
            torch.testing.assert_close(grid.grad, plain[1].grad)
        else:
            assert grid.grad is None


def test_the_penalty_of_large_matrices() -> None:
    """Sums of millions of fp32 sigmoids, against fp64; the means are constants of the graph."""
    scores = [torch.randn(1200, 1000) + index for index in range(2)]
    learned = [matrix.clone().requires_grad_() for matrix in scores]
    sizes = torch.tensor([matrix.numel() for matrix in scores], dtype=torch.float32)
    penalty, means = MeanPenalty.apply(3.0, sizes, *learned)
    exact = [matrix.double().sigmoid() for matrix in scores]
    torch.testing.assert_close(means.double(), torch.stack([s.mean() for s in exact]), rtol=1e-4, atol=0)
    assert not means.requires_grad
    assert penalty.item() == pytest.approx(3.0 * sum(s.mean().item() for s in exact) / 2, rel=1e-4)
    (2 * penalty).backward()
    for matrix, sigmoid in zip(learned, exact, strict=True):
        expected = 2 * 3.0 / 2 * sigmoid * (1 - sigmoid) / sigmoid.numel()
        assert matrix.grad is not None
        torch.testing.assert_close(matrix.grad.double(), expected, rtol=1e-4, atol=1e-12)


def test_a_frozen_weight_is_bit_identical_after_training() -> None:
    layer, mask = masked((1, 1), frozen=True)
    assert mask.scores is not None
    before, scores = original_weight(layer, "weight").detach().clone(), mask.scores.detach().clone()
    optimizer = torch.optim.AdamW([p for p in layer.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 8)).pow(2).sum().backward()
        optimizer.step()
    assert torch.equal(original_weight(layer, "weight"), before)
    assert not torch.equal(mask.scores, scores)


@pytest.mark.parametrize(("threshold", "kept"), [(float("-inf"), 1.0), (float("inf"), 0.0)])
def test_the_ends(threshold: float, kept: float) -> None:
    layer, mask = masked((1, 1))
    mask.threshold.fill_(threshold)
    assert torch.equal(layer.weight, original_weight(layer, "weight") * kept)


def test_a_removed_weight_that_is_not_finite_is_zero() -> None:
    """`W * 0` would be NaN there; a mask takes a weight away whatever it is."""
    layer, mask = masked((1, 1))
    assert mask.scores is not None
    with torch.no_grad():
        original_weight(layer, "weight")[0, 0] = float("inf")
        mask.scores[0, 0] = -100.0
    assert layer.weight[0, 0] == 0


def test_the_original_name_and_no_saved_threshold() -> None:
    layer, _ = masked((1, 1))
    names: set[str] = {*layer.state_dict()}
    assert names == {"bias", "parametrizations.weight.original", "parametrizations.weight.0.scores"}


@pytest.mark.parametrize("block", [(4, 1), (1, 3), (12, 1), (1, 16)])
def test_blocks_that_do_not_divide(block: Any) -> None:
    with pytest.raises(
        UsageError, match=rf"encoder\.q\.weight of 6x8 cannot be cut into blocks of {block[0]}x{block[1]}"
    ):
        attach("encoder.q.weight", nn.Linear(8, 6), block, with_scores=True)
