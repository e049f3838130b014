"""What a packed file holds (gzip, bzip2, xz, zstandard, zip), unpacked as it is read, and never more than is honest.

How a file is packed is told by its first bytes, never by its name.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from compresskit.errors import InputError

# Text is packed to a tenth. What is packed to less than a hundredth was made to fill a memory.
MOST_TIMES, UNASKED = 100, 16_000_000
# Zeros may follow the data, to the end of a tape's block; a hole of gigabytes is not read.
MOST_ZEROS = 1 << 20

_PIECE = 1 << 16
_SPOON = 1 << 10  # bytes of zstandard that are unpacked at once: they may hold 32,000 times as many
_WITH_HEADER = 31  # zlib's word for gzip, whose checksums it then compares
_WINDOW = 1 << 27  # bytes that zstandard and xz may look back
_LISTED = 10_000_000  # bytes of a zip's list of files

Picker = Callable[[zipfile.ZipFile, Sequence[zipfile.ZipInfo]], zipfile.ZipInfo]
"""Says which of several files in a zip is meant; raises InputError where it cannot tell."""


# What the standard library makes of a damaged zip: it looks in places that are not there.
_OF_A_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError, EOFError, OSError)


class Damaged(Exception):
    """Packed data are damaged, or hold more than such a file can honestly hold; the text says which."""


class _Member(Protocol):
    """A packed stream that is being unpacked; a file may hold several, one behind the other."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """A member of gzip."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(_WITH_HEADER)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)


class _Zstandard:
    """A frame of zstandard, which itself knows no bound of what it gives at once."""

    def __init__(self) -> None:
        import zstandard

        self._object = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._waiting = self._ready = b""
        self._given = 0  # bytes of what is ready

    @property
    def eof(self) -> bool:
        return self._object.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._waiting and not self._ready

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data + self._waiting

    def decompress(self, data: bytes, max_length: int) -> bytes:
        import zstandard

        self._waiting += data
        while self._waiting and not self._ready and not self._object.eof:
            spoon, self._waiting = self._waiting[:_SPOON], self._waiting[_SPOON:]
            try:
                self._ready = self._object.decompress(spoon)
            except zstandard.ZstdError as error:
                raise Damaged(str(error)) from error
        found = self._ready[self._given : self._given + max_length]
        self._given += len(found)
        if self._given == len(self._ready):
            self._ready, self._given = b"", 0
        return found


def _xz() -> _Member:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * _WINDOW)


@dataclass(frozen=True, slots=True)
class Packing:
    """One way to pack a stream: its name, the first bytes of such a file, and what unpacks a member."""

    name: str
    magic: bytes
    member: Callable[[], _Member]


GZIP = Packing("gzip", b"\x1f\x8b", _Gzip)
PACKINGS = (
    GZIP,
    Packing("bzip2", b"BZh", bz2.BZ2Decompressor),
    Packing("xz", b"\xfd7zXZ\0", _xz),
    Packing("zstandard", b"\x28\xb5\x2f\xfd", _Zstandard),
)
_ZIP = b"PK\x03\x04"

