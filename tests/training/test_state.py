import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.checkpoint.seal import check_seals
from compresskit.checkpoint.store import load_tensors
from compresskit.errors import InputError
from compresskit.training import state


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    model[2].bias.requires_grad_(False)
    return model


def adamw(model: nn.Module) -> torch.optim.AdamW:
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": learning[:1], "lr": 0.1}, {"params": learning[1:], "lr": 0.01, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.8, 0.99), fused=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 5)).pow(2).sum().backward()
        optimizer.step()


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: dict[str, object]) -> None:
    folder.mkdir()
    state.save_parameters(folder, model.named_parameters())
    state.save_optimizer(folder, optimizer, scheduler)
    state.save_generators(folder, 0)


def test_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = network()
    optimizer = adamw(model)
    train(model, optimizer, 3)
    save(tmp_path / "s", model, optimizer, {"last_epoch": 3, "_last_lr": [0.1, 1 / 3]})
    train(model, optimizer, 3)

    other = network()
    fresh = adamw(other)
    torch.manual_seed(99)
    state.load_parameters(tmp_path / "s", other.named_parameters())
    scheduler = state.load_optimizer(tmp_path / "s", fresh)
    state.load_generators(tmp_path / "s", 0)
    train(other, fresh, 3)

    assert scheduler == {"last_epoch": 3, "_last_lr": [0.1, 1 / 3]}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name
    mine, theirs = optimizer.state_dict(), fresh.state_dict()
    assert mine["param_groups"] == [{**g, "betas": tuple(g["betas"])} for g in theirs["param_groups"]]
    for index, entry in mine["state"].items():
        assert entry.keys() == {"step", "exp_avg", "exp_avg_sq"} == theirs["state"][index].keys()
        for key, value in entry.items():
            assert torch.equal(value, theirs["state"][index][key])
            assert value.dtype == theirs["state"][index][key].dtype


def test_only_what_learns_is_saved(tmp_path: Path) -> None:
    model = network()
    save(tmp_path / "s", model, adamw(model), {})
    assert load_tensors(tmp_path / "s" / "parameters.safetensors").keys() == {"0.weight", "0.bias", "2.weight"}


def test_the_parameters_of_another_model(tmp_path: Path) -> None:
    model = network()
    save(tmp_path / "s", model, adamw(model), {})
    with pytest.raises(InputError, match="belongs to another model"):
        state.load_parameters(tmp_path / "s", nn.Linear(5, 7).named_parameters())


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.random()),
        float(np.random.standard_normal()),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


def test_all_generators_come_back(tmp_path: Path) -> None:
    draw()  # an odd number of normal draws leaves a cached one
    state.save_generators(tmp_path, 0)
    expected = [draw() for _ in range(3)]
    state.load_generators(tmp_path, 0)
    assert [draw() for _ in range(3)] == expected


def test_generators_of_a_process_that_was_not_there(tmp_path: Path) -> None:
    state.save_generators(tmp_path, 0)
    with pytest.raises(InputError, match="fewer processes"):
        state.load_generators(tmp_path, 1)


def test_truncated_files_are_named(tmp_path: Path) -> None:
    model = network()
    optimizer = adamw(model)
    train(model, optimizer, 1)
    save(tmp_path / "s", model, optimizer, {})
    for file in ("parameters.safetensors", "optimizer.safetensors", "generators-0.safetensors"):
        path = tmp_path / "s" / file
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"parameters\.safetensors"):
        state.load_parameters(tmp_path / "s", model.named_parameters())
    with pytest.raises(InputError, match=r"optimizer\.safetensors"):
        state.load_optimizer(tmp_path / "s", optimizer)
    with pytest.raises(InputError, match=r"generators-0\.safetensors"):
        state.load_generators(tmp_path / "s", 0)


def test_the_latest_state_is_the_last_whole_one(tmp_path: Path) -> None:
    assert state.latest_state(tmp_path) is None
    (tmp_path / "state.writing").mkdir()
    (tmp_path / "state-00000500").write_text("a file")
    assert state.latest_state(tmp_path) is None
    for step in (9, 99, 100):
        state.state_folder(tmp_path, step).mkdir()
    assert state.latest_state(tmp_path) == state.state_folder(tmp_path, 100)


def test_a_crash_while_the_older_state_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it is none that a run could stumble over."""
    for step in (10, 20):
        (tmp_path / "state.writing").mkdir()
        (tmp_path / "state.writing" / "file").write_text(f"{step}")
        if step == 20:
            monkeypatch.setattr("shutil.rmtree", lambda path, **_: (path / "seal.json").unlink(missing_ok=True))
        state.commit_state(tmp_path / "state.writing", state.state_folder(tmp_path, step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["removed.writing", "state-00000020"]
    check_seals(tmp_path)


def test_a_state_gets_its_name_when_it_is_whole_and_replaces_the_older(tmp_path: Path) -> None:
    for step in (10, 20, 20):
        staging = tmp_path / "state.writing"
        staging.mkdir()
        (staging / "file").write_text(f"{step}")
        state.commit_state(staging, state.state_folder(tmp_path, step))
        assert [path.name for path in tmp_path.iterdir()] == [f"state-000000{step}"]
    assert (tmp_path / "state-00000020" / "file").read_text() == "20"
