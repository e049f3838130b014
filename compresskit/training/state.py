"""Training states on disk: everything that a run needs to go on as if it had not stopped, without pickle.

A state is a folder `state-STEP` with the trainable parameters, the optimizer's moments and the generators' states in
safetensors, and the rest in JSON. It is written under another name, and sealed and renamed when it is whole.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from compresskit.checkpoint.seal import UNFINISHED, seal
from compresskit.checkpoint.store import load_tensors, publish, read_json, save_tensors, write_json
from compresskit.errors import InputError

_PREFIX = "state-"


def state_folder(work: Path, step: int) -> Path:
    """Final name of the state after `step` optimizer steps."""
    return work / f"{_PREFIX}{step:08d}"


def step_of(state: Path) -> int:
    """The number of steps after which a state was saved."""
    return int(state.name.removeprefix(_PREFIX))


def latest_state(work: Path) -> Path | None:
    """The newest whole state in a workspace, or None."""
    states = sorted(path for path in work.glob(f"{_PREFIX}*") if path.is_dir())
    return states[-1] if states else None


def drop_older_states(work: Path, keep: Path) -> None:
    """Remove every state but `keep`."""
    for path in work.glob(f"{_PREFIX}*"):
        if path != keep:
            _remove(path)


def commit_state(staging: Path, final: Path) -> None:
    """Seal a finished state, give it its name, and remove the older ones."""
    seal(staging)
    if final.exists():
        _remove(final)
    publish(staging, final)
    drop_older_states(final.parent, final)


def _remove(path: Path) -> None:
    """Remove a state at once: what is left of it where a crash comes between has not the name of one."""
    gone = path.with_name(f"removed{UNFINISHED}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone)


def save_parameters(folder: Path, named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Write the parameters that learn (the frozen ones stand in the base)."""
    save_tensors(folder / "parameters.safetensors", {name: p for name, p in named if p.requires_grad})


@torch.no_grad()
def load_parameters(folder: Path, named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Put a state's parameters into a model; InputError where the two do not match in names and shapes."""
    saved = load_tensors(folder / "parameters.safetensors")
    learning = {name: parameter for name, parameter in named if parameter.requires_grad}
    if {name: p.shape for name, p in saved.items()} != {name: p.shape for name, p in learning.items()}:
        raise InputError(f"{folder} belongs to another model; --overwrite starts anew")
    for name, parameter in learning.items():
        parameter.copy_(saved[name])


def save_optimizer(folder: Path, optimizer: Optimizer, scheduler: Mapping[str, Any]) -> None:
    """Write the optimizer's tensors and numbers, its groups' settings, and the learning-rate schedule's counters."""
    state = optimizer.state_dict()
    entries = dict(_flat(state["state"]))
    # bitsandbytes shares its tables between parameters, and safetensors keeps no tensor under two names. The copies are
    # made on the CPU: on a GPU they would be the peak of its memory.
    tensors = {name: value.to("cpu", copy=True) for name, value in entries.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in entries.items() if name not in tensors}
    save_tensors(folder / "optimizer.safetensors", tensors)
    settings = {"param_groups": state["param_groups"], "numbers": numbers, "scheduler": scheduler}
    write_json(folder / "optimizer.json", settings)


def load_optimizer(folder: Path, optimizer: Optimizer) -> dict[str, Any]:
    """Restore the optimizer; the schedule's counters are returned for the scheduler to load."""
    settings = read_json(folder / "optimizer.json")
    state: dict[Any, Any] = {}
    for name, value in (load_tensors(folder / "optimizer.safetensors") | settings["numbers"]).items():
        number, *between, last = name.split(".")
        entry = state.setdefault(int(number), {})
        for key in between:
            entry = entry.setdefault(key, {})
        entry[last] = value
    optimizer.load_state_dict({"state": state, "param_groups": settings["param_groups"]})
    scheduler: dict[str, Any] = settings["scheduler"]
    return scheduler


def _flat(state: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested dictionaries, their keys joined by dots."""
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def save_generators(folder: Path, rank: int) -> None:
    """Write the states of all random generators of this process."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64))}
    tensors["python"] = torch.tensor(internal, dtype=torch.int64)
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    rest = {"python": [version, gauss], "numpy": [name, int(position), int(has_gauss), float(cached)]}
    save_tensors(folder / f"generators-{rank}.safetensors", tensors, {"rest": json.dumps(rest)})


def load_generators(folder: Path, rank: int) -> None:
    """Restore the generators of this process; InputError where the state was saved by fewer processes."""
    from safetensors import safe_open

    path = folder / f"generators-{rank}.safetensors"
    if not path.exists():
        raise InputError(
            f"{folder} was saved with fewer processes; start as many as before, or --overwrite to start anew"
        )
    tensors = load_tensors(path)
    with safe_open(path, framework="pt") as file:
        rest = json.loads(file.metadata()["rest"])
    random.setstate((rest["python"][0], tuple(tensors["python"].tolist()), rest["python"][1]))
    name, *numbers = rest["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), *numbers))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
