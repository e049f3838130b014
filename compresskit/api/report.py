"""The outcome of an evaluation as an object: rows, verdicts, a table for whoever looks, files for whoever keeps it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from compresskit.api.surroundings import as_found
from compresskit.errors import MissingError, UsageError
from compresskit.evaluate.row import Dataset, Gate, Row
from compresskit.evaluate.row import Report as Measured
from compresskit.options import nearest_or_all

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 120
_IMAGES = (".png", ".svg")


class Report:
    """Checkpoints measured side by side: its rows, which are gone through, and found by name or number.

    As a text it is the table of `compresskit eval`, in a notebook a table of its own.

    Example:
        >>> report = ck.evaluate(["runs/dense", "runs/half"], data="dev.json", baseline="runs/dense")
        >>> [row.em for row in report]
        [72.0, 71.2]
        >>> report.save("eval.html")
    """

    def __init__(self, measured: Measured, *, shown: Sequence[str] = ()) -> None:
        self._measured = replace(measured, shown=tuple(shown))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The checkpoints in figures, in the order in which they were asked for."""
        return self._measured.rows

    @property
    def gates(self) -> tuple[Gate, ...]:
        """A verdict for each rule on each row that it judges."""
        return self._measured.gates

    @property
    def passed(self) -> bool:
        """Whether every gate holds, and every row has a score."""
        return self._measured.passed

    @property
    def baseline(self) -> Row | None:
        """The row that the others are compared with, where there is one."""
        return self._measured.baseline

    @property
    def dataset(self) -> Dataset:
        """The questions: where they are from, their hash, how many."""
        return self._measured.dataset

    @property
    def device(self) -> Mapping[str, Any]:
        """What it was measured on."""
        return self._measured.device

    @property
    def versions(self) -> Mapping[str, str]:
        """The packages that decide the figures."""
        return self._measured.versions

    @property
    def created(self) -> str:
        """When, in ISO 8601, UTC."""
        return self._measured.created

    def check(self) -> Report:
        """This report; GateFailed where a gate does not hold, and the error of a row that could not be scored."""
        from compresskit.evaluate.delivery import require_gates, require_rows

        require_rows(self._measured)
        require_gates(self._measured)
        return self

    def gated(
        self,
        gates: str | Iterable[str],
        *,
        gate_ci: bool = False,
        undecided: Literal["fail", "pass"] = "fail",
        allow_weak_baseline: bool = False,
    ) -> Report:
        """The same rows judged by other rules, as `ck.evaluate` judges by them; nothing is measured.

        With `gate_ci` the worse end of the 95 % interval has to hold rules on EM and F1. Raises UsageError for a rule
        that cannot be, and for an option without effect.
        """
        from compresskit.evaluate.delivery import GateOptions
        from compresskit.evaluate.gate import gated, parse_rules

        texts = (gates,) if isinstance(gates, str) else tuple(gates)
        with as_found():
            options = GateOptions(texts, gate_ci, undecided, allow_weak_baseline)
            rules = parse_rules(texts, has_baseline=self.baseline is not None, ci95=gate_ci)
            options.check_effect(rules)
            return Report(gated(self._measured, rules, options), shown=self._measured.shown)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it, schema `compresskit.eval/1`."""
        found: dict[str, Any] = json.loads(self._measured.to_json())
        return found

    def to_markdown(self) -> str:
        """A Markdown table with the verdicts below, for a pull request."""
        from compresskit.evaluate.report import markdown

        return markdown.render(self._measured)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame with a line for each row, by its name, and a column for each figure; empty where not measured.

        Ends of an interval are two columns (`em_ci95_low`, `em_ci95_high`), a ratio is its median, `em_sd` the standard
        deviation of several runs; what is no single value is left out (`to_dict` has it). Raises MissingError
        where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingError("to_pandas needs pandas; pip install 'compresskit[pandas]'") from error
        return pd.DataFrame([_flat(row) for row in self.rows]).set_index("name")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as its name's ending says; the path.

        `.json` holds everything (`ck.read_report` reads it); `.md` and `.csv` hold the table, `.html` is a page with
        everything, `.xml` the verdicts as JUnit, `.png` and `.svg` draw EM against bytes and latency. Raises UsageError
        for another ending, MissingError where an image needs matplotlib, InputError where there is nothing to draw or
        the folder is not there.
        """
        from compresskit.checkpoint.outputs import check_file
        from compresskit.checkpoint.store import write_text
        from compresskit.evaluate.report import plot

        place = Path(path)
        ending = place.suffix.lower()
        if ending not in (*_TEXTS, *_IMAGES):
            raise UsageError(f"{place} has no ending that a report has; take {', '.join((*_TEXTS, *_IMAGES))}")
        with as_found():
            check_file(place, flag="save")
            if ending in _IMAGES:
                plot.check(place)
                plot.save_plot(self._measured, place)
            else:
                write_text(place.resolve(), _TEXTS[ending](self._measured).rstrip("\n") + "\n")
        return place

    @overload
    def __getitem__(self, key: str | int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, key: str | int | slice) -> Row | tuple[Row, ...]:
        """A row by its name or number, rows by a slice. KeyError for a name that none has, IndexError for a number."""
        if not isinstance(key, str):
            return self.rows[key]
        found = next((row for row in self.rows if row.name == key), None)
        if found is None:
            raise KeyError(f"no row is called {key}; {nearest_or_all(key, (row.name for row in self.rows))}")
        return found

    def __contains__(self, key: object) -> bool:
        return any(row.name == key if isinstance(key, str) else row == key for row in self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self._measured == other._measured

    def __repr__(self) -> str:
        verdict = "" if not self.gates else ", passed" if self.passed else ", failed"
        return f"Report({', '.join(row.name for row in self.rows)} on {self.dataset.path}{verdict})"

    def __str__(self) -> str:
        from rich.console import Console

        from compresskit.evaluate.report import table

        stream = io.StringIO()
        Console(file=stream, width=_WIDTH, color_system=None, highlight=False).print(table.render(self._measured))
        return stream.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """The table for a notebook, in its colours."""
        from compresskit.evaluate.report import notebook

        return notebook.render(self._measured)


def _json(report: Measured) -> str:
    return report.to_json()


def _markdown(report: Measured) -> str:
    from compresskit.evaluate.report import markdown

    return markdown.render(report)


def _csv(report: Measured) -> str:
    from compresskit.evaluate.report import csv

    return csv.render(report)


def _page(report: Measured) -> str:
    from compresskit.evaluate.report import html

    return html.render(report)


def _junit(report: Measured) -> str:
    from compresskit.evaluate.report import junit

    return junit.render(report)


_TEXTS: Mapping[str, Callable[[Measured], str]] = {
    ".json": _json,
    ".md": _markdown,
    ".csv": _csv,
    ".html": _page,
    ".htm": _page,
    ".xml": _junit,
}


def _flat(row: Row) -> dict[str, Any]:
    """The single values of a row by name: intervals as their ends, ratios as medians, metrics that were asked for."""
    from compresskit.evaluate.report.csv import is_single

    found: dict[str, Any] = {}
    for key, value in row.to_dict().items():
        if key == "metrics":
            found |= value
        elif not is_single(key):
            continue
        elif isinstance(value, Mapping) and "median" in value:
            found[key] = value["median"]
        elif key.endswith(("_ci95", "_range")):
            low, high = value if value is not None else (None, None)
            found |= {f"{key}_low": low, f"{key}_high": high}
        else:
            found[key] = value
    return {**found, **{f"{key}_sd": value for key, value in (row.sd or {}).items()}}
