"""How figures are written in their units."""

import pytest

from compresskit.evaluate.units import BYTES, MILLISECONDS, QUESTIONS, count, signed, size, three_digits


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0, "0 B"), (512, "512 B"), (999, "999 B"), (1000, "1.00 kB"), (9_999, "10.0 kB")),
        *((90_300_000, "90.3 MB"), (999_499, "999 kB"), (999_600, "1.00 MB")),
        *((123_456_789_000, "123 GB"), (5 * 10**15, "5000 TB")),
    ],
)
def test_sizes(value: int, shown: str) -> None:
    assert size(value) == shown


def test_other_figures() -> None:
    assert [count(value) for value in (7, 950, 1250, 22_565_376)] == ["7", "950", "1.25K", "22.6M"]
    assert [signed(value) for value in (1.234, -0.5, -0.001, 0.0)] == ["+1.23", "-0.50", "+0.00", "+0.00"]
    assert [three_digits(value) for value in (0.254, 8.3, 9.996, 52.04, 99.96, 1234.5)] == [
        *("0.25", "8.30", "10.0", "52.0", "100", "1234"),
    ]


def test_a_unit_writes_below_a_heading_and_by_itself() -> None:
    assert (BYTES.cell(90_300_000), BYTES.alone(90_300_000)) == ("90.3 MB", "90.3 MB")
    assert (MILLISECONDS.cell(8.312), MILLISECONDS.alone(8.312)) == ("8.31", "8.31 ms")
    assert (QUESTIONS.cell(12_345), QUESTIONS.alone(31.0)) == ("12345", "31")
