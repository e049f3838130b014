"""What is done to a file: each mutation is a function of the file and a seeded generator, and tells what it did.

`mutate` chooses one that fits. JSON is changed key by key, wherever it stands: a whole file, the header of a
safetensors file, a text within either.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import stat
import string
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.fuzz.trees import EXTREMES, Raw, changed, dumped, read_tree, short, text_of

Mutation = Callable[[Path, Random], str]

GROWN = 1 << 30
"""Bytes of a file that was grown by a hole, which takes no room on the disk."""
NAMES = ("x.safetensors", "model.safetensors.index.json", "adapter_config.json", "compresskit.json", "model.onnx")


def mutate(path: Path, rng: Random) -> str:
    """Change a file, or what stands in its place, and tell how."""
    groups = [BYTES, PLACES]
    if path.suffix == ".safetensors":
        groups += [HEADER, HEADER, HEADER]
    elif read_tree(path.read_bytes()) is not None:
        groups += [(change_json,)] * 4
    elif path.suffix in (".vec", ".toml", ".yaml", ".jsonl"):
        groups += [LINES, LINES]
    chosen = rng.choice(rng.choice(groups))
    return f"{chosen.__name__}: {chosen(path, rng)}"


def change_json(path: Path, rng: Random) -> str:
    """Change one entry of a JSON file."""
    tree = read_tree(path.read_bytes())
    tree, told = changed(tree, rng)
    path.write_bytes(dumped(tree))
    return told


# The header of a safetensors file, and the numbers behind it.


def change_header(path: Path, rng: Random) -> str:
    """Change one entry of the header: a dtype, a shape, an offset, a name, the metadata and the JSON in them."""
    header, numbers = _parts(path)
    if header is None:
        return flip(path, rng)
    header, told = changed(header, rng)
    _write(path, dumped(header), numbers)
    return told


def change_header_length(path: Path, rng: Random) -> str:
    """Say another length of the header than it has."""
    length = rng.choice((0, 1, 2, 1 << 20, 100_000_001, 1 << 31, 1 << 62, (1 << 64) - 1))
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    return str(length)


def change_numbers(path: Path, rng: Random) -> str:
    """Fill the numbers of all tensors, or the first of them, with those that are not finite, or with noise."""
    header, numbers = _parts(path)
    if header is None or not numbers:
        return flip(path, rng)
    name, item = rng.choice(
        (("NaN", b"\0\0\xc0\x7f"), ("Infinity", b"\0\0\x80\x7f"), ("zero", b"\0\0\0\0"), ("noise", rng.randbytes(4)))
    )
    count = rng.choice((1, len(numbers) // 4 + 1))
    _write(path, dumped(header), (item * count)[: len(numbers)] + numbers[4 * count :])
    return f"{count} of {name}"


def swap_tensors(path: Path, rng: Random) -> str:
    """Give two tensors each other's name."""
    header, numbers = _parts(path)
    names = [name for name in header or {} if name != "__metadata__"]
    if header is None or len(names) < 2:
        return flip(path, rng)
    first, second = rng.sample(names, 2)
    header[first], header[second] = header[second], header[first]
    _write(path, dumped(header), numbers)
    return f"{first} and {second}"


def _parts(path: Path) -> tuple[Any, bytes]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return read_tree(content[8 : 8 + length]), content[8 + length :]


def _write(path: Path, header: bytes, numbers: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers)


# Bytes.


def flip(path: Path, rng: Random) -> str:
    """Flip a few bits."""
    content = bytearray(path.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 8)))] if content else []
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"bits of the bytes {places}"


def cut(path: Path, rng: Random) -> str:
    """Leave out the end."""
    size = rng.choice((0, 1, 7, 8, rng.randrange(path.stat().st_size + 1)))
    os.truncate(path, size)
    return f"to {size} bytes"


def grow(path: Path, rng: Random) -> str:
    """Add noise, or white space, at the end."""
    more = rng.choice((b"\0", b" " * 1000, b"\xff", b"{}", rng.randbytes(100)))
    path.write_bytes(path.read_bytes() + more)
    return f"by {len(more)} bytes"


def grow_by_a_hole(path: Path, _: Random) -> str:
    """Add a gigabyte of zeros that takes no room."""
    os.truncate(path, GROWN)
    return f"to {GROWN} bytes"


def overwrite(path: Path, rng: Random) -> str:
    """Put noise in the place of a part."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content) + 1)
    content[start : start + 16] = rng.randbytes(16)
    path.write_bytes(content)
    return f"16 bytes at {start}"


def compress(path: Path, _: Random) -> str:
    """Compress the file; of one that is compressed, unpack to far more than it was."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(b"[" + b" " * (1 << 28) + b"]", 1))
        return "unpacks to 256 MB"
    path.write_bytes(gzip.compress(path.read_bytes()))
    return "by gzip"


