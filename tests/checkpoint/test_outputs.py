"""Where results may go: what may be replaced, and never over what is read."""

import os
import socket
from pathlib import Path

import pytest

from compresskit.checkpoint.outputs import LONGEST_NAME, check_apart, check_file, check_folder
from compresskit.errors import UsageError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint, a file of data, and a link to each."""
    (tmp_path / "runs" / "base").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "squad.json").write_text("{}")
    (tmp_path / "link").symlink_to("runs/base")
    (tmp_path / "link.json").symlink_to("data/squad.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "read", "relation"),
    [
        ("runs/base", "runs/base", "is"),
        ("runs/../runs/base/.", "runs/base", "is"),
        ("link", "runs/base", "is"),
        ("runs/base", "link", "is"),
        ("link.json", "data/squad.json", "is"),
        ("data/squad.json", "link.json", "is"),
        ("runs", "runs/base", "holds"),
        ("data", "link.json", "holds"),
        ("runs", "link", "holds"),
        (".", "runs/base", "holds"),
        ("runs/base/new/eval.json", "runs/base", "lies in"),
        ("link/eval.json", "runs/base", "lies in"),
        ("runs/base/eval.json", "link", "lies in"),
    ],
)
def test_an_output_over_above_or_in_what_is_read(output: str, read: str, relation: str, place: Path) -> None:
    for one, other in ((output, read), (place / output, read), (output, place / read)):
        with pytest.raises(UsageError) as caught:
            check_apart(Path(one), [Path("elsewhere"), Path(other)], "--plot")
        assert str(caught.value) == f"--plot {Path(one)} {relation} {Path(other)}, which is read; name another place"


@pytest.mark.parametrize("output", ["runs/base-merged", "runs/new", "data/eval.json", "new", "runs/bas"])
def test_an_output_beside_what_is_read(output: str, place: Path) -> None:
    check_apart(Path(output), [place / "runs" / "base", Path("link.json"), Path("not/there")])


def test_what_is_not_there_is_nobodys(place: Path) -> None:
    check_apart(place / "new", [place / "new"])


def test_a_long_path_is_cut(place: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_apart(Path("runs/../" * 60 + "runs/base"), [Path("runs/base")])
    assert len(str(caught.value)) < 300


@pytest.fixture
def taken(place: Path) -> Path:
    """A folder with one of everything that may stand where a result is to go."""
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    links = {"dangling": "nowhere", "loop": "other-loop", "other-loop": "loop", "null": "/dev/null"}
    for name, target in links.items():
        Path(name).symlink_to(target)
    for name in ("empty", "full", "old"):
        Path(name).mkdir()
    Path("full", "thesis.txt").write_text("mine")
    Path("old", "config.json").write_text("{}")
    Path("file").write_text("mine")
    return place


NAMES = {
    "": "has no name of its own",
    ".": "has no name of its own",
    "full/..": "has no name of its own",
    "/": "has no name of its own",
    "\udcff": "is not a name in UTF-8",
    "a\0b": "is not a name in UTF-8",
    "n" * (LONGEST_NAME + 1): "more than 200 bytes",
    "é" * (LONGEST_NAME // 2 + 1): "more than 200 bytes",
    "n" * 5000: "more than 200 bytes",
    f"{'n' * 5000}/out": r"cannot be made \(File name too long\)",
    "file/out": r"cannot be made \(file is not a folder\)",
    "dangling/out": r"cannot be made \(dangling is not a folder\)",
    "loop/out": r"cannot be made \(Too many levels of symbolic links\)",
    "fifo/out/deeper": r"cannot be made \(fifo is not a folder\)",
    "/dev/null": "is a device, a pipe or a socket",
    "fifo": "is a device, a pipe or a socket",
    "socket": "is a device, a pipe or a socket",
    "file": "is a file",
    "link": "is a link",
    "link/": "is a link",
    "dangling": "is a link",
    "loop": "is a link",
    "null": "is a link",
    "/dev": "not empty",
    "full": "not empty",
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("output", NAMES, ids=lambda name: ascii(name)[:20])
def test_no_folder_of_a_result(output: str, overwrite: bool, taken: Path) -> None:
    before = sorted(taken.rglob("*"))
    with pytest.raises(UsageError, match=NAMES[output]) as caught:
        check_folder(Path(output), overwrite=overwrite)
    assert len(str(caught.value)) < 600
    assert sorted(taken.rglob("*")) == before


def test_overwriting_is_for_checkpoints(taken: Path) -> None:
    for overwrite in (False, True):
        for free in ("new", "deep/er/new", "empty", "link/new", "n" * LONGEST_NAME):
            check_folder(Path(free), overwrite=overwrite)
    check_folder(Path("old"), overwrite=True)
    with pytest.raises(UsageError, match="not empty; pass --overwrite"):
        check_folder(Path("old"), overwrite=False)
    with pytest.raises(UsageError, match="not empty, and no checkpoint"):
        check_folder(Path("full"), overwrite=True)


def test_a_mounted_disk_cannot_be_moved(taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "empty")
    with pytest.raises(UsageError, match="empty is where a disk is mounted"):
        check_folder(Path("empty"), overwrite=False)


def test_a_folder_that_may_not_be_written_to(taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "full")  # a superuser may do anything
    for output in ("full/out", "full/deep/out"):
        with pytest.raises(UsageError, match="full may not be written to"):
            check_folder(Path(output), overwrite=False)
        with pytest.raises(UsageError, match=r"full may not be written to\); choose another place with --html"):
            check_file(Path(output), flag="--html", makes_folder=True)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "is a folder"),
        ("full", "is a folder"),
        ("link", "is a folder"),
        ("\udcff", "is not a name in UTF-8"),
        ("n" * 5000, "more than 200 bytes"),
        ("nowhere/out", "there is no folder nowhere; make it first"),
        (f"{'n' * 5000}/out", "there is no folder n"),
        ("file/out", "there is no folder file"),
        ("loop", "is a link that leads nowhere"),
        ("null", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("socket", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_no_file_of_a_result(output: str, message: str, taken: Path) -> None:
    with pytest.raises(UsageError, match=f"^--html .*{message}"):
        check_file(Path(output), flag="--html")


@pytest.mark.parametrize("output", ["new", "file", "dangling", "link.json", "empty/new"])
def test_a_file_of_a_result(output: str, taken: Path) -> None:
    check_file(Path(output), flag="-o")
