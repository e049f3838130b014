"""The findings in words: short tables of at most 80 columns, a line at a time."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from compresskit import __version__
from compresskit.doctor.examine import Examined, Listener, Report, Torch
from compresskit.doctor.host import Host
from compresskit.doctor.network import Hub
from compresskit.evaluate.units import size
from compresskit.text import counted

WIDTH = 80
_LABEL = 19
_WORDS = {"ok": "ok", "untried": "untried", "untested": "UNTESTED", "missing": "missing", "broken": "BROKEN"}


class Teller(Listener):
    """Hands each line to `tell` as soon as it is known."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._part = ""

    def host(self, found: Host) -> None:
        """The machine and its limits."""
        # A version between two releases is long.
        for line in textwrap.wrap(f"compresskit {__version__}, Python {found.python}, {found.os}", WIDTH):
            self._tell(line)
        self._begin("machine")
        self._line("processor", found.cpu)
        self._line("instructions", _instructions(found))
        self._line("cores", _cores(found))
        self._line("memory", _memory(found))
        for disk in found.disks:
            free = "free space not told" if disk.free_bytes is None else f"{size(disk.free_bytes)} free"
            self._line(f"disk, {disk.what}", f"{free} in {disk.folder}")

    def hub(self, found: Hub) -> None:
        """The Hub."""
        took = "" if found.seconds is None else f" in {found.seconds:.1f} s"
        reason = "" if found.reason is None else f" ({found.reason})"
        self._line("Hub", f"{found.state}{took}{reason}" + (f", {found.endpoint}" if found.endpoint else ""))

    def package(self, found: Examined) -> None:
        """One package in a line; what is wrong with it in the lines below."""
        self._begin("needed packages" if found.needed else "optional packages")
        version = found.version or "-"
        head = f"  {_WORDS[found.state]:<9}{found.package.name:<19}{version:<14}"
        self._tell(_cut(head + found.package.brings))
        if found.reason is not None:
            self._wrapped(found.reason)

    def torch(self, found: Torch | None, host: Host) -> None:
        """The GPUs that torch can use, or why it can use none."""
        self._begin("GPUs")
        unknown = "not told by this system" if found is not None and found.gpus else "none of NVIDIA"
        self._line("driver", host.nvidia_driver or unknown)
        if found is None:
            self._line("torch", "does not work")
            return
        self._line("torch", f"built for CUDA {found.cuda}" if found.cuda else "built without CUDA")
        for number, gpu in enumerate(found.gpus):
            memory = f"{size(gpu.free_bytes)} of {size(gpu.memory_bytes)} free"
            self._line(f"GPU {number}", f"{gpu.name}, compute capability {gpu.compute_capability}, {memory}")
        if not found.gpus:
            self._line("in use", _no_gpu(found, host))

    def paths(self, found: Sequence[tuple[str, str]]) -> None:
        """The ways of computing."""
        self._begin("how it computes here")
        for what, how in found:
            self._line(what, how)

    def end(self, report: Report) -> None:
        """What installs what is missing, and whether the core works."""
        for title, those in (("to mend", ("broken", "untested")), ("to have what is missing", ("missing",))):
            for line, packages in report.commands:
                if packages[0].state in those:
                    self._begin(title)
                    self._command(line, packages)
        self._tell("")
        bad = report.broken
        verdict = f"does not work: {', '.join(each.package.name for each in bad)}" if bad else "works"
        for line in textwrap.wrap(f"the core {verdict}", WIDTH, break_on_hyphens=False):
            self._tell(line)

    def _command(self, line: str, packages: Sequence[Examined]) -> None:
        self._tell(f"  {line}")  # in one piece, to be copied
        if packages[0].state == "missing":
            brings = dict.fromkeys(each.package.brings for each in packages)
            self._wrapped(f"for {', '.join(brings)}")
        else:
            self._wrapped(f"mends {', '.join(each.package.name for each in packages)}")

    def _begin(self, part: str) -> None:
        if part != self._part:
            self._part = part
            self._tell("")
            self._tell(part)

    def _line(self, label: str, text: str) -> None:
        indent = " " * (_LABEL + 2)
        for line in textwrap.wrap(text, WIDTH, initial_indent=f"  {label:<{_LABEL}}", subsequent_indent=indent) or [""]:
            self._tell(line)

    def _wrapped(self, text: str) -> None:
        indent = " " * 11
        for line in textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False):
            self._tell(line)


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _instructions(found: Host) -> str:
    told = []
    for word, wanted in (("has", True), ("lacks", False)):
        names = [name for name, is_there in found.instructions.items() if is_there is wanted]
        told += [f"{word} {', '.join(names)}"] if names else []
    return "; ".join(told) or "not told by this system"


def _cores(found: Host) -> str:
    text = f"{found.cpus} for this process"
    if found.cpus != found.cpus_machine:
        text += f", of {found.cpus_machine}"
    if found.cpu_limit is not None:
        text += f"; a limit allows the work of {found.cpu_limit:.3g}"
    return text + (f"; OMP_NUM_THREADS={found.threads_variable}" if found.threads_variable else "")


def _memory(found: Host) -> str:
    told = []
    if found.memory_bytes is not None:
        told.append(size(found.memory_bytes))
    if found.memory_free_bytes is not None:
        told.append(f"{size(found.memory_free_bytes)} free")
    if found.memory_limit_bytes is not None:
        told.append(f"a limit allows {size(found.memory_limit_bytes)}")
    return ", ".join(told) or "not told by this system"


def _no_gpu(found: Torch, host: Host) -> str:
    """Why torch can use no GPU, and the mend where there is one."""
    if not host.gpus_seen:
        return "none here; everything runs on the CPU"
    seen = f"{counted(host.gpus_seen, 'GPU')} here"
    if found.cuda is None:
        return f"none: {seen}, but this torch is for CPUs; install one for CUDA (pytorch.org tells the command)"
    return f"none: {seen}; the driver may be too old for CUDA {found.cuda}, or CUDA_VISIBLE_DEVICES hides them"
