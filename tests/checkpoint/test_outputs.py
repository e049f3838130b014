"""Where results may go: not over what is read."""

from pathlib import Path

import pytest

from compresskit.checkpoint.outputs import check_apart
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
