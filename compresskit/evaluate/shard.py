"""One evaluation split over the processes of `accelerate launch` or `torchrun`: who takes which questions, who is told.

Every process of the launcher measures the checkpoints one after the other, each in a fresh worker; the workers of one
measurement join a `Group` and gather their results. What passes between them is JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from compresskit import errors
from compresskit.errors import CompresskitError, RunFailed, UsageError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # public, and not marked so

JOIN_SECONDS = 600.0
"""How long a worker waits for the others to start: they follow one another checkpoint by checkpoint, so not long."""
GATHER_SECONDS = 3600.0
"""How long results are waited for. A process that ends is noticed at once; this is for a machine that vanishes."""


class PeerFailed(RunFailed):
    """Another process of the measurement was ended, or failed for a reason that is no `CompresskitError`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The place of this process among those of the launcher: number `rank` of `world`, `local_rank` on its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Shard:
        """Read RANK, WORLD_SIZE and LOCAL_RANK (default: RANK); a single process where WORLD_SIZE is unset or 1.

        Raises UsageError where they are no whole numbers, or do not go together.
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

    Entering raises UsageError where the environment does not say where to meet, RunFailed where they cannot, and
    PeerFailed where not all of them come.
    """

    def __init__(
        self,
        shard: Shard,
        index: int = 0,
        join_seconds: float = JOIN_SECONDS,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._shard = shard
        self._index = index
        self._join_timeout = timedelta(seconds=join_seconds)
        self._gather_timeout = timedelta(seconds=gather_seconds)
        self._whole = True

    def __enter__(self) -> Group:
        if self._shard.world > 1:
            from torch import distributed

            store = self._meet()
            try:
                distributed.init_process_group(
                    "gloo",
                    store=store,
                    rank=self._shard.rank,
                    world_size=self._shard.world,
                    timeout=self._gather_timeout,
                )
            except RuntimeError as error:
                raise PeerFailed(
                    f"process {self._shard.rank} of {self._shard.world} cannot connect to the others "
                    f"({_first_line(error)}); where machines have several networks, name one as GLOO_SOCKET_IFNAME"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shard.world == 1:
            return
        from torch import distributed

        # Whoever is interrupted just leaves: so does everybody else.
        if isinstance(error, Exception) and self._whole:
            with contextlib.suppress(PeerFailed):
                told = {"error": " ".join(str(error).split()), "class": type(error).__name__}
                self._exchange(json.dumps(told))
        distributed.destroy_process_group()

    def gather(self, value: object) -> list[Any]:
        """Every process's `value`, by rank, once all have given theirs; every process gets all of them.

        Values are what JSON can say (infinity and NaN too), and come back as JSON has them: a tuple as a list.
        Raises what another process failed with (the first of them by rank): its error where that is a
        `CompresskitError`; PeerFailed for anything else, and where a process is gone or takes longer than
        the group's `gather_seconds`.
        """
        text = json.dumps({"value": value})
        self._whole = False
        said = self._exchange(text)
        for rank, message in enumerate(said):
            if "error" in message:
                raise _peer_error(rank, message["class"], message["error"])
        self._whole = True
        return [message["value"] for message in said]

    def _meet(self) -> Store:
        """A store that all processes of the group, and nobody else, use; returns when all of them do."""
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        shard, agent = self._shard, os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        address, port = os.environ.get("MASTER_ADDR") or "localhost", _number("MASTER_PORT")
        # torchrun's agent serves one store for all groups. Where there is none, process 0 serves one a group; a port of
        # its own keeps a process that is early from meeting the store of the group before.
        port += 0 if agent else self._index
        serves = shard.rank == 0 and not agent
        try:
            store: Store = TCPStore(
                address, port, shard.world, serves, timeout=self._join_timeout, wait_for_workers=False
            )
        except (RuntimeError, ValueError) as error:
            raise RunFailed(
                f"process {shard.rank} of {shard.world} cannot {'listen at' if serves else 'reach'} {address}:{port} "
                f"({_first_line(error)}); set MASTER_ADDR to the machine of process 0, and MASTER_PORT to a free port"
            ) from error
        try:
            # A launcher may start the evaluation anew, or a script several: what they left in the agent's store is
            # told apart by how often this process came here.
            restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = PrefixStore(f"compresskit/{restart}/{self._index}", store)
            store = PrefixStore(str(store.add(f"visits/{shard.rank}", 1)), store)
            store.set(f"here/{shard.rank}", "")
            store.wait([f"here/{rank}" for rank in range(shard.world)], self._join_timeout)
        except RuntimeError as error:
            raise PeerFailed(
                f"not all {shard.world} processes came together within {self._join_timeout.total_seconds():.0f} s "
                f"({_first_line(error)}); see what the others say, and start all of them again"
            ) from error
        return store

    def _exchange(self, text: str) -> list[dict[str, Any]]:
        """What the JSON of every process says, by rank. It travels as bytes, padded to the longest."""
        if self._shard.world == 1:
            return [json.loads(text)]
        import torch
        from torch import distributed

        try:
            own = torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8)
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self._shard.world)]
            distributed.all_gather(sizes, torch.tensor([len(own)]))
            longest = max(int(size) for size in sizes)
            received = [torch.empty(longest, dtype=torch.uint8) for _ in sizes]
            distributed.all_gather(received, torch.nn.functional.pad(own, (0, longest - len(own))))
        except RuntimeError as error:
            raise PeerFailed(
                f"another process of the evaluation was ended, or is too slow ({_first_line(error)}); what it said "
                "last tells why; out of memory most likely, then give a smaller --batch-size"
            ) from error
        return [json.loads(part[: int(size)].numpy().tobytes()) for part, size in zip(received, sizes, strict=True)]


def _peer_error(rank: int, name: str, text: str) -> CompresskitError:
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, CompresskitError):
        return known(text)
    return PeerFailed(f"process {rank} of the evaluation failed: {name}: {text}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
