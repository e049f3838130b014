"""A warm process that plays cases: a line comes in, the outcome goes out as a line of JSON.

The line is `SEED CASE any`, `SEED CASE quick` (passed over where it takes longer than most), or
`SUBJECT VERB untouched`, for one of its command lines where nothing is damaged.
It runs as an ordinary user in a folder of its own, and makes a subject when it is first asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from compresskit.cli.app import main
from tests.fuzz.cases import drawn, play, told, untouched
from tests.fuzz.ordinary import become_ordinary
from tests.fuzz.process import freeze, use_forked_workers
from tests.fuzz.subjects import SUBJECTS

WARM = (
    *("compresskit.methods.run", "compresskit.evaluate.evaluate", "compresskit.models.families", "datasets", "peft"),
    *("compresskit.models.lstm.auto", "compresskit.training.engine", "compresskit.evaluate.delivery", "accelerate"),
    *("compresskit.evaluate.combine", "compresskit.methods.quantize.int8", "constriction", "scipy.stats", "yaml"),
)


HOME = "home"
"""The folder, in the server's own, that is the home of its processes; their temporary files go to `tmp` in it."""


class Server:
    """The subjects in a folder, and a place to play in beside them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[str] = set()

    def warm(self) -> None:
        """Import what cases use, and answer once."""
        _empty(self.root / HOME)
        for name in WARM:
            importlib.import_module(name)
        dense = self.subject("dense")
        os.chdir(dense)
        for words in SUBJECTS["dense"].verbs[:2]:
            main(["-q", *words.split()[:2], *(["-q", "a", "-c", "b"] if "predict" in words else [])])
        os.chdir(self.root)
        freeze()

    def subject(self, name: str) -> Path:
        """The folder of a subject, made in a fork, so that this process stays as it is."""
        folder = self.root / "subjects" / name
        if name not in self._made:
            folder.mkdir(parents=True)
            child = os.fork()
            if child == 0:
                _make(name, folder)
            if os.waitpid(child, 0)[1] != 0:
                raise RuntimeError(f"the subject {name} cannot be made")
            self._made.add(name)
        return folder

    def case(self, seed: int, number: int, *, only_quick: bool) -> str:
        """The outcome of a case as a line of JSON; `null` where only quick ones are wanted, and it is none."""
        name, words, rng = drawn(seed, number)
        if only_quick and (not SUBJECTS[name].quick or "--limit" in words):  # an evaluation of a model
            return "null"
        with self._place() as (place, home):
            return told(play(self.subject(name), place, name, words, rng, home))

    def untouched(self, name: str, number: int) -> str:
        """The outcome of a subject's command line of that number as a line of JSON."""
        with self._place() as (place, home):
            return told(untouched(self.subject(name), place, name, SUBJECTS[name].verbs[number], home))

    @contextlib.contextmanager
    def _place(self) -> Iterator[tuple[Path, Path]]:
        place, home = self.root / "place", self.root / HOME
        _empty(home)
        try:
            yield place, home
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _empty(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    (home / "tmp").mkdir(parents=True)


def _make(name: str, folder: Path) -> None:
    code = 1
    try:
        os.chdir(folder)
        os.environ["COMPRESSKIT_CACHE"] = str(folder / "cache")
        use_forked_workers()
        SUBJECTS[name].make()
        if name != "cache":
            shutil.rmtree("cache", ignore_errors=True)
        code = 0
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
    finally:
        os._exit(code)


def serve(root: Path) -> None:
    """Answer every line of standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print belongs elsewhere
    become_ordinary()
    server = Server(root)
    server.warm()
    for line in sys.stdin:
        which, number, how = line.split()
        if how == "untouched":
            answer = server.untouched(which, int(number))
        else:
            answer = server.case(int(which), int(number), only_quick=how == "quick")
        answers.write(f"{answer}\n")
        answers.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]).resolve())
