"""What a gzip file holds, unpacked as it is read, and never more than such a file can honestly hold."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any

# Text is packed to a tenth. What is packed to less than a hundredth was made to fill a memory.
MOST_TIMES, UNASKED = 100, 64_000_000
# Zeros may follow the data, to the end of a tape's block; a hole of gigabytes is not read.
MOST_ZEROS = 1 << 20

_PIECE = 1 << 16
_WITH_HEADER = 31  # zlib's word for gzip, whose checksums it then compares


class Unpacked(io.RawIOBase):
    """The bytes in a gzip file of `size` bytes, which may have several members.

    Reading raises EOFError where the file is cut short, zlib.error or gzip.BadGzipFile where it is damaged, holds more
    than 100 times its own size (and 64 MB), or is followed by more than a megabyte of zeros.
    """

    def __init__(self, packed: io.BufferedReader[Any], size: int) -> None:
        self._packed = packed
        self._most = max(MOST_TIMES * size, UNASKED)
        self._given = self._zeros = 0
        self._rest = b""
        self._member = zlib.decompressobj(_WITH_HEADER)

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill the buffer, or as much of it as comes at once; 0 at the end."""
        data = self._some(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given > self._most:
            raise gzip.BadGzipFile(f"it unpacks to more than {MOST_TIMES} times its size, as no text does")
        return len(data)

    def _some(self, size: int) -> bytes:
        while True:
            if self._member.eof and not self._another():
                return b""
            piece = self._rest or self._packed.read1(_PIECE)
            data = self._member.decompress(piece, size)
            if not (data or piece or self._member.eof):
                raise EOFError("it is cut short")
            self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if data:
                return data

    def _another(self) -> bool:
        """Begin the next member, behind what zeros there are; False where the file ends."""
        piece = self._rest or self._packed.read1(_PIECE)
        while piece and not (rest := piece.lstrip(b"\0")):
            self._zeros += len(piece)
            if self._zeros > MOST_ZEROS:
                raise gzip.BadGzipFile("zeros follow the data")
            piece = self._packed.read1(_PIECE)
        if not piece:
            return False
        self._rest, self._member = rest, zlib.decompressobj(_WITH_HEADER)
        return True
