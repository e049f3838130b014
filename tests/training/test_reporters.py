"""Where else the figures of a training go. The packages are stubs: what is tested is what they are told."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from compresskit.errors import MissingError
from compresskit.training.reporters import check_reporter, reporters
from tests.training.test_engine import build, lines


class Wandb(ModuleType):
    """The part of the package that transformers calls; `init` fails with `fault`."""

    fault: Exception | None = None

    def __init__(self) -> None:
        super().__init__("wandb")
        self.run: Any = None
        self.names: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.config = type("Config", (dict,), {"update": lambda self, values, allow_val_change: None})()

    def init(self, project: str, name: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.names.append(name)
        self.run = type("Run", (), {"_label": lambda self, code: None, "summary": {}, "config": {}})()

    def log(self, values: dict[str, Any]) -> None:
        self.told.append(values)

    def finish(self) -> None:
        self.run = None

    def termwarn(self, *_: Any, **__: Any) -> None: ...


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    from transformers.integrations import integration_utils

    found = Wandb()
    faults = ModuleType("wandb.sdk.lib.config_util")
    faults.ConfigError = type("ConfigError", (Exception,), {})  # type: ignore[attr-defined]
    for name, each in (
        ("wandb", found),
        ("wandb.sdk", ModuleType("wandb.sdk")),
        ("wandb.sdk.lib", ModuleType("wandb.sdk.lib")),
        ("wandb.sdk.lib.config_util", faults),
    ):
        monkeypatch.setitem(sys.modules, name, each)
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: True)
    return found


def test_figures_of_two_trainings_are_two_runs(wandb: Wandb, tmp_path: Path) -> None:
    for name in ("one", "two"):
        engine = build(tmp_path / name, max_steps=2, batch_size=8, log="wandb")
        engine._fields = lambda: {"remaining": 70.0}
        engine.fit(resume=False)
    assert wandb.names == ["out", "out"]
    assert wandb.run is None
    (line,) = lines(tmp_path / "one")  # stays, whatever else is told
    told = [values for values in wandb.told if "train/loss" in values]
    assert len(told) == 2
    assert told[0]["train/loss"] == line["loss"]
    assert told[0]["train/remaining"] == line["remaining"] == 70.0


def test_a_reporter_that_cannot_begin(wandb: Wandb, tmp_path: Path) -> None:
    wandb.fault = RuntimeError("api_key not configured (no-tty)")
    engine = build(tmp_path / "w", max_steps=1, log="wandb")
    words = (
        r"--log wandb cannot begin \(.*api_key not configured \(no-tty\)\); run `wandb login`, or set WANDB_MODE=off"
    )
    with pytest.raises(MissingError, match=words):
        engine.fit(resume=False)


def test_the_files_of_tensorboard_outlive_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import integration_utils

    board = type("Board", (), {"logging_dir": None, "on_train_begin": lambda *_: None})
    monkeypatch.setattr(integration_utils, "TensorBoardCallback", board)
    (found,) = reporters("tensorboard", tmp_path / "out")
    place: Any = found
    assert Path(os.path.dirname(place.logging_dir)) == tmp_path / "out.tensorboard"


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_here(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(MissingError, match=rf"--log {name} needs a package: pip install {name}$"):
        check_reporter(name)
    check_reporter("jsonl")
