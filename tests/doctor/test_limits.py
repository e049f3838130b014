"""Limits of control groups, from folders made here."""

from pathlib import Path

import pytest

from compresskit.doctor import limits


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(limits, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "_OWN", tmp_path / "own")
    return tmp_path


def put(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_tightest_limit_of_a_group_and_those_above_holds(groups: Path) -> None:
    put(groups / "own", "0::/user.slice/job\n")
    put(groups / "cgroup/user.slice/cpu.max", "150000 100000\n")
    put(groups / "cgroup/user.slice/job/cpu.max", "max 100000\n")
    put(groups / "cgroup/user.slice/memory.max", "max\n")
    put(groups / "cgroup/user.slice/job/memory.max", "4096\n")
    put(groups / "cgroup/other/memory.max", "1\n")
    assert (limits.cpu_limit(), limits.memory_limit()) == (1.5, 4096)


def test_a_container_whose_groups_path_is_not_there_has_the_top(groups: Path) -> None:
    put(groups / "own", "0::/../../host/path\n")
    put(groups / "cgroup/cpu.max", "50000 100000\n")
    assert (limits.cpu_limit(), limits.memory_limit()) == (0.5, None)


def test_version_1(groups: Path) -> None:
    put(groups / "own", "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n")
    put(groups / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")  # no limit
    put(groups / "cgroup/memory/docker/a/memory.limit_in_bytes", "2048\n")
    put(groups / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    put(groups / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert (limits.cpu_limit(), limits.memory_limit()) == (None, 2048)
    put(groups / "cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    assert limits.cpu_limit() == 2.0


@pytest.mark.parametrize("text", ["", "nonsense\n", "0::/\n"])
def test_a_system_that_tells_nothing(text: str, groups: Path) -> None:
    put(groups / "own", text)
    put(groups / "cgroup/cpu.max", "max")
    assert (limits.cpu_limit(), limits.memory_limit()) == (None, None)
