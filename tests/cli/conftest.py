"""The command line in this process, and checkpoints that it trained once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compresskit import console
from compresskit.cli.app import main
from compresskit.data import demo

SIZES = demo.DemoConfig(train_questions=90, eval_questions=30)
METHODS: dict[str, list[str]] = {
    "smp": [],
    "movement": ["--method", "movement"],
    "magnitude": ["--method", "magnitude", "--block", "32x32"],
}
SPARSITY = 0.7


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@dataclass(frozen=True)
class Trained:
    """Data, a dense checkpoint, and overlays on it by method, all in `root`; `short` are the flags of a short run."""

    root: Path
    short: tuple[str, ...]

    @property
    def dense(self) -> Path:
        return self.root / "dense"

    @property
    def eval_data(self) -> Path:
        return self.root / "demo-eval.json"

    def pruned(self, method: str) -> Path:
        return self.root / method


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    data, _ = demo.write(root, SIZES)
    size = "--max-train-samples 64 --max-steps 6 --batch-size 8 --max-length 128 --stride 32 --device cpu"
    made = Trained(root, (*size.split(), "--train-data", str(data)))
    assert main(["-q", "train", "demo/bert", "-o", str(made.dense), "--lr", "1e-3", *made.short]) == 0
    for method, flags in METHODS.items():
        words = ["-q", "prune", str(made.dense), "--sparsity", str(SPARSITY), "-o", str(made.pruned(method))]
        assert main([*words, *flags, *made.short]) == 0
    console.configure()
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command line on words."""

    def command(*words: str | Path) -> Done:
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return command


def tree(*folders: Path) -> dict[Path, tuple[int, int] | None]:
    """Everything below the folders: of files size and time of change, of folders the name alone."""
    paths = [path for folder in folders for path in [folder, *sorted(folder.rglob("*"))]]
    return {path: None if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in."""
    monkeypatch.setattr(console, "discard", lambda: None)  # it would close what pytest captures
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    console.configure()


@pytest.fixture
def refused(trained: Trained, place: Path, run: Run) -> Callable[..., str]:
    """Run words that must be refused with a code; the one line that says why, after what was told before."""

    def command(code: int, *words: str | Path, told: int = 0) -> str:
        before = tree(place.parent, trained.root)
        done = run(*words)
        assert tree(place.parent, trained.root) == before, "something was written"
        assert (done.code, done.out) == (code, ""), done.err
        lines = done.err.splitlines()
        assert len(lines) == 1 + told, done.err
        assert lines[-1].startswith("error: ")
        return lines[-1].removeprefix("error: ")

    return command


VERBS = {
    "train": ["train", "CKPT", "-o", "out"],
    "prune": ["prune", "CKPT", "-o", "out"],
    "predict": ["predict", "CKPT", "-q", "Who?", "-c", "Rome."],
    "merge": ["merge", "CKPT", "-o", "out"],
    "inspect": ["inspect", "CKPT"],
}


def words_of(verb: str, folder: Path, trained: Trained) -> list[str]:
    """The words of a verb on a folder, short of training for long."""
    words = [str(folder) if word == "CKPT" else word for word in VERBS[verb]]
    return [*words, *(trained.short if verb in ("train", "prune") else ())]
