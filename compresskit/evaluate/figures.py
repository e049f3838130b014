"""Figures: all that is known of a number that an evaluation tells, said once, for every format and for gates.

The figures of a checkpoint are fields of `compresskit.evaluate.row.Row`, each made by `measured` or by one of its short
forms; those that are asked for by name stand in `ASKED`. Columns, notes, gates and the descriptions in the published
schema come from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from compresskit.evaluate.units import PER_CENT, PERPLEXITY, POINTS, RATIO, Unit

_KEY = "compresskit.figure"


class Group(Enum):
    """What a figure tells of, in the order in which columns stand; the value is the heading above them."""

    QUALITY = "Quality"
    AGAINST = "Against the baseline"
    SIZE = "Size"
    MEMORY = "Memory"
    SPEED = "Speed"
    ASKED = "Other"


@dataclass(frozen=True, slots=True)
class Figure:
    """What is known of one figure.

    `description` says in words what it is, as the published schema does. `unit` says how it is written and
    which suffixes a gate may give it, `better` which way is better: None where its column marks no best.

    `sampled` is True where another sample of questions would give another figure. `interval` is then the key of a
    row under which the ends of its 95 % interval stand; of what is timed, those of the repetitions. `difference` is
    the key of its paired difference from the baseline, and `paired` is True for what is such a difference or tells of
    one: without a baseline there is none. `unfair` says why it may not be gated.

    `short` is another name for it in a gate. A figure has a column if it has a `group`: all columns stand on the HTML
    page, those with a `rank` in the tables too. A rank says how soon a column is left out where the terminal is narrow:
    the highest goes first, 0 stays. Columns of a group stand in the order of the row's fields, those with a rank first,
    and one that is `last` behind the others.
    """

    heading: str
    unit: Unit
    description: str = ""
    better: Literal["higher", "lower"] | None = None
    group: Group | None = None
    rank: int | None = None
    sampled: bool = False
    interval: str | None = None
    difference: str | None = None
    paired: bool = False
    unfair: str | None = None
    short: str | None = None
    last: bool = False


def measured(figure: Figure) -> Any:
    """A field of a row that holds `figure`; None where it was not measured."""
    return field(default=None, metadata={_KEY: figure})


def quality(heading: str, description: str, rank: int, **more: Any) -> Any:
    """A field that holds a measure of the answers, per cent; `more` is the rest of its `Figure`."""
    return measured(Figure(heading, PER_CENT, description, "higher", Group.QUALITY, rank, sampled=True, **more))


def paired(heading: str, unit: Unit, description: str) -> Any:
    """A field that holds what the pairing with the baseline tells."""
    return measured(Figure(heading, unit, description, None, Group.AGAINST, paired=True))


def difference(heading: str, description: str, rank: int | None = None, *, interval: str) -> Any:
    """A field that holds a paired difference from the baseline, in points; EM and F1 mark which is best."""
    known = Figure(
        heading, POINTS, description, None, Group.AGAINST, rank, sampled=True, interval=interval, paired=True
    )
    return measured(known)


def cost(
    heading: str, unit: Unit, description: str, group: Group | None = None, rank: int | None = None, **more: Any
) -> Any:
    """A field that holds what a checkpoint takes: the less the better; `more` is the rest of its `Figure`."""
    return measured(Figure(heading, unit, description, "lower", group, rank, **more))


def figure_in(metadata: Mapping[Any, Any]) -> Figure | None:
    """The figure that a field's metadata describe; None where the field is not a figure."""
    found: Figure | None = metadata.get(_KEY)
    return found


WEIGHTS_LEFT = Figure(
    "Weights\nleft %", PER_CENT, "share of parameters that are not zero, per cent", "lower", Group.SIZE, 5
)
"""What every table shows beside the figures that a row holds."""


def _asked(name: str, unit: Unit, description: str, better: Literal["higher", "lower"], sampled: bool) -> Figure:
    return Figure(name, unit, description, better, Group.ASKED, 1, sampled)


ASKED: Mapping[str, Figure] = {
    "bleu": _asked("bleu", PER_CENT, "corpus BLEU of the answers, per cent", "higher", True),
    "rouge1": _asked("rouge1", PER_CENT, "ROUGE-1 F1 of the answers, per cent", "higher", True),
    "rouge2": _asked("rouge2", PER_CENT, "ROUGE-2 F1 of the answers, per cent", "higher", True),
    "rougeL": _asked("rougeL", PER_CENT, "ROUGE-L F1 of the answers, per cent", "higher", True),
    "ppl": _asked("ppl", PERPLEXITY, "perplexity of the texts", "lower", True),
}
"""The figures of `--metrics` by their names in `Row.metrics`."""

BLIND: Mapping[str, Figure] = {
    "blind.em": _asked("Blind\nEM", PER_CENT, "EM on the blind set, per cent", "higher", True),
    "blind.f1": _asked("Blind\nF1", PER_CENT, "F1 on the blind set, per cent", "higher", True),
}
"""The figures on a blind set (`compresskit.evaluate.look`)."""

# How the names of lm-evaluation-harness end whose figures are better the lower they are.
_LOWER = ("ppl", "perplexity", "bits_per_byte")


def asked_figure(name: str) -> Figure:
    """What is known of any figure among `Row.metrics`.

    Beside `ASKED` these are figures of lm-evaluation-harness (task/metric), in its own unit, and such of another
    version, taken for per cents.
    """
    unit = RATIO if "/" in name else PER_CENT
    better: Literal["higher", "lower"] = "lower" if name.endswith(_LOWER) else "higher"
    return ASKED.get(name) or BLIND.get(name) or _asked(name, unit, "", better, sampled=False)
