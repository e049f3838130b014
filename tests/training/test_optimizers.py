from pathlib import Path
from typing import Any, get_args

import bitsandbytes
import pytest
import torch
from torch import Tensor, nn
from transformers.optimization import Adafactor

from compresskit.training import state
from compresskit.training.arguments import OptimizerName
from compresskit.training.memory import moment_bytes
from compresskit.training.optimizers import make_optimizer

NAMES = get_args(OptimizerName)


class Reader(nn.Module):
    """Embeddings, a matrix that is large enough for 8 bits, and vectors that are not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer, self.norm = nn.Embedding(80, 64), nn.Linear(64, 72), nn.LayerNorm(72)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.norm(self.layer(self.words(ids)))
        return out


def groups(model: nn.Module) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [
        {"params": matrices, "lr": 3e-3, "weight_decay": 0.1},
        {"params": vectors, "lr": 1e-3, "weight_decay": 0.0},
    ]


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for number in range(first, last):
        ids = torch.randint(80, (4, 6), generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        model(ids).square().mul(torch.linspace(0, 1, 72)).sum().backward()
        optimizer.step()


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def reference(name: str, model: nn.Module) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(groups(model))
    if name == "adafactor":
        return Adafactor(groups(model), lr=None, scale_parameter=False, relative_step=False, warmup_init=False)
    library: Any = bitsandbytes.optim
    theirs: torch.optim.Optimizer = library.AdamW8bit(groups(model))
    return theirs


@pytest.mark.parametrize("name", NAMES)
def test_it_steps_as_its_library_does(name: OptimizerName) -> None:
    """Without embeddings, of which bitsandbytes alone would keep 8 bits."""
    made: list[nn.Module] = []
    for make in (lambda model: make_optimizer(name, groups(model), model), lambda model: reference(name, model)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 72), nn.LayerNorm(72))
        optimizer = make(model)
        start = weights(model).clone()
        for number in range(4):
            inputs = torch.randn(4, 64, generator=torch.Generator().manual_seed(number))
            optimizer.zero_grad()
            model(inputs).square().mul(torch.linspace(0, 1, 72)).sum().backward()
            optimizer.step()
        assert not torch.allclose(weights(model), start)
        made.append(model)
    ours, theirs = made
    assert torch.allclose(weights(ours), weights(theirs), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_on_exactly(name: OptimizerName, tmp_path: Path) -> None:
    whole = Reader()
    steps(whole, make_optimizer(name, groups(whole), whole), 0, 6)

    first = Reader()
    optimizer = make_optimizer(name, groups(first), first)
    steps(first, optimizer, 0, 3)
    state.save_optimizer(tmp_path, optimizer, {"last_epoch": 3})
    second = Reader()
    second.load_state_dict(first.state_dict())
    again = make_optimizer(name, groups(second), second)
    assert state.load_optimizer(tmp_path, again) == {"last_epoch": 3}
    steps(second, again, 3, 6)
    assert torch.equal(weights(second), weights(whole))


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_of_its_moments(name: OptimizerName) -> None:
    """Counted from what the optimizer keeps, but for tables that are shared."""
    model = Reader()
    optimizer = make_optimizer(name, groups(model), model)
    steps(model, optimizer, 0, 1)
    for parameter in model.parameters():
        own = optimizer.state[parameter]
        kept = sum(t.nbytes for key, t in own.items() if torch.is_tensor(t) and t.ndim and "qmap" not in key)
        is_words = parameter is model.words.weight
        assert moment_bytes(name, parameter, whole=is_words) == pytest.approx(kept, rel=0.02), parameter.shape


@pytest.mark.parametrize("name", ["adamw-8bit", "paged-adamw-8bit"])
def test_embeddings_keep_their_moments_whole(name: OptimizerName) -> None:
    model = Reader()
    optimizer = make_optimizer(name, groups(model), model)
    steps(model, optimizer, 0, 1)
    assert optimizer.state[model.words.weight]["state1"].dtype == torch.float32
    assert optimizer.state[model.layer.weight]["state1"].dtype == torch.uint8
    assert optimizer.state[model.layer.bias]["state1"].dtype == torch.float32
