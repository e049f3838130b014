"""One evaluation split over the processes of `accelerate launch` or `torchrun`: who takes which questions, who is told.

Every process of the launcher measures the checkpoints one after the other, each in a fresh worker; the workers of one
measurement join a `Group` and gather their results.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from compresskit import errors
from compresskit.errors import CompresskitError, RunFailed, UsageError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup, Store  # type: ignore[attr-defined]  # public, and not marked so

Value = TypeVar("Value")

JOIN_SECONDS = 600.0
"""How long a worker waits for the others to start: they follow one another checkpoint by checkpoint, so not long."""
GATHER_SECONDS = 3600.0
"""How long results are waited for. A process that ends is noticed at once; this is for a machine that vanishes."""


class PeerFailed(RunFailed):
    """Another process of the measurement was ended, or failed with an error that is not a `CompresskitError`."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a process says to the others in place of a value: the class of its exception, and the text in one line."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Shard:
    """The place of this process among those of the launcher: number `rank` of `world`, `local_rank` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Shard:
        """Read RANK, WORLD_SIZE and LOCAL_RANK (default: RANK); a single process where WORLD_SIZE is unset or 1.

        Raises UsageError where they are not whole numbers, or do not go together.
        """
        world = _number("WORLD_SIZE", "1")
        if world == 1:
            return cls()
        rank = _number("RANK")
        if rank >= world:
            raise UsageError(
                f"the environment says RANK={rank} of WORLD_SIZE={world}; ranks count from 0 to {world - 1}"
            )
        return cls(rank, world, _number("LOCAL_RANK", str(rank)))

    def part(self, n: int) -> range:
        """Which of `n` questions are this process's: consecutive ones, as many as any other's or one more or less."""
        return range(n * self.rank // self.world, n * (self.rank + 1) // self.world)


def _number(name: str, default: str = "") -> int:
    text = os.environ.get(name) or default
    if not text.isdecimal():
        raise UsageError(
            f"the environment says {name}={text!r}, where a whole number should be; start with accelerate launch or "
            "torchrun, or unset WORLD_SIZE for a single process"
        )
    return int(text)


class Group:
    """The processes that measure one checkpoint together: a context manager around this one's share of the work.

    `index` is the number of the measurement, the same in all of them. An exception that ends the block is told to the
    others, whose next `gather` raises it; so nobody waits for a process that has failed. Without other processes
    nothing is joined, and `gather` hands back its value alone.

    Entering raises UsageError where the environment does not say where to meet, and PeerFailed where the processes
    cannot meet there, or not all of them come.
    """

    def __init__(
        self,
        shard: Shard,
        index: int = 0,
        join_seconds: float = JOIN_SECONDS,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self.shard = shard
        self._index = index
        self._join_timeout = timedelta(seconds=join_seconds)
        self._gather_timeout = timedelta(seconds=gather_seconds)
        self._is_whole = True
        self._peers: ProcessGroup | None = None

    def __enter__(self) -> Group:
        if self.shard.world == 1:
            return self
        from torch import distributed

        rank, world = self.shard.rank, self.shard.world
        address, port = os.environ.get("MASTER_ADDR") or "localhost", _number("MASTER_PORT")
        try:
            store = self._open_store(address, port)
            distributed.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=self._join_timeout)
            # The same processes once more, since a group has one timeout for joining and for gathering.
            self._peers = distributed.new_group(timeout=self._gather_timeout)
        except (RuntimeError, ValueError) as error:
            raise PeerFailed(
                f"process {rank} of {world} cannot meet the others at {address}:{port} ({_first_line(error)}); read "
                "what the others say; set MASTER_ADDR to the machine of process 0, MASTER_PORT to a free port there "
                "and, where machines have several networks, GLOO_SOCKET_IFNAME to the name of one"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shard.world == 1:
            return
        from torch import distributed

        # Whoever is interrupted just leaves: so does everybody else.
        if isinstance(error, Exception) and self._is_whole:
            with contextlib.suppress(PeerFailed):
                self._exchange(_Failure(type(error).__name__, " ".join(str(error).split())))
        distributed.destroy_process_group()

    def gather(self, value: Value) -> list[Value]:
        """Every process's `value`, by rank, once all have given theirs; every process gets all of them.

        Raises what another process failed with (the first of them by rank): its error where that is a
        `CompresskitError`; PeerFailed for anything else, and where a process is gone or takes longer than
        the group's `gather_seconds`.
        """
        if self.shard.world == 1:
            return [value]
        said = self._exchange(value)
        for rank, part in enumerate(said):
            if isinstance(part, _Failure):
                raise _peer_error(rank, part)
        self._is_whole = True
        return said

    def _open_store(self, address: str, port: int) -> Store:
        """torch's own meeting place, in a part of it that belongs to this group.

        torch takes a store for one group of the processes that it started. Ours are started anew for every group, so
        what earlier groups left in the store is kept apart.
        """
        from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

        # torchrun's agent serves one store for all groups. Where there is none, process 0 of each group serves one; a
        # port of its own keeps a process that is early from meeting the store of the group before.
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
            port += self._index
        host = f"[{address}]" if ":" in address else address
        url = f"tcp://{host}:{port}"
        store, _, _ = next(rendezvous(url, self.shard.rank, self.shard.world, timeout=self._join_timeout))
        # A launcher may start the evaluation anew, and a script may run several: how often this process came to this
        # measurement tells them apart.
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"compresskit/{restarts}/{self._index}", store)
        return PrefixStore(str(store.add(f"visits/{self.shard.rank}", 1)), store)

    def _exchange(self, part: Value | _Failure) -> list[Any]:
        """What every process says, by rank.

        It is pickled. That is safe here, and nowhere else: all of them run this program, started by one launcher.
        """
        from torch import distributed

        self._is_whole = False
        said: list[Any] = [None] * self.shard.world
        try:
            distributed.all_gather_object(said, part, group=self._peers)
        except RuntimeError as error:
            raise PeerFailed(
                f"another process of the evaluation was ended, or is too slow ({_first_line(error)}); what it said "
                "last tells why; out of memory most likely, then give a smaller --batch-size"
            ) from error
        return said


def _peer_error(rank: int, failure: _Failure) -> CompresskitError:
    known = getattr(errors, failure.kind, None)
    if isinstance(known, type) and issubclass(known, CompresskitError):
        return known(failure.text)
    return PeerFailed(f"process {rank} of the evaluation failed: {failure.kind}: {failure.text}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
