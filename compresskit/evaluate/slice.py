"""A slice: the questions of a data set that share a property, such as their question word, and what a row has on them.

Gates and `--slice` name the property by a key, and a slice of it by its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compresskit.errors import UsageError

if TYPE_CHECKING:
    from compresskit.evaluate.figures import Figure

STANDARD = ("question", "answerable", "answer_length", "context_length", "windows")
"""The keys that all data have. What the values mean stands in `compresskit.evaluate.slicing`."""
GATED = ("em", "f1")
"""The figures of a slice that a gate may name."""

_PART = re.compile(r"""\s*(?P<key>[^=\s"']+)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^"']+?))\s*""")

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Slice:
    """What a row has on the questions of one slice: per cent, differences in points; None where not measured.

    The differences are paired ones from the baseline, `p_value` is McNemar's exact one of EM, and `p_value_holm` the
    same corrected for all slices of the row (`compresskit.evaluate.stats.holm`). `*_ci95` are 95 % intervals over
    paragraphs.
    """

    questions: int
    em: float | None = None
    em_ci95: Interval | None = None
    f1: float | None = None
    f1_ci95: Interval | None = None
    delta_em: float | None = None
    delta_em_ci95: Interval | None = None
    delta_f1: float | None = None
    delta_f1_ci95: Interval | None = None
    p_value: float | None = None
    p_value_holm: float | None = None

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Slice:
        """The slice of a dictionary that holds to the schema."""
        values: dict[str, Any] = {
            key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()
        }
        return cls(**values)

    def value(self, name: str) -> float | None:
        """A figure by its key in a row."""
        found: float | None = getattr(self, name, None)
        return found

    def interval(self, figure: Figure) -> Interval | None:
        """The interval of one of its figures; None where it has none, or none was measured."""
        found: Interval | None = None if figure.interval is None else getattr(self, figure.interval, None)
        return found

    @property
    def of_baseline(self) -> Slice:
        """What the baseline has on the same questions: None each where the row was not compared with one."""
        return Slice(self.questions, em=_less(self.em, self.delta_em), f1=_less(self.f1, self.delta_f1))

    def against(self, base: Slice | None) -> Slice:
        """The slice with plain differences from another row's on as many questions, and nothing that was paired."""
        same = base is not None and base.questions == self.questions
        return replace(
            self,
            delta_em=_less(self.em, base.em) if same and base is not None else None,
            delta_f1=_less(self.f1, base.f1) if same and base is not None else None,
            delta_em_ci95=None,
            delta_f1_ci95=None,
            p_value=None,
            p_value_holm=None,
        )


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


Slices = Mapping[str, Mapping[str, Slice]]
"""The slices of a row: key, value, figures."""


@dataclass(frozen=True, slots=True)
class SliceName:
    """A key, and the value of one slice; with None all slices of the key are meant. `asker` is who names it."""

    key: str
    value: str | None = None
    asker: str = "--slice"

    def of(self, slices: Slices | None) -> Slice:
        """The slice of this name among those of a row; one of nothing measured where there is none."""
        return (slices or {}).get(self.key, {}).get(self.value or "") or Slice(0)


def slice_name(text: str, gate: str) -> SliceName:
    """Read what stands between the brackets of the gate `gate`, KEY=VALUE; UsageError where it is not that."""
    found = _PART.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--gate {gate!r}: {text!r} names no slice; write KEY=VALUE, such as em[question=when], and quote a "
            "value that holds quotes or brackets"
        )
    value = next(each for each in (found["double"], found["single"], found["plain"]) if each is not None)
    return SliceName(found["key"], value, f"--gate {gate!r}")