_FOREIGN = (
    (0, b"PAR1", "a Parquet file in a packed one", "unpack it"),
    (0, b"ARROW1", "an Arrow file", "write it as Parquet"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (0, b"%PDF", "a PDF", "give a data set"),
    (0, b"SQLite format 3\0", "a SQLite database", "write it as CSV"),
    (257, b"ustar", "a tar archive", "unpack it, and give the file that you need of it"),
    (0, b"PK\x05\x06", "an empty zip", "give one with a file in it"),
    (0, b"\0" * 16, "a file of zeros", "it was not written whole, fetch it again"),
)


def check_text(start: bytes, name: str) -> None:
    """InputError where the first bytes of a file called `name` are those of another kind of file than text."""
    for at, magic, what, mend in _FOREIGN:
        if start.startswith(magic, at):
            raise InputError(f"{name} is {what}, not text; {mend}")


class Unpacked(io.RawIOBase):
    """The bytes in a packed file of `size` bytes, which may have several members.

    Reading raises EOFError where the file is cut short, Damaged where it is damaged, holds more than 100 times its own
    size (and 16 MB), or is followed by more than a megabyte of zeros. `packing` is how it is packed.
    """

    def __init__(self, packed: io.BufferedReader[Any], size: int, packing: Packing = GZIP) -> None:
        self.packing = packing.name
        self._packed, self._new_member = packed, packing.member
        self._most = max(MOST_TIMES * size, UNASKED)
        self._given = self._zeros = 0
        self._rest = b""
        self._member = packing.member()

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer, or as much of it as comes at once; 0 at the end."""
        try:
            data = self._some(len(buffer))
        except (zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
            raise Damaged(str(error)) from error
        except OSError as error:
            if error.errno is not None:  # the system's own; that of bzip2 has no number
                raise
            raise Damaged(str(error)) from error
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given > self._most:
            raise Damaged(f"it unpacks to more than {MOST_TIMES} times its size, as no text does")
        return len(data)

    def _some(self, size: int) -> bytes:
        while True:
            if self._member.eof and not self._another():
                return b""
            piece = b""
            asked = self._member.needs_input
            if asked:
                piece, self._rest = self._rest or self._packed.read1(_PIECE), b""
            data = self._member.decompress(piece, size)
            if self._member.eof:
                self._rest = self._member.unused_data
            elif asked and not (piece or data):
                raise EOFError("it is cut short")
            if data:
                return data

    def _another(self) -> bool:
        """Begin the next member, behind what zeros there are; False where the file ends."""
        piece = self._rest or self._packed.read1(_PIECE)
        while piece and not (rest := piece.lstrip(b"\0")):
            self._zeros += len(piece)
            if self._zeros > MOST_ZEROS:
                raise Damaged("zeros follow the data")
            piece = self._packed.read1(_PIECE)
        if not piece:
            return False
        self._rest, self._member = rest, self._new_member()
        return True


class _Zipped(Unpacked):
    """The bytes of one file in a zip."""

    def __init__(self, file: io.BufferedIOBase | Any, size: int) -> None:
        io.RawIOBase.__init__(self)
        self.packing = "zip"
        self._file = file
        self._most, self._given = max(MOST_TIMES * size, UNASKED), 0

    def _some(self, size: int) -> bytes:
        found: bytes = self._file.read(size)
        return found


def unpacked(path: Path, stored: io.BufferedReader[Any], pick: Picker | None = None) -> Unpacked | None:
    """What is in the file at `path`, which `stored` reads from its beginning; None where it is not packed.

    Of a zip with several files `pick` says which one. Raises InputError for a zip that is damaged, encrypted, or holds
    several files of which none is picked; reading raises what `Unpacked` raises.
    """
    start = stored.peek(8)[:8]
    if start.startswith(_ZIP):
        return _zipped(path, pick or _only)
    size = path.stat().st_size
    return next((Unpacked(stored, size, each) for each in PACKINGS if start.startswith(each.magic)), None)


def _zipped(path: Path, pick: Picker) -> Unpacked:
    try:
        _check_list(path)
        archive = zipfile.ZipFile(path)
        files = [each for each in archive.infolist() if not _is_aside(each)]
        if any(each.filename == "[Content_Types].xml" for each in files):
            raise InputError(f"{path} is a spreadsheet or a document of an office program; save it as CSV")
        if not files:
            raise InputError(f"{path} is a zip without a file in it; give one with a file")
        chosen = files[0] if len(files) == 1 else pick(archive, files)
        if chosen.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{path} is a zip of an unusual kind; unpack it, and give the file in it")
        if chosen.flag_bits & 1:
            raise InputError(f"{path} is an encrypted zip; unpack it, and give the file in it")
        return _Zipped(archive.open(chosen), path.stat().st_size)
    except _OF_A_ZIP as error:
        raise InputError(f"{path} is a damaged zip ({error}); copy or download it again") from error


def _is_aside(each: zipfile.ZipInfo) -> bool:
    """Whether an entry of a zip is a folder, or what macOS and others put beside the files."""
    parts = each.filename.split("/")
    return each.is_dir() or parts[0] == "__MACOSX" or parts[-1].startswith(".")


def _only(archive: zipfile.ZipFile, files: Sequence[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    names = ", ".join(each.filename for each in files[:5]) + (", …" if len(files) > 5 else "")
    raise InputError(
        f"{archive.filename} holds {len(files)} files ({names}); unpack it, and give the one that you mean"
    )


def _check_list(path: Path) -> None:
    """InputError where the list of a zip's files is too long to be held; who reads it would hold all of it."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - (1 << 16) - 22, 0))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    if at < 0 or len(end) < at + 22:
        raise zipfile.BadZipFile("it is cut short")
    if struct.unpack_from("<I", end, at + 12)[0] > _LISTED:
        raise InputError(f"{path} holds too many files; unpack it, and give the one that you mean")
