"""What a push is told. Nothing here imports what is slow to import."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from compresskit.errors import UsageError
from compresskit.options import check, option


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Which checkpoint goes where, and what its card tells beside."""

    checkpoint: str = option(MISSING, "The folder of a checkpoint.", metavar="CKPT", argument=True)
    repo: str = option(
        MISSING, "The model on the Hub; it is made where there is none.", metavar="OWNER/NAME", argument=True
    )
    report: Path | None = option(
        None, "What `compresskit eval -o` wrote; the checkpoint's row goes into the card.", metavar="FILE"
    )
    row: str | None = option(None, "Its row in the report.", metavar="NAME", shown="the one with its path")
    base_ref: str | None = option(None, "Where the base of an overlay is on the Hub.", metavar="OWNER/NAME[@REVISION]")
    license: str | None = option(None, "Its licence, such as apache-2.0.", metavar="ID", shown="that of its base")
    readme: Literal["new", "keep"] | None = option(
        None, "Where there is a README.md already: put the new card in its place on the Hub, or keep that one."
    )
    private: bool = option(False, "Make the model for you alone.")
    revision: str | None = option(None, "The branch to write to; it is made where there is none.", metavar="BRANCH")
    message: str | None = option(None, "What the commit is called.", metavar="TEXT", shown="what was pushed")
    dry_run: bool = option(False, "Write the card alone, to standard output; nothing goes to the Hub.")
    output: Path | None = option(None, "With --dry-run: the file of the card.", short="-o", metavar="FILE")

    def __post_init__(self) -> None:
        from compresskit.publish.hub import check_name

        check(self)
        check_name(self.repo)
        if self.output is not None and not self.dry_run:
            raise UsageError("--output has no effect without --dry-run; leave it out")
        if self.row is not None and self.report is None:
            raise UsageError("--row has no effect without --report; leave it out")