class Payload:
    """A pickle of it leaves a file where it is opened, which the contract forbids."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("a-pickle-ran",)


def put_a_pickle(path: Path, rng: Random) -> str:
    """Put a pickle there, bare or as torch.save writes it."""
    if rng.random() < 0.5:
        path.write_bytes(pickle.dumps(Payload()))
        return "bare"
    buffer = io.BytesIO()
    torch.save(Payload(), buffer)
    path.write_bytes(buffer.getvalue())
    return "of torch.save"


# What stands in the place of a file, or beside it.


def remove(path: Path, _: Random) -> str:
    """Remove the file."""
    path.unlink()
    return ""


def rename(path: Path, rng: Random) -> str:
    """Give the file another name."""
    name = rng.choice((path.name.upper(), f"{path.name} ", "\x1b[31m.json", "-o", "x.safetensors", "pytorch_model.bin"))
    path.rename(path.with_name(name))
    return repr(name)


def stand_in(path: Path, rng: Random) -> str:
    """Put something else in the place of the file."""
    path.unlink()
    return _put(path, rng)


def stand_beside(path: Path, rng: Random) -> str:
    """Put something beside the file, under a name that readers look for."""
    place = path.with_name(rng.choice(NAMES))
    if os.path.lexists(place):
        place = path.with_name(f"{rng.choice(string.ascii_lowercase)}{path.suffix}")
    return f"{place.name}, {_put(place, rng)}"


def _put(place: Path, rng: Random) -> str:
    kind = rng.choice(("FIFO", "folder", "socket", "dangling link", "looping link", "endless device", "empty device"))
    match kind:
        case "FIFO":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "socket":
            os.mknod(place, stat.S_IFSOCK | 0o600)
        case "dangling link":
            place.symlink_to("nowhere")
        case "looping link":
            place.symlink_to(place.name)
        case _:
            place.symlink_to("/dev/zero" if kind == "endless device" else "/dev/null")
    return kind


def lock(path: Path, _: Random) -> str:
    """Take the permission to read away."""
    path.chmod(0)
    return ""


def swap_files(path: Path, rng: Random) -> str:
    """Put another file of the folder in its place."""
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    if not others:
        return flip(path, rng)
    other = rng.choice(others)
    shutil.copyfile(other, path)
    return other.name


# Lines of text.


def change_line(path: Path, rng: Random) -> str:
    """Remove, double, or move a line, or put something extreme into it."""
    lines = path.read_text("utf-8", "surrogateescape").split("\n")
    place = rng.randrange(len(lines))
    action = rng.choice(("remove", "double", "move", "extreme", "extreme"))
    match action:
        case "remove":
            del lines[place]
        case "double":
            lines.insert(place, lines[place])
        case "move":
            lines.insert(rng.randrange(len(lines)), lines.pop(place))
        case _:
            words = lines[place].split(" ")
            value = text_of(rng.choice(EXTREMES))
            words[rng.randrange(len(words))] = value
            lines[place] = " ".join(words)
            action = f"extreme ({short(Raw(value))}) in"
    path.write_text("\n".join(lines), "utf-8", "surrogateescape")
    return f"{action} line {place + 1}"


BOMBS = {
    ".yaml": (
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)),
        "eval: &a\n  checkpoints: *a\n",
        "eval: " + "[" * 50_000,
        "eval: {checkpoints: [!!python/object/apply:os.mkdir ['a-pickle-ran']]}\n",
    ),
    ".toml": (".".join(["a"] * 20_000) + " = 1\n", "a = " + "[" * 50_000, "a = " + "9" * 5000 + "\n"),
    ".vec": (f"{'9' * 5000} 5\n", f"{1 << 40} {1 << 30}\n", "the " + "1 " * 1_000_000 + "\n"),
    ".jsonl": (
        "[" * 100_000 + "\n",
        "9" * 5000 + "\n",
        '{"question": "a", "context": "b", "id": ' + "[" * 50_000 + "\n",
    ),
}


def put_a_bomb(path: Path, rng: Random) -> str:
    """Add a little text that unfolds to much."""
    number = rng.randrange(len(BOMBS[path.suffix]))
    before, bomb = path.read_bytes(), BOMBS[path.suffix][number].encode()
    path.write_bytes(rng.choice((bomb, before + bomb, bomb + before)))
    return str(number)


BYTES: tuple[Mutation, ...] = (flip, flip, cut, grow, grow_by_a_hole, overwrite, compress, put_a_pickle)
PLACES: tuple[Mutation, ...] = (remove, rename, stand_in, stand_in, stand_beside, stand_beside, lock, swap_files)
HEADER: tuple[Mutation, ...] = (
    change_header,
    change_header,
    change_header,
    change_numbers,
    change_header_length,
    swap_tensors,
)
LINES: tuple[Mutation, ...] = (change_line, change_line, put_a_bomb)
