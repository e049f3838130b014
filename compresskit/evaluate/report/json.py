"""The report as JSON, schema `compresskit.eval/1`."""

from __future__ import annotations

from compresskit.evaluate.row import Report


def render(report: Report) -> str:
    """The report as indented JSON, without a final line feed."""
    return report.to_json().rstrip("\n")
