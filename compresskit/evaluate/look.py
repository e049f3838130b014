"""What a row has on a blind set: one that is scored once for each checkpoint, with a record of who has looked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compresskit.errors import InputError
from compresskit.evaluate.runs import singles
from compresskit.evaluate.units import per_cent
from compresskit.text import counted

if TYPE_CHECKING:
    from compresskit.evaluate.row import Report, Row

PREFIX = "blind."
"""What the names of these figures begin with, in gates and tables."""

DECISIVE = (
    *("max_length", "stride", "max_answer_length", "prompt_template", "beams", "length_penalty", "dtype", "normalize"),
    *("shots", "shots_data", "null_threshold", "tune_data"),
)
"""The settings that decide what a checkpoint answers."""


@dataclass(frozen=True, slots=True)
class Blind:
    """A checkpoint's figures on the blind set, per cent, when they were scored, and the how manieth look it was.

    `look` counts the checkpoints of one lineage (`compresskit.evaluate.blind_record.Entry.akin`), all runs of a row as
    one. `recorded` tells that an earlier call scored it, and that this one has not run it. `overlap` is what of the set
    stands in its training data, None where that is unknown. `settings` are those of `DECISIVE` by which it was asked.
    """

    em: float
    f1: float
    scored: str
    look: int
    recorded: bool = False
    overlap: Mapping[str, int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, float | None]:
        """Its figures, as gates and tables name them."""
        return {f"{PREFIX}em": self.em, f"{PREFIX}f1": self.f1}


def mean_blind(found: Sequence[Blind | None]) -> Blind | None:
    """What the mean of several runs has: mean figures, the last look of theirs; None where one of them has none."""
    known = [blind for blind in found if blind is not None]
    if not known or len(known) < len(found):
        return None
    overlaps = [blind.overlap for blind in known if blind.overlap is not None]
    most = {key: max(each[key] for each in overlaps) for key in overlaps[0]} if len(overlaps) == len(known) else None
    return Blind(
        em=statistics.fmean(blind.em for blind in known),
        f1=statistics.fmean(blind.f1 for blind in known),
        scored=max(blind.scored for blind in known),
        look=max(blind.look for blind in known),
        recorded=all(blind.recorded for blind in known),
        overlap=most,
        settings=known[0].settings if all(blind.settings == known[0].settings for blind in known) else {},
    )


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of a row those that decide its answers."""
    return {key: settings.get(key) for key in DECISIVE}


def told_blind(report: Report) -> Sequence[str]:
    """Lines below a table: which set it is, what each row has on it, and what makes it less blind."""
    known = report.dataset.blind
    if known is None:
        return []
    nothing, shared = known["nothing"], known["shared"]
    lines = [
        f"blind set {known['path']}: {counted(known['questions'], 'question')}, {known['unanswerable']:,} of them "
        f"unanswerable; answering nothing: EM {per_cent(nothing['em'])}, F1 {per_cent(nothing['f1'])}; "
        f"{counted(known['checkpoints'], 'checkpoint')} scored on it so far, by {known['record']}"
    ]
    looked = [(row, row.blind) for row in singles(report.rows) if row.blind is not None]
    lines += [f"{row.name} on the blind set: {told(blind)}" for row, blind in looked]
    if any(blind.look > 1 for _, blind in looked):
        lines.append(
            "a set that has been looked at before is less blind each time: what was seen decides what is tried"
        )
    if any(shared.values()):
        lines.append(
            f"of the blind set {_parts(shared)} stand in {report.dataset.path} too, where anybody looks at them"
        )
    for row, blind in looked:
        if blind.overlap is not None and any(blind.overlap.values()):
            lines.append(f"of the blind set {_parts(blind.overlap)} stand in the training data of {row.name}")
        lines += _unlike(row, blind)
    return lines


def told(blind: Blind) -> str:
    """A row's figures on the blind set in words."""
    when = f"recorded {blind.scored}, not run again" if blind.recorded else f"scored {blind.scored}"
    return f"EM {per_cent(blind.em)}, F1 {per_cent(blind.f1)}; {ordinal(blind.look)} look; {when}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if 10 < number % 100 < 14 else last}"


def _parts(found: Mapping[str, int]) -> str:
    return f"{counted(found['questions'], 'question')} and {counted(found['paragraphs'], 'paragraph')}"


def _unlike(row: Row, blind: Blind) -> list[str]:
    """A line where the recorded figures are of other settings than the row: a set is scored once all the same."""
    other = [
        f"{key.replace('_', ' ')} {value} instead of {row.settings.get(key)}"
        for key, value in blind.settings.items()
        if row.settings and value != row.settings.get(key)
    ]
    return [f"{row.name} was scored on the blind set with {', '.join(other)}"] if other else []


def common(reports: Sequence[Report], sources: Sequence[str]) -> dict[str, Any] | None:
    """What saved reports say of their blind set, that with most looks; InputError where they are of several sets."""
    known = [
        (dict(report.dataset.blind), source)
        for report, source in zip(reports, sources, strict=True)
        if report.dataset.blind is not None
    ]
    for facts, source in known:
        if facts["sha256"] != known[0][0]["sha256"]:
            raise InputError(f"{source} has figures on another blind set than {known[0][1]}; give reports of one")
    return max((facts for facts, _ in known), key=lambda facts: int(facts["checkpoints"]), default=None)
