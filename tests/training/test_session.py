"""A run that is finished is not run again, whatever a crash left beside it."""

from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import PartialState
from torch import distributed

from compresskit.checkpoint.manifest import Manifest, Step
from compresskit.errors import UsageError
from compresskit.training.arguments import TrainingOptions
from compresskit.training.session import end_processes, is_complete


@pytest.fixture
def options(tmp_path: Path) -> TrainingOptions:
    """Options of a run whose checkpoint is there, and whose workspace a crash left."""
    options = TrainingOptions("demo/bert", tmp_path / "out", lr=0.5, resume=True)
    options.target.mkdir()
    step = Step("train", options.describe(), options.seed, None, 1.0, {})
    Manifest("encoder", "full", None, [step]).write(options.target)
    left = tmp_path / "out.partial"
    left.mkdir()
    (left / "run.json").write_text("{}")
    return options


def test_a_finished_run_is_complete(options: TrainingOptions) -> None:
    """To ask changes nothing: a plan does."""
    assert is_complete(options, options.describe())
    assert options.target.with_name("out.partial").exists()
    assert (options.target / "compresskit.json").exists()


def test_only_resume_asks(options: TrainingOptions) -> None:
    assert not is_complete(replace(options, resume=False), options.describe())


def test_another_run_stands_there(options: TrainingOptions) -> None:
    other = {**options.describe(), "lr": 1.0}
    with pytest.raises(UsageError, match=r"lr was 0\.5 and is 1\.0"):
        is_complete(options, other)
    assert not is_complete(replace(options, overwrite=True), other)
    assert options.target.with_name("out.partial").exists()


def test_the_processes_of_a_run_leave_their_group() -> None:
    end_processes()  # there is none
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    end_processes()
    assert not distributed.is_initialized()
    PartialState(cpu=True).wait_for_everyone()  # the next run of this process has none to wait for
