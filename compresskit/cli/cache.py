"""`compresskit cache`: what evaluations have kept, listed and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import typer

from compresskit.cli.flags import with_flags
from compresskit.options import check, option
from compresskit.text import finite_or_none, to_json

if TYPE_CHECKING:
    from rich.table import Table

    from compresskit.evaluate.cache import Entry

cache = typer.Typer(name="cache", help="List or remove the measurements that eval keeps of unchanged checkpoints.")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """How the entries are shown."""

    format: Literal["table", "json"] = option("table", "How the entries are shown.")

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class ClearOptions:
    """Which entries are removed."""

    older_than: float | None = option(
        None, "Remove only what was not used for so long.", metavar="DAYS", least=0, shown="remove all"
    )

    def __post_init__(self) -> None:
        check(self)


@cache.command()
@with_flags()
def ls(options: ListOptions) -> None:
    """List what is kept, the entry last used first."""
    from compresskit import console
    from compresskit.evaluate.cache import Cache
    from compresskit.evaluate.units import size

    kept = Cache()
    entries = kept.entries()
    total = sum(entry.bytes for entry in entries)
    shown = [_shown(entry) for entry in entries]
    if options.format == "json":
        whole = {"folder": str(kept.folder), "bytes": total, "limit_bytes": kept.limit, "entries": shown}
        console.out(to_json(finite_or_none(whole), indent=2))
        return
    if entries:
        console.out(_table(shown))
    console.out(f"{_counted(entries)}, {size(total)} of at most {size(kept.limit)}, in {kept.folder}")


@cache.command()
@with_flags()
def clear(options: ClearOptions) -> None:
    """Remove what is kept."""
    from compresskit import console
    from compresskit.evaluate.cache import Cache
    from compresskit.evaluate.units import size

    kept = Cache()
    gone = kept.clear(options.older_than or 0.0)
    console.out(f"removed {_counted(gone)}, {size(sum(entry.bytes for entry in gone))}, from {kept.folder}")


def _counted(entries: Sequence[Entry]) -> str:
    return "1 entry" if len(entries) == 1 else f"{len(entries)} entries"


def _shown(entry: Entry) -> dict[str, Any]:
    """An entry as it stands in the JSON; what is not known of it is null."""
    outcome = entry.outcome()
    row = None if outcome is None else outcome.row
    return {
        "checkpoint": None if row is None else row.name,
        "path": None if row is None else row.path,
        "data": entry.data(),
        "em": None if row is None else row.em,
        "bytes": entry.bytes,
        "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        "damaged": row is None,
        "folder": str(entry.folder),
    }


def _table(shown: Sequence[dict[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from compresskit.evaluate.units import per_cent, size

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("Checkpoint", "Data", "EM", "Size", "Last used"):
        table.add_column(heading, justify="right" if heading in ("EM", "Size") else "left")
    for entry in shown:
        used = datetime.fromisoformat(entry["used"]).astimezone().strftime("%Y-%m-%d %H:%M")
        name = "damaged" if entry["damaged"] else entry["checkpoint"]
        em = "-" if entry["em"] is None else per_cent(entry["em"])
        table.add_row(*map(Text, (name, entry["data"] or "-", em, size(entry["bytes"]), used)))
    return table
