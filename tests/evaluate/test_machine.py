"""What else the machine does."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compresskit.evaluate import machine
from compresskit.evaluate.row import SCHEMA_FILE


def test_a_state_holds_to_the_published_schema() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    Draft202012Validator({**schema["$defs"]["state"], "$defs": schema["$defs"]}).validate(machine.load())


def test_what_linux_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for core, clock in enumerate((2_000_000, 3_000_000)):
        for name, text in (("cpufreq/scaling_cur_freq", clock), ("thermal_throttle/core_throttle_count", 4)):
            path = tmp_path / f"cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 5\nnr_throttled 3\nthrottled_usec 2500000\n")
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "cpu.stat")
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 1.0, 0.5), raising=False)
    monkeypatch.setattr(machine, "gpu", dict)
    found = machine.load()
    assert found.pop("cpus") >= 1
    assert found == {
        "load_average": [1.5, 1.0, 0.5],
        "cpu_mhz": 2500,
        "cpu_throttle_count": 8,
        "cpu_throttled_ms": 2500,
    }


class NVML(SimpleNamespace):
    """The package pynvml with one GPU."""

    NVMLError = RuntimeError
    NVML_CLOCK_SM = 1
    nvmlInit = staticmethod(lambda: None)
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)
    nvmlDeviceGetUtilizationRates = staticmethod(lambda _: SimpleNamespace(gpu=40))
    nvmlDeviceGetComputeRunningProcesses = staticmethod(lambda _: [1, 2])
    nvmlDeviceGetClockInfo = staticmethod(lambda *_: 1980)
    nvmlDeviceGetCurrentClocksThrottleReasons = staticmethod(lambda _: 0x1 | 0x4 | 0x40)


def test_what_nvml_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    state = machine.gpu()
    assert state == {
        "gpu_use": 40,
        "gpu_processes": 2,
        "gpu_mhz": 1980,
        "gpu_slowed_by": ["power cap", "hardware, too hot"],
    }
    assert machine.slowed([state, {"gpu_slowed_by": ["power cap"]}]) == {
        "gpu_slowed_by": sorted(state["gpu_slowed_by"])
    }
    assert machine.slowed([{}, {}]) == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.gpu() == {}


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({}, []),
        ({"before": {"cpus": 8, "load_average": [1.0, 1.0, 1.0]}}, []),
        ({"before": {"cpus": 2, "load_average": [3.1, 1.0, 1.0]}}, ["load average 3.1 on 2 CPUs"]),
        ({"before": {"load_average": []}}, []),
        ({"before": {"cpu_throttled_ms": 100}, "after": {"cpu_throttled_ms": 1600}}, ["held processes back for 1.5 s"]),
        ({"before": {"cpu_throttle_count": 5}, "after": {"cpu_throttle_count": 7}}, ["slowed the CPU 2 times"]),
        ({"before": {"gpu_use": 40, "gpu_processes": 1}}, ["40 % of the time, 1 other processes"]),
        ({"during": {"gpu_slowed_by": ["power cap"]}}, ["slowed while it worked: power cap"]),
    ],
)
def test_what_matters_is_told(load: dict[str, Any], words: list[str]) -> None:
    found = machine.told({"kind": "cpu", "load": load})
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))
    assert machine.told({}) == []
