"""The gates as JUnit XML, which every CI service shows: one test case for each gate on each row."""

from __future__ import annotations

from xml.etree import ElementTree

from compresskit.evaluate.gate import explain
from compresskit.evaluate.row import Report
from compresskit.text import printable


def render(report: Report) -> str:
    """A test suite: a gate that did not pass is a failure of the type of its verdict, a row without score an error."""
    lost = [row for row in report.rows if row.error is not None]
    suite = ElementTree.Element(
        "testsuite",
        name="compresskit",
        timestamp=report.created,
        tests=str(len(report.gates) + len(lost)),
        failures=str(sum(not gate.passed for gate in report.gates)),
        errors=str(len(lost)),
    )
    for gate in report.gates:
        case = ElementTree.SubElement(suite, "testcase", classname=gate.row, name=gate.rule)
        if not gate.passed:
            ElementTree.SubElement(case, "failure", message=explain(gate), type=gate.verdict)
        elif gate.reason:
            ElementTree.SubElement(case, "system-out").text = explain(gate)
    for row in lost:
        case = ElementTree.SubElement(suite, "testcase", classname=row.name, name="scored")
        ElementTree.SubElement(case, "error", message=row.error or "")
    ElementTree.indent(suite)
    # XML forbids most control characters, even written as references.
    return printable(ElementTree.tostring(suite, encoding="unicode", xml_declaration=True))
