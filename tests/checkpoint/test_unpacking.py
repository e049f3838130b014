"""Packed files, unpacked as they are read: what gzip itself gives, and an end to what one file can make of itself."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from compresskit.checkpoint import unpacking
from compresskit.checkpoint.unpacking import PACKINGS, Damaged, Unpacked
from compresskit.errors import InputError


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


OTHERS = [
    ("bzip2", bz2.compress),
    ("xz", lzma.compress),
    ("zstandard", zstandard.ZstdCompressor().compress),
]
PACKING = {each.name: each for each in PACKINGS}


@pytest.mark.parametrize(("name", "pack"), OTHERS)
def test_the_other_packings(name: str, pack: Callable[[bytes], bytes]) -> None:
    plain = bytes(range(256)) * 4000 + b"x" * 300_000

    def read(packed: bytes) -> bytes:
        return io.BufferedReader(Unpacked(io.BufferedReader(io.BytesIO(packed)), 10**6, PACKING[name]), 1000).read()

    packed = pack(plain)
    assert packed.startswith(PACKING[name].magic)
    assert read(packed + pack(b"more")) == plain + b"more"
    for length in (len(PACKING[name].magic), len(packed) // 2, len(packed) - 1):
        with pytest.raises(EOFError):
            read(packed[:length])
    with pytest.raises((Damaged, EOFError)):  # where it is a length that is damaged
        read(packed[:8] + bytes(20) + packed[28:])


def test_zstandard_of_a_hundred_times_its_size() -> None:
    packed = io.BufferedReader(io.BytesIO(zstandard.ZstdCompressor().compress(bytes(65_000_000))))
    with pytest.raises(Damaged, match="more than 100 times"):
        Unpacked(packed, 10, PACKING["zstandard"]).readall()


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def opened(path: Path) -> Unpacked | None:
    with path.open("rb") as file:
        return unpacking.unpacked(path, file)


def test_a_zip_with_one_file(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "z", **{"__MACOSX/._a": b"x", "folder/.DS_Store": b"x", "folder/a.json": b"some text" * 99}
    )
    found = opened(path)
    assert found is not None
    assert found.readall() == b"some text" * 99
    stored = tmp_path / "stored"
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a", b"some text")
    damaged = stored.read_bytes().replace(b"some", b"come")
    stored.write_bytes(damaged)
    found = opened(stored)
    assert found is not None
    with pytest.raises(Damaged):
        found.readall()


def test_zips_that_are_refused(tmp_path: Path) -> None:
    for files, said in (
        ({"a": b"1", "b": b"2"}, r"holds 2 files \(a, b\); unpack it"),
        ({"[Content_Types].xml": b"1", "b": b"2"}, "save it as CSV"),
        ({".hidden": b"1"}, "without a file"),
    ):
        with pytest.raises(InputError, match=said):
            opened(zipped(tmp_path / "z", **files))
    cut = zipped(tmp_path / "z", a=b"1" * 1000)
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(InputError, match="damaged zip"):
        opened(cut)


def test_a_zip_whose_list_leads_nowhere(tmp_path: Path) -> None:
    path = zipped(tmp_path / "z", a=b"1" * 1000)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = b"\xff\xff\x00\x00"  # where the list begins
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged zip"):
        opened(path)
