"""`compresskit doctor`: what this machine can run, and what installs the rest."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.cli.flags import with_flags
from compresskit.options import option


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """How the findings are shown."""

    json: bool = option(False, "Print one JSON object, once all is found out, in place of the tables.")


@with_flags()
def doctor(options: DoctorOptions) -> None:
    """Show what this machine can run: hardware, packages, each tried, how methods compute here, what pip installs."""
    from compresskit import console
    from compresskit.doctor.examine import Listener, examine
    from compresskit.doctor.words import Teller
    from compresskit.errors import MissingError

    def tell(line: str) -> None:
        console.out(line)
        console.flush()  # a reader of a pipe sees it as it comes too

    teller = Teller(tell)
    report = examine(Listener() if options.json else teller)
    if options.json:
        console.out(report.to_json())
    else:
        teller.end(report)
    if bad := report.broken:
        names = ", ".join(each.package.name for each in bad)
        raise MissingError(f"needed packages do not work: {names}; {report.mend(bad[0])}")
