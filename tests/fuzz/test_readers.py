"""Whatever bytes the readers get, they read them or tell what is wrong with them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compresskit.checkpoint import coded
from compresskit.errors import InputError
from tests.fuzz.readers import READERS, SEEDS

# Values that an entry of a table may have: what belongs there, in sizes that a test can hold, and anything else.
ODD: list[Any] = [1.5, -0.0, "8", None, True, [], {}]
NUMBERS: st.SearchStrategy[Any] = st.one_of(st.integers(-2, 40), st.sampled_from(ODD))
ANYTHING = st.recursive(NUMBERS | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
SHAPES = st.lists(NUMBERS, max_size=3) | ANYTHING
ENTRIES = st.fixed_dictionaries(
    {},
    optional={"shape": SHAPES, "block": SHAPES, "ones": NUMBERS, "counts": st.none() | st.lists(NUMBERS, max_size=5)},
)
TABLES = st.dictionaries(st.sampled_from(["w", "v", ""]), ENTRIES | ANYTHING, max_size=2) | ANYTHING


def read(reader: str, data: bytes) -> None:
    """Read bytes; they may be refused."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        READERS[reader](Path(folder), data)


@pytest.mark.parametrize("reader", READERS)
def test_the_seeds_are_read(reader: str, tmp_path: Path) -> None:
    READERS[reader](tmp_path, SEEDS[reader])


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_any_bytes(reader: str, data: st.DataObject) -> None:
    """Of the seed a part is another, or all of it."""
    seed = SEEDS[reader]
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, len(seed)))
    read(reader, seed[:start] + data.draw(st.binary(max_size=40)) + seed[end:])


@pytest.mark.parametrize("reader", ["mask", "coded"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(table=TABLES, words=st.binary(max_size=24))
def test_any_table(reader: str, table: object, words: bytes) -> None:
    read(reader, json.dumps(table).encode() + b"\0" + words)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=6), words=st.binary(max_size=24))
def test_any_words_under_a_table_that_fits(counts: list[int], words: bytes) -> None:
    whole = counts + [0] * (coded.SYMBOLS - len(counts))
    table: dict[str, Any] = {"w": {"shape": [sum(counts)], "counts": whole}}
    read("coded", json.dumps(table).encode() + b"\0" + words)
    table = {"w": {"shape": [1, sum(counts)], "block": [1, 1], "ones": counts[0]}}
    read("mask", json.dumps(table).encode() + b"\0" + words)
