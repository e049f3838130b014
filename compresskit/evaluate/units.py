"""The units of figures: how a value is written in each, and what a gate may write behind a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_DECIMAL_BYTES: Mapping[str, float] = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_BINARY_BYTES: Mapping[str, float] = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

UNMEASURED = "–"
"""Stands in a table for what was not measured."""

# Letters of a figure in a table.
_LONGEST = 16


def per_cent(value: float) -> str:
    """A per cent figure with two decimals."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """A difference in points with its sign; what rounds to nothing is +0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def threshold(value: float) -> str:
    """A null threshold with two decimals; with a power of ten where a model's scores are beyond all measure."""
    return bounded(f"{value:.2f}", value)


def bounded(written: str, value: float) -> str:
    """What is written of a value, unless it is so great that it would fill a line of digits: then four of them."""
    return written if len(written) <= _LONGEST else f"{value:.4g}"


def count(value: float) -> str:
    """A number of things in three digits: 950, 1.25K, 22.6M, 1.50B."""
    return _scaled(value, ("", "K", "M", "B", "T"))


def size(value: float) -> str:
    """Bytes in three digits and decimal units: 512 B, 90.3 MB."""
    return _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def three_digits(value: float) -> str:
    """A plain figure in three digits: 0.25, 8.31, 52.0, 1234."""
    return f"{value:.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return 2 if value < 9.995 else 1 if value < 99.95 else 0


def _scaled(value: float, units: Sequence[str]) -> str:
    power = 0
    # 999.6 of one unit would be written as 1000.
    while value >= 999.5 and power < len(units) - 1:
        value /= 1000
        power += 1
    return f"{value:.{_decimals(value) if power else 0}f}{units[power]}"


def _milliseconds(value: float) -> str:
    return f"{three_digits(value)} ms"


def _five_digits(value: float) -> str:
    return f"{value:.5g}"


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What a figure is counted in; each of the units below is one of its own, however it is written.

    `cell` writes a value below a heading that names the unit, `alone` one that stands by itself. `suffixes` are what a
    gate may write behind a number, each with what one of it is in this unit.
    """

    cell: Callable[[float], str]
    alone: Callable[[float], str] = _five_digits
    suffixes: Mapping[str, float] = field(default_factory=dict)

    def all_digits(self, value: float) -> str:
        """A value with ten digits, and what one of it is called."""
        own = next((suffix for suffix, one in self.suffixes.items() if one == 1), "")
        return f"{value:.10g} {own}".rstrip()


PER_CENT = Unit(per_cent)
POINTS = Unit(signed)
"""Of differences between two figures in per cent."""
PROBABILITY = Unit("{:.2g}".format)
LOGITS = Unit("{:.4g}".format)
PERPLEXITY = Unit("{:.2f}".format)
RATIO = Unit("{:.4g}".format)
"""Of what lm-evaluation-harness counts in its own way: a share between 0 and 1, a perplexity, bits."""
TIMES = Unit("{:.3f}".format, "{:.3f}x".format)
"""Of a figure over the baseline's, as measured in turns."""
QUESTIONS = Unit("{:.0f}".format)
PARAMETERS = Unit(count, count)
BYTES = Unit(size, size, {**_DECIMAL_BYTES, **_BINARY_BYTES})
SECONDS = Unit(three_digits)
MILLISECONDS = Unit(three_digits, _milliseconds, {"ms": 1, "s": 1e3})
PER_SECOND = Unit(three_digits)
