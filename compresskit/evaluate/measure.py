"""What a checkpoint costs: parameters, bytes on disk, peak memory, latency."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from compresskit.errors import InputError
from compresskit.evaluate.machine import cpu_name
from compresskit.training.allocator import resident_bytes

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

_KIB = 1024
ZSTD_LEVEL = 3  # zstd's own default
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Latency:
    """Median and 95th percentile of the time of one call, in milliseconds."""

    p50_ms: float
    p95_ms: float


class PeakMemory:
    """Context manager: the peak memory of this process while the block ran.

    On a CUDA device: bytes allocated there by torch (what is allocated at entry included), beside what its allocator
    reserved and what NVML says of the process as the block ends. Elsewhere: the resident set of the whole process,
    which means something only in a process of its own; where the system cannot forget an earlier peak, that one counts.

    After the block, `bytes`, `reserved` and `process` (None where the system does not tell) and `kind` ("cuda"
    or "rss") are set.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.kind: Literal["cuda", "rss"] = "cuda" if device.type == "cuda" else "rss"
        self.bytes: int | None = None
        self.reserved: int | None = None
        self.process: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.kind == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            forget_peak_rss()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.kind == "cuda":
            import torch

            self.bytes = torch.cuda.max_memory_allocated(self._device)
            self.reserved = torch.cuda.max_memory_reserved(self._device)
            self.process = nvml_process_bytes(self._device)
        else:
            self.bytes = peak_rss_bytes()


def forget_peak_rss() -> None:
    """Make the present resident set the peak so far; nothing happens where the system does not allow that."""
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")


def nvml_process_bytes(device: torch.device) -> int | None:
    """The device memory of this process as NVML counts it, the CUDA context included.

    None where the package nvidia-ml-py or the driver's library is missing, or where processes are not told apart (as in
    a container with process numbers of its own).
    """
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)


def library_bytes(device: torch.device) -> int | None:
    """The memory that this process takes before it has a model: what the libraries need for themselves.

    On CUDA that is the context, as NVML counts it; elsewhere the resident set. None where the system does not tell.
    """
    if device.type != "cuda":
        return resident_bytes()
    import torch

    torch.zeros(1, device=device)  # which makes the context
    return nvml_process_bytes(device)


def peak_rss_bytes() -> int | None:
    """The peak resident set of this process in bytes; None on a system that does not tell."""
    if sys.platform == "darwin":
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not ru_maxrss: Linux carries it over fork and exec, so a small child of a big parent would report the
    # parent's peak. VmHWM belongs to the address space, which is new after exec.
    return _of_status("VmHWM:")


def _of_status(key: str) -> int | None:
    """The bytes that Linux tells of this process under a key; None elsewhere."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith(key)), None)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what was asked of it; a CPU always has."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def latency(
    fn: Callable[[Item], object], items: Sequence[Item], warmup: int, device: torch.device, repeat: int = 1
) -> Latency:
    """Time `fn` on each of `items`, one after the other, `repeat` times, after `warmup` untimed calls.

    Percentiles are interpolated linearly (Hyndman and Fan, type 7). Raises ValueError where there is no item.
    """
    if not items:
        raise ValueError("latency needs at least one item")
    for index in range(warmup):
        fn(items[index % len(items)])
    times = []
    for item in itertools.chain.from_iterable([items] * repeat):
        synchronize(device)
        start = time.perf_counter()
        fn(item)
        synchronize(device)
        times.append(1000.0 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(float(p50), float(p95))


def describe_device(device: torch.device) -> dict[str, str | int]:
    """What the figures were measured on: kind, name, operating system; CPU threads or CUDA version."""
    import torch

    system = f"{platform.system()} {platform.release()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return {"kind": "cuda", "name": name, "cuda": torch.version.cuda or "-", "os": system}
    return {"kind": device.type, "name": cpu_name(), "threads": torch.get_num_threads(), "os": system}


def disk_bytes(folder: Path) -> int:
    """The bytes of the files in a folder (see `folder_files`)."""
    return sum(path.stat().st_size for path in folder_files(folder))


def folder_files(folder: Path) -> Iterator[Path]:
    """The files in `folder` and below; of hard links to one file the first.

    Links are not followed, save those of the Hub's cache, which keeps the content of `snapshots/<revision>`
    in `blobs` beside it. Raises InputError where `folder` is not a folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder of a checkpoint")
    folder = folder.resolve()
    home = folder.parents[1] if folder.parent.name == "snapshots" else folder
    seen: set[tuple[int, int]] = set()
    for path in _files(folder):
        status = path.stat()
        if path.resolve().is_relative_to(home) and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield path


def deploy_bytes(paths: Iterable[Path]) -> int:
    """The bytes of all the files named, and of those in the folders named; each real file counts once.

    Links are followed: what they lead to has to be shipped. Raises InputError where a path does not exist.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: is needed to run the checkpoint, and does not exist; restore it")
        files.extend(_files(path) if path.is_dir() else [path])
    return _bytes_once(files)


def zstd_bytes(paths: Iterable[Path]) -> int:
    """The bytes of the files after zstandard at level 3, its default, each file by itself; none is written."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=-1)
    total = 0
    for path in paths:
        with path.open("rb") as file:
            total += sum(map(len, compressor.read_to_iter(file, size=path.stat().st_size)))
    return total


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder`, links to files included; linked folders are not entered."""
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).is_file())


def _bytes_once(files: Iterable[Path]) -> int:
    sizes = {(status.st_dev, status.st_ino): status.st_size for status in map(os.stat, files)}
    return sum(sizes.values())
