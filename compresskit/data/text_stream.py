"""The text of a file, plain or packed, as UTF-8: hashed, unpacked and checked in one pass."""

from __future__ import annotations

import codecs
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from compresskit.checkpoint.reading import check_regular
from compresskit.checkpoint.unpacking import Damaged, check_text, unpacked
from compresskit.errors import InputError
from compresskit.text import whole

CHUNK = 1 << 20
"""Bytes read at a time. The parser scans an unfinished string anew with every chunk, so not too few."""

MOST_IN_ONE = 16_000_000
"""Bytes of a paragraph, or of another piece that is held as a whole. A book has two million."""

_BOM = codecs.BOM_UTF8
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = codecs.BOM_UTF32_LE  # begins as UTF-16 does


class _HashingFile(io.RawIOBase):
    """A file opened for reading that hashes what is read from it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._hash.update(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class _Utf16(io.RawIOBase):
    """UTF-16 with a byte-order mark as UTF-8 without one; `start` is what was read of it before."""

    def __init__(self, start: bytes, rest: io.BufferedReader[Any], name: str) -> None:
        self._start, self._rest, self._name = start, rest, name
        self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        self._held = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        while not self._held and not self._ended:
            data, self._start = self._start or self._rest.read(CHUNK), b""
            self._ended = not data
            try:
                self._held = whole(self._decoder.decode(data, final=self._ended)).encode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self._name}: not UTF-16, as its first bytes say ({error.reason}): convert the file to UTF-8"
                ) from error
        given, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


class _Raw(io.RawIOBase):
    """A `TextStream` as the standard library wants a file."""

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class TextStream:
    """A binary stream of the text in a file, in UTF-8.

    How it is packed is known by its first bytes; a byte-order mark is dropped, and that of UTF-16 says that the text is
    written so. Every fault of the file raises InputError, with the byte at which it stands (in the unpacked text, in
    UTF-8, from 0) and `name`, as the user calls the file.
    `delivered` counts the bytes given out, `skipped` those of the mark. Whoever reads says by `next_piece` when it has
    let go of what it read; a `piece` of more than `MOST_IN_ONE` bytes is a fault of the file.
    """

    def __init__(self, path: Path, name: str, piece: str = "paragraph") -> None:
        self._name, self._piece = name, piece
        self._pack: io.BufferedReader | None = None
        self._packing = ""
        check_regular(path)
        try:
            self._raw = _HashingFile(path)
            self._stored = io.BufferedReader(self._raw, CHUNK)
            if (inner := unpacked(path, self._stored)) is not None:
                self._pack, self._packing = io.BufferedReader(inner, CHUNK), inner.packing
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.delivered = self._begun = 0
        self.skipped = 0

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stored.close()

    def read(self, size: int = CHUNK) -> bytes:
        """The next `size` bytes of text; fewer only at the end, where it gives b""."""
        chunk = self._unpack(size)
        if self.delivered == 0 and self.skipped == 0:
            check_text(chunk, self._name)
            if chunk.startswith(_BOM):
                self.skipped = len(_BOM)
                chunk = chunk[self.skipped :] or self._unpack(size)
            elif chunk.startswith(_UTF16) and not chunk.startswith(_UTF32):
                self._pack = io.BufferedReader(_Utf16(chunk, self._pack or self._stored, self._name), CHUNK)
                chunk = self._unpack(size)
        self._check_utf8(chunk)
        self.delivered += len(chunk)
        if self.delivered - self._begun > MOST_IN_ONE + CHUNK:
            raise InputError(
                f"{self._name}: a {self._piece} behind byte {self._begun:,} of its text has more than {MOST_IN_ONE:,}; "
                "divide it, or take it out"
            )
        return chunk

    def lines(self) -> Iterator[str]:
        """The lines of the text with their ends: a line feed, a carriage return, or both."""
        return io.TextIOWrapper(io.BufferedReader(_Raw(self), CHUNK), encoding="utf-8", newline="")

    def next_piece(self) -> None:
        """What was read so far is no longer held."""
        self._begun = self.delivered

    def _unpack(self, size: int) -> bytes:
        try:
            return (self._pack or self._stored).read(size)
        except EOFError as error:
            where = f"after {self.delivered:,} bytes of text"
            raise InputError(
                f"{self._name}: the {self._packing} data breaks off {where}: the file is cut short, fetch it again"
            ) from error
        except Damaged as error:
            where = f"after {self.delivered:,} bytes of text"
            raise InputError(
                f"{self._name}: the {self._packing} data is damaged {where} ({error}): fetch the file again"
            ) from error
        except OSError as error:
            raise InputError(f"{self._name}: cannot be read: {error.strerror or error}") from error

    def _check_utf8(self, chunk: bytes) -> None:
        pending = len(self._decoder.getstate()[0])
        if chunk and not pending and chunk.isascii():
            return
        try:
            self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            byte = self.skipped + self.delivered - pending + error.start
            raise InputError(
                f"{self._name}: not UTF-8: byte 0x{error.object[error.start]:02x} at offset {byte:,} "
                f"({error.reason}): convert the file to UTF-8"
            ) from error

    def sha256(self) -> str:
        """The hash of the whole file as stored; reads what has not been read yet."""
        while self._stored.read(CHUNK):
            pass
        return self._raw.hexdigest()
