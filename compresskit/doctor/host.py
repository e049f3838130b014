"""The machine, as far as the system tells of it without any package: processor, memory, disks, driver."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compresskit.doctor.limits import cpu_limit, memory_limit
from compresskit.evaluate.cache_place import cache_folder
from compresskit.evaluate.machine import cpu_name, cpus, free_memory, of_cpu, total_memory

_DRIVER = Path("/proc/driver/nvidia/version")
_GPUS = Path("/proc/driver/nvidia/gpus")

# Instructions that decide how quickly we compute, and what Linux calls them: on x86, and on ARM.
_X86 = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "bf16": ("avx512_bf16", "amx_bf16", "avx_ne_convert"),
    "AMX": ("amx_tile",),
}
_ARM = {
    "NEON": ("asimd",),
    "dot products": ("asimddp",),
    "bf16": ("bf16",),
    "int8 products": ("i8mm",),
    "SVE": ("sve",),
}


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that grows as the program works, and the bytes that are free where it is (None: not told)."""

    what: str
    folder: str
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class Host:
    """The machine and its limits; None stands for what the system does not tell, or where nothing limits.

    `instructions` are those that matter, with whether the processor has them; empty where that is not told.
    `cpus_machine` are all processors, `cpus` those that this process may run on, and `cpu_limit` how many of them a
    control group lets it keep busy. `gpus_seen` counts the GPUs that the driver of NVIDIA knows.
    """

    os: str
    python: str
    cpu: str
    instructions: Mapping[str, bool]
    cpus_machine: int
    cpus: int
    cpu_limit: float | None
    threads_variable: str | None
    memory_bytes: int | None
    memory_free_bytes: int | None
    memory_limit_bytes: int | None
    disks: tuple[Disk, ...]
    nvidia_driver: str | None
    gpus_seen: int


def host() -> Host:
    """What the system tells now."""
    return Host(
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cpu=cpu_name(),
        instructions=_instructions(),
        cpus_machine=os.cpu_count() or 1,
        cpus=cpus(),
        cpu_limit=cpu_limit(),
        threads_variable=os.environ.get("OMP_NUM_THREADS") or None,
        memory_bytes=total_memory(),
        memory_free_bytes=free_memory(),
        memory_limit_bytes=memory_limit(),
        disks=_disks(),
        nvidia_driver=_driver(),
        gpus_seen=len(list(_GPUS.glob("*"))),
    )


def _instructions() -> dict[str, bool]:
    has = set(of_cpu("flags", "Features").split())
    known = _ARM if "asimd" in has else _X86
    return {name: not has.isdisjoint(words) for name, words in known.items()} if has else {}


def _disks() -> tuple[Disk, ...]:
    """Where models of the Hub and our own measurements are kept."""
    folders = {"measurements": cache_folder()}
    with contextlib.suppress(Exception):  # a package that is broken is told of elsewhere
        from huggingface_hub import constants

        folders = {"models": Path(constants.HF_HUB_CACHE), **folders}
    return tuple(Disk(what, str(folder), _free(folder)) for what, folder in folders.items())


def _free(folder: Path) -> int | None:
    """The bytes free for a folder, which may not have been made yet."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def _driver() -> str | None:
    """The version of NVIDIA's driver of Linux; None where there is none."""
    try:
        text = _DRIVER.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else "of unknown version"
