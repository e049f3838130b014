"""What every benchmark says first, the hardware and the versions that its figures hold for; and how times are told."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from compresskit.checkpoint.manifest import package_versions
from compresskit.evaluate.measure import describe_device, synchronize


def headline(device: torch.device) -> str:
    """One line: device and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return f"{describe_device(device).get('name', device.type)}; {versions}"


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that some work takes, until the device has finished it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the rounds; of one round its value three times."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def told(values: Sequence[float], form: str = ".1f") -> str:
    """The rounds in words: `median (lower quartile-upper quartile)`."""
    low, middle, high = quartiles(values)
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def gpu_seconds(work: Callable[[], object], device: torch.device) -> float | None:
    """Seconds in which at least one kernel runs on the GPU while some work is done; None on a CPU.

    The work is done once more for it, under a profiler, which makes the CPU slower, but no kernel: divide by the time
    of a round that was not profiled. Copies do not count.
    """
    if device.type != "cuda":
        return None
    with gpu_profile() as profile:
        seconds_of(work, device)
    return kernel_seconds(profile)


def gpu_profile() -> torch.profiler.profile:
    """A profiler of what the GPU does, to be started and stopped while the GPU has nothing to do."""
    return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])


def kernel_seconds(profile: torch.profiler.profile) -> float:
    """Seconds in which at least one kernel ran, copies left out."""
    kernels = (
        (event.time_range.start, event.time_range.end)
        for event in profile.events()  # type: ignore[no-untyped-call]  # torch's own
        if event.device_type.name == "CUDA"
        and not event.is_user_annotation  # which span many kernels, and the time between them
        and not event.name.startswith(("Memcpy", "Memset"))
    )
    return union(kernels) / 1e6


def union(spans: Iterable[tuple[float, float]]) -> float:
    """The length of what is covered by at least one of some spans (begin, end)."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return covered


def share(gpu: float | None, seconds: Sequence[float]) -> str:
    """The part of the median round in which the GPU works, in per cent; `-` on a CPU."""
    return "-" if gpu is None else f"{100 * gpu / statistics.median(seconds):.0f} %"
