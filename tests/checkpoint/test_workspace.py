"""The folder of a job in progress: who may claim it, and what is left of it."""

import multiprocessing
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from compresskit.checkpoint import store
from compresskit.checkpoint.store import Workspace
from compresskit.errors import InputError, MissingError, RunFailed, UsageError

JOB = {"method": "train", "lr": 5e-5, "block": (1, 1), "teacher": None}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "out")


def fill_and_fail(work: Path, error: BaseException) -> NoReturn:
    (work / "state-00000001").mkdir()
    (work / "log.jsonl").write_text("line")
    raise error


def interrupt(workspace: Workspace, error: BaseException | None = None) -> None:
    error = error or RunFailed("stop")
    with pytest.raises(type(error)), workspace.claim(JOB, resume=False, overwrite=False) as work:
        fill_and_fail(work, error)


def finish(workspace: Workspace, work: Path) -> None:
    staging = work.parent / ".staging"
    staging.mkdir()
    (staging / "result").write_text("r")
    workspace.finish(staging)


@pytest.mark.parametrize("output", [".", "..", "a/..", "/"])
def test_an_output_without_a_name(output: str) -> None:
    with pytest.raises(UsageError, match="has no name of its own"):
        Workspace(Path(output))


def test_a_finished_job_leaves_its_result_alone(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.claim(JOB, resume=False, overwrite=False) as work:
        assert work == tmp_path / "out.partial"
        finish(workspace, work)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["result"]


@pytest.mark.parametrize("error", [RunFailed("NaN"), KeyboardInterrupt(), OSError(28, "full"), ValueError("bug")])
def test_an_interrupted_job_needs_a_word(workspace: Workspace, tmp_path: Path, error: BaseException) -> None:
    interrupt(workspace, error)
    assert names(tmp_path) == ["out.partial"]
    again = workspace.claim(JOB, resume=False, overwrite=False)
    with pytest.raises(UsageError, match=r"holds an interrupted run; --resume .* --overwrite"), again:
        pass
    assert (tmp_path / "out.partial" / "log.jsonl").read_text() == "line"


def test_resume_finds_everything(workspace: Workspace) -> None:
    interrupt(workspace)
    with workspace.claim(dict(JOB), resume=True, overwrite=False) as work:
        assert {"state-00000001", "log.jsonl", "run.json"} <= set(names(work))


def test_overwrite_finds_nothing(workspace: Workspace) -> None:
    interrupt(workspace)
    with workspace.claim({**JOB, "lr": 1.0}, resume=False, overwrite=True) as work:
        assert names(work) == ["lock", "run.json"]
        assert store.read_json(work / "run.json")["lr"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1e-3}, r"\(lr was 5e-05 and is 0\.001\)"),
        ({"block": (32, 32)}, r"block was \[1, 1\] and is \[32, 32\]"),
        ({"teacher": "t"}, "teacher was None and is 't'"),
        ({"extra": 1}, "extra was None and is 1"),
        ({"lr": 1.0, "method": "prune"}, "lr was .*, method was 'train' and is 'prune'"),
    ],
)
def test_another_job_names_the_setting(workspace: Workspace, change: dict[str, Any], message: str) -> None:
    interrupt(workspace)
    claim = workspace.claim({**JOB, **change}, resume=True, overwrite=False)
    with pytest.raises(UsageError, match=message), claim:
        pass
    with workspace.claim(JOB, resume=True, overwrite=False) as work:  # the refusal has changed nothing
        assert "state-00000001" in names(work)


def test_resume_without_a_run_starts_one(workspace: Workspace) -> None:
    with workspace.claim(JOB, resume=True, overwrite=False) as work:
        assert names(work) == ["lock", "run.json"]


def test_a_taken_output_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("old")
    for resume in (False, True):
        with pytest.raises(UsageError, match="not empty"), workspace.claim(JOB, resume=resume, overwrite=False):
            pass
    assert names(tmp_path) == ["out"]
    with workspace.claim(JOB, resume=False, overwrite=True) as work:
        assert names(tmp_path / "out") == ["config.json"]  # until the new result is there
        finish(workspace, work)
    assert names(tmp_path / "out") == ["result"]
    assert names(tmp_path) == ["out"]


def test_one_process_cannot_claim_twice(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.claim(JOB, resume=False, overwrite=False):
        second = Workspace(tmp_path / "out").claim(JOB, resume=False, overwrite=False)
        with pytest.raises(UsageError, match="another run is working"), second:
            pass


@pytest.mark.parametrize("error", [InputError("bad data"), MissingError("no Hub"), UsageError("too long")])
def test_a_refused_job_leaves_nothing(workspace: Workspace, tmp_path: Path, error: Exception) -> None:
    claim = workspace.claim(JOB, resume=False, overwrite=False)
    with pytest.raises(type(error)), claim as work:
        fill_and_fail(work, error)
    assert names(tmp_path) == []


def test_a_refused_resume_keeps_the_interrupted_run(workspace: Workspace) -> None:
    interrupt(workspace)
    with pytest.raises(InputError), workspace.claim(JOB, resume=True, overwrite=False):
        raise InputError("the data set has moved")
    with workspace.claim(JOB, resume=True, overwrite=False) as work:
        assert "state-00000001" in names(work)


def test_a_crash_between_publishing_and_cleaning_leaves_a_finished_job(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> NoReturn:
        raise KeyboardInterrupt

    claim = workspace.claim(JOB, resume=False, overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", crash)
        with pytest.raises(KeyboardInterrupt), claim as work:
            finish(workspace, work)
    assert (tmp_path / "out" / "result").read_text() == "r"
    workspace.remove()
    assert names(tmp_path) == ["out"]
    workspace.remove()  # nothing there is no fault


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling link"])
def test_what_is_not_of_a_job_is_left_alone(kind: str, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    place = tmp_path / "out.partial"
    if kind == "folder":
        (tmp_path / "mine").rename(place)
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("mine" if kind == "link" else "nowhere")
    before = sorted(tmp_path.rglob("*"))
    claim = workspace.claim(JOB, resume=False, overwrite=True)
    with pytest.raises(UsageError, match=r"out\.partial is in the way"), claim:
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("left", [["lock"], ["lock", ".run.json.abc"], []])
def test_a_job_that_was_killed_as_it_began_is_begun_anew(left: list[str], workspace: Workspace) -> None:
    workspace.path.mkdir()
    for name in left:
        (workspace.path / name).touch()
    with workspace.claim(JOB, resume=False, overwrite=False) as work:
        assert names(work) == ["lock", "run.json"]


def test_a_forked_process_does_not_keep_the_lock(workspace: Workspace) -> None:
    """As a data loader's, which may end later than the run that was interrupted."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))

    def interrupted() -> NoReturn:
        with workspace.claim(JOB, resume=False, overwrite=False):
            child.start()
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        with workspace.claim(JOB, resume=True, overwrite=False):
            pass
    finally:
        child.kill()
        child.join()
