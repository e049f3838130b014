"""The examination: what is found out in which order, and the report of it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from compresskit import __version__
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.doctor.child import PATHS
from compresskit.doctor.host import Host, host
from compresskit.doctor.network import Asking, Hub
from compresskit.doctor.processes import AT_ONCE, Outcome, outcomes
from compresskit.packages import PACKAGES, Package, asked_of, command, fits, installed
from compresskit.text import to_json

SCHEMA = "compresskit.doctor/1"
SCHEMA_FILE = Path(__file__).with_name("doctor.schema.json")

State = Literal["ok", "untried", "untested", "missing", "broken"]
"""`untried` cannot be tried here; `untested` works in a version that is none of those that the project asks for."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of one package; `needed` is that the program does not work without it."""

    package: Package
    version: str | None
    state: State
    needed: bool
    did: str = ""
    reason: str | None = None
    seconds: float | None = None
    cause: str | None = None

    @property
    def module(self) -> str:
        """The outermost name of its module."""
        return self.package.module.partition(".")[0]

    @property
    def command(self) -> str | None:
        """What mends it; None where it is well."""
        if self.state in ("ok", "untried"):
            return None
        # Where another version is to come, or one that it needs, pip does so without a word more.
        whole = self.version is not None and fits(self.package, self.version)
        return command(self.package, self.version, again=whole and self.cause in (None, self.module))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        wanted = asked_of(self.package)
        return {
            "name": self.package.name,
            "module": self.package.module,
            "state": self.state,
            "version": self.version,
            "asked": None if wanted is None else wanted.versions,
            "extra": None if wanted is None else wanted.extra,
            "needed": self.needed,
            "brings": self.package.brings,
            "did": self.did or None,
            "reason": self.reason,
            "cause": self.cause,
            "seconds": self.seconds,
            "install": self.command,
        }


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that torch can use."""

    name: str
    memory_bytes: int
    free_bytes: int
    compute_capability: str


@dataclass(frozen=True, slots=True)
class Torch:
    """Which CUDA torch was built for (None: for none), and the GPUs that it can use."""

    cuda: str | None
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found; `torch` is None where torch does not work."""

    host: Host
    hub: Hub
    packages: tuple[Examined, ...]
    torch: Torch | None
    paths: tuple[tuple[str, str], ...]

    @property
    def broken(self) -> list[Examined]:
        """The needed packages that do not work, or are not there."""
        return [each for each in self.packages if each.needed and each.state in ("missing", "broken")]

    def mend(self, bad: Examined) -> str | None:
        """The command that mends a package: its own, or that of another broken one whose fault it is."""
        others = {each.module: each for each in self.packages if each.command is not None}
        return others[bad.cause].command if bad.cause in others else bad.command

    @property
    def commands(self) -> list[tuple[str, list[Examined]]]:
        """What installs or mends, and the packages that it is for; what is of no use here is left out."""
        found: dict[str, list[Examined]] = {}
        has_gpu = bool(self.host.gpus_seen or (self.torch and self.torch.gpus))
        for each in self.packages:
            line = self.mend(each)
            if each.command is not None and line is not None and (has_gpu or not each.package.gpu):
                found.setdefault(line, []).append(each)
        return list(found.items())

    def to_json(self) -> str:
        """As `compresskit doctor --json` writes it; see doctor.schema.json."""
        value = {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "compresskit": __version__,
            "works": not self.broken,
            "machine": asdict(self.host),
            "hub": asdict(self.hub),
            "torch": None if self.torch is None else asdict(self.torch),
            "packages": [each.to_dict() for each in self.packages],
            "paths": [{"what": what, "how": how} for what, how in self.paths],
            "install": [
                {"command": line, "packages": [each.package.name for each in those]} for line, those in self.commands
            ],
        }
        return to_json(value, indent=2)


class Listener:
    """Is told of each finding as it comes; this one keeps it to itself."""

    def host(self, found: Host) -> None:
        """The machine, at once."""

    def hub(self, found: Hub) -> None:
        """The Hub."""

    def package(self, found: Examined) -> None:
        """One package; the needed ones come first."""

    def torch(self, found: Torch | None, host: Host) -> None:
        """The GPUs, once all packages are told."""

    def paths(self, found: Sequence[tuple[str, str]]) -> None:
        """The ways of computing."""


def examine(listener: Listener, packages: Sequence[Package] = PACKAGES) -> Report:
    """Find out all, and tell the listener of each as it comes."""
    asking, machine = Asking(), host()
    listener.host(machine)
    hub = asking.result()
    listener.hub(hub)
    versions = {package.name: installed(package) for package in packages}
    there = [name for name, version in versions.items() if version is not None]
    at_once = max(1, min(AT_ONCE, machine.cpus, math.ceil(machine.cpu_limit or AT_ONCE)))
    examined, torch = [], None
    with temporary_folder() as folder, contextlib.closing(outcomes([*there, PATHS], folder, at_once)) as results:
        for package in packages:
            version = versions[package.name]
            outcome = next(results) if version is not None else None
            found = _examined(package, version, outcome)
            if package.name == "torch" and outcome is not None and outcome.reason is None:
                torch = _torch(outcome)
            examined.append(found)
            listener.package(found)
        listener.torch(torch, machine)
        last = next(results)
    ways = tuple((each["what"], each["how"]) for each in last.facts.get("paths", ()))
    ways = ways or (("all", f"not to be told: {last.reason}"),)
    listener.paths(ways)
    return Report(machine, hub, tuple(examined), torch, ways)


def _examined(package: Package, version: str | None, outcome: Outcome | None) -> Examined:
    wanted = asked_of(package)
    needed = wanted is not None and wanted.extra is None
    if version is None or outcome is None:
        return Examined(package, None, "missing", needed)
    if outcome.reason is not None:
        return Examined(
            package, version, "broken", needed, reason=outcome.reason, seconds=outcome.seconds, cause=outcome.cause
        )
    if not fits(package, version):
        reason = f"the project asks for {wanted.versions if wanted else 'another'}"
        return Examined(package, version, "untested", needed, outcome.did, reason, outcome.seconds)
    if outcome.untried:
        return Examined(package, version, "untried", needed, reason=outcome.did, seconds=outcome.seconds)
    return Examined(package, version, "ok", needed, outcome.did, seconds=outcome.seconds)


def _torch(outcome: Outcome) -> Torch:
    return Torch(outcome.facts.get("cuda"), tuple(Gpu(**each) for each in outcome.facts.get("gpus", ())))
