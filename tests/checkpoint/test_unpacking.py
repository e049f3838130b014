"""Gzip files, unpacked as they are read: what gzip itself gives, and an end to what one file can make of itself."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.checkpoint.unpacking import Damaged, Unpacked


def unpacked(packed: bytes, size: int | None = None) -> bytes:
    source = io.BufferedReader(io.BytesIO(packed))
    return io.BufferedReader(Unpacked(source, len(packed) if size is None else size), 1000).read()


@given(members=st.lists(st.binary(max_size=3000), min_size=1, max_size=4), zeros=st.integers(0, 100))
def test_it_gives_what_gzip_gives(members: list[bytes], zeros: int) -> None:
    packed = bytes(zeros).join(map(gzip.compress, members)) + bytes(zeros)
    assert unpacked(packed) == b"".join(members) == gzip.decompress(packed)


@pytest.mark.parametrize("length", [0, 5, 20, 50, -1])
def test_a_file_that_is_cut(length: int) -> None:
    with pytest.raises(EOFError):
        unpacked(gzip.compress(bytes(range(256)))[:length])


def test_a_flipped_bit_and_what_is_no_member() -> None:
    packed = bytearray(gzip.compress(bytes(range(256))))
    packed[-6] ^= 1  # of the checksum
    for wrong in (bytes(packed), gzip.compress(b"a") + b"something else"):
        with pytest.raises(Damaged):
            unpacked(wrong)


def test_zeros_without_end() -> None:
    assert unpacked(gzip.compress(b"a") + bytes(1 << 19)) == b"a"
    with pytest.raises(Damaged, match="zeros follow"):
        unpacked(gzip.compress(b"a") + bytes(1 << 21) + b"b")


def test_a_hundred_times_its_size() -> None:
    packed = gzip.compress(bytes(70_000_000), 1)
    with pytest.raises(Damaged, match="more than 100 times"):
        unpacked(packed)
    assert len(unpacked(packed, 700_000)) == 70_000_000  # as much as an honest file of that size may hold
