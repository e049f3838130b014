"""What else the machine does while checkpoints are measured: for `device.load` of a report.

Nothing here needs torch. What a system does not tell is left out.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup/cpu.stat")
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")

# What slows a GPU that has work, by the bits of NVML (its header nvml.h, nvmlClocksEventReasons…); idling is none.
_SLOWED = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software, too hot",
    0x40: "hardware, too hot",
    0x80: "power brake",
}

_BUSY = 0.25
"""Share of the processors that others take from which it is told."""
_BUSY_GPU = 10
"""Per cent of its time for which a GPU works for others, from which it is told."""


def load() -> dict[str, Any]:
    """What the machine does now: load average, clock, throttling so far, and the GPU that is in use.

    `load_average` (1, 5 and 15 minutes) counts processes that run or wait, `cpus` those that we may run on; `cpu_mhz`
    is their mean clock and `cpu_most_mhz` what it may be; `cpu_throttled_ms` is how long a container was held back
    since it began, `cpu_throttle_count` how often heat or power slowed a core since the machine began.
    """
    found: dict[str, Any] = {"cpus": cpus()}
    if hasattr(os, "getloadavg"):
        with contextlib.suppress(OSError):
            found["load_average"] = [round(each, 2) for each in os.getloadavg()]
    for key, name in (("cpu_mhz", "cpufreq/scaling_cur_freq"), ("cpu_most_mhz", "cpufreq/cpuinfo_max_freq")):
        if clocks := _of_cores(name):
            found[key] = round(sum(clocks) / len(clocks) / 1000)
    if counts := _of_cores("thermal_throttle/core_throttle_count"):
        found["cpu_throttle_count"] = sum(counts)
    if (held := _throttled_ms()) is not None:
        found["cpu_throttled_ms"] = held
    return found | gpu()


def gpu() -> dict[str, Any]:
    """What NVML says of the GPU that torch takes first: use in per cent, processes on it, clock, what slows it.

    Empty where there is none, or nvidia-ml-py is not installed.
    """
    try:
        import pynvml
    except ImportError:
        return {}
    found: dict[str, Any] = {}
    with contextlib.suppress(pynvml.NVMLError, ValueError, UnicodeError):
        pynvml.nvmlInit()
        handle = _handle(pynvml)
        found["gpu_use"] = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        found["gpu_processes"] = len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        found["gpu_mhz"] = int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        found["gpu_slowed_by"] = [name for bit, name in _SLOWED.items() if reasons & bit]
    return found


def _handle(pynvml: Any) -> Any:
    """The first GPU that CUDA_VISIBLE_DEVICES names, by its number or its UUID."""
    first = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").split(",")[0].strip()
    if first.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(first))
    return pynvml.nvmlDeviceGetHandleByUUID(first)


def cpu_name() -> str:
    """What the processor calls itself."""
    return of_cpu("model name") or platform.processor() or platform.machine()


def of_cpu(*keys: str) -> str:
    """What Linux tells of the first processor under the first of `keys` that it has; empty elsewhere."""
    pairs = [line.partition(":") for line in _read(_CPUINFO).splitlines()]
    return next((value.strip() for key in keys for name, _, value in pairs if name.strip() == key), "")


def total_memory() -> int | None:
    """The bytes of memory of the machine; None where the system does not tell."""
    if (found := _of_memory("MemTotal:")) is not None:
        return found
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def free_memory() -> int | None:
    """The bytes that processes may take before the system swaps; None where it does not tell."""
    return _of_memory("MemAvailable:")


def _of_memory(key: str) -> int | None:
    return next((int(line.split()[1]) * 1024 for line in _read(_MEMINFO).splitlines() if line.startswith(key)), None)


def cpus() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_cores(name: str) -> list[int]:
    texts = (_read(path).strip() for path in sorted(_CPUS.glob(f"cpu[0-9]*/{name}")))
    return [int(text) for text in texts if text.isdecimal()]


def _throttled_ms() -> int | None:
    words = (line.split() for line in _read(_CGROUP).splitlines())
    return next((int(each[1]) // 1000 for each in words if len(each) == 2 and each[0] == "throttled_usec"), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def told(device: Mapping[str, Any]) -> list[str]:
    """What of a report's `device.load` may have changed times, one line each; empty where nothing did."""
    whole = device.get("load") or {}
    before, after, during = (whole.get(key) or {} for key in ("before", "after", "during"))
    lines = []
    busy, cpus = (before.get("load_average") or [0.0])[0], before.get("cpus") or 1
    if busy >= _BUSY * cpus:
        lines.append(f"the machine was at work before this began: load average {busy:g} on {cpus} CPUs")
    if (held := _grown(before, after, "cpu_throttled_ms")) > 0:
        lines.append(f"the CPU limit of the container held processes back for {held / 1000:.1f} s")
    if (often := _grown(before, after, "cpu_throttle_count")) > 0:
        lines.append(f"heat or power slowed the CPU {often} times")
    if before.get("gpu_use", 0) >= _BUSY_GPU or before.get("gpu_processes", 0):
        use, others = before.get("gpu_use", 0), before.get("gpu_processes", 0)
        lines.append(f"the GPU was in use before this began: {use} % of the time, {others} other processes")
    if reasons := during.get("gpu_slowed_by"):
        lines.append(f"the GPU was slowed while it worked: {', '.join(reasons)}")
    return [f"{line}; times may differ for that" for line in lines]


def _grown(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> int:
    return int(after[key] - before[key]) if key in before and key in after else 0


def slowed(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What slowed a GPU in any of its states, while it worked; empty where NVML told nothing."""
    if not any("gpu_slowed_by" in state for state in states):
        return {}
    return {"gpu_slowed_by": sorted({reason for state in states for reason in state.get("gpu_slowed_by", ())})}
