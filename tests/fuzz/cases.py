"""One case: a copy of a subject, a damaged file, a verb in a process with limits, and where it broke the contract.

The contract: the exit code is a documented one; an error is one line on stderr, and not of the program's own making;
standard output is whole, or empty after an error; what was read is as before; no file, no child and no pickle's doing
is left; the process takes no more than so much time and memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from compresskit.text import from_json
from tests.fuzz.mutations import mutate
from tests.fuzz.process import Ended, run
from tests.fuzz.subjects import LEFT, SUBJECTS

CODES = (0, 1, 2, 3, 4, 5)
CPU_SECONDS = 5.0
"""What a process may take; an untouched subject takes a fifth of a second."""
MEMORY = 500 << 20
"""Bytes above those of the imports."""
FAILURES = ("is no longer a number", "logits differ", "differs from the model by", "does not compute with weights")
"""What a run may fail with, code 5, where a file's numbers are odd: weights that were changed may be too large."""
_HASHED = 16 << 20
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Case:
    """What is done: the damage to a copy of a subject, told in words, and the command line."""

    subject: str
    damage: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.subject}; {self.damage}; compresskit {shlex.join(self.words)}"


@dataclass(frozen=True)
class Outcome:
    """How a case ended: its `breaches` of the contract, each a kind and a text, and what it printed last."""

    case: Case
    code: int | str
    seconds: float
    said: str
    breaches: list[tuple[str, str]]


def drawn(seed: int, number: int) -> tuple[str, tuple[str, ...], Random]:
    """The subject of a case, its command line, and the generator that draws the damage."""
    rng = Random(f"{seed}/{number}")
    subject = rng.choice(sorted(SUBJECTS))
    return subject, _words(subject, rng), rng


def play(made: Path, place: Path, subject: str, words: tuple[str, ...], rng: Random, home: Path) -> Outcome:
    """Run one case in `place`, a new folder: `made` is the subject's; `home` has the home and the temporary files."""
    shutil.copytree(made, place, symlinks=True)
    return conducted(Case(subject, _damage(place, subject, rng), words), place, home)


def untouched(made: Path, place: Path, subject: str, words: str, home: Path) -> Outcome:
    """Run one of a subject's command lines where nothing is damaged."""
    shutil.copytree(made, place, symlinks=True)
    return conducted(Case(subject, "untouched", ("-q", *shlex.split(words))), place, home)


def conducted(case: Case, place: Path, home: Path) -> Outcome:
    """Run the command line of a case in a prepared folder, and hold it to the contract."""
    before = _tree(place)
    ended = run(case.words, place)
    found = [*breaches(case, ended, before, _tree(place), home), *_of_output(place)]
    return Outcome(case, ended.code, ended.cpu_seconds, ended.err[-1000:], found)


def _damage(place: Path, subject: str, rng: Random) -> str:
    told = []
    if rng.random() < 0.5 and _without_lists(place):  # otherwise hashes would keep every damage from all that follows
        told.append("manifests list no files")
    for _ in range(rng.choice((1, 1, 1, 1, 2))):
        found = {path for pattern in SUBJECTS[subject].damaged for path in place.glob(pattern) if _is_plain(path)}
        if not found:  # the one file is gone
            break
        path = rng.choice(sorted(found))
        told.append(f"{path.relative_to(place)}, {mutate(path, rng)}")
    return " and ".join(told)


def _without_lists(place: Path) -> bool:
    """Make every manifest one from before it listed its checkpoint's files; whether there was such a list."""
    found = False
    for path in place.glob("*/compresskit.json"):
        manifest = json.loads(path.read_text())
        if manifest.pop("files", None) is not None:
            path.write_text(json.dumps(manifest))
            found = True
    return found


def _is_plain(path: Path) -> bool:
    """Whether a file can be damaged (again)."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size < _HASHED and os.access(path, os.R_OK)


def _words(subject: str, rng: Random) -> tuple[str, ...]:
    quiet = ("-q",) if rng.random() < 0.5 else ()
    return (*quiet, *shlex.split(rng.choice(SUBJECTS[subject].verbs)))


def _tree(folder: Path) -> dict[str, str]:
    """What every path below a folder is, of a file the hash of its bytes; the cache of eval is the program's own."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith("cache"):
            found[name] = _what(path)
    return found


def _what(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"link to {os.readlink(path)}"
    if stat.S_ISDIR(status.st_mode):
        return f"folder {status.st_mode:o}"
    if stat.S_ISREG(status.st_mode) and status.st_size < _HASHED and os.access(path, os.R_OK):
        return f"{status.st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"{status.st_mode:o} {status.st_size} {status.st_mtime_ns}"


def breaches(
    case: Case, ended: Ended, before: dict[str, str], after: dict[str, str], home: Path
) -> list[tuple[str, str]]:
    """Where a process broke the contract, each with its kind."""
    found = [*_of_ending(ended), *_of_stderr(case, ended), *_of_stdout(case, ended)]
    workspace = {"out.partial"} if case.subject == "resume" or ended.code == 5 else set()
    left = sorted(after.keys() - before.keys())
    for name in left:
        top = name.split("/")[0]
        if top not in LEFT and top not in workspace:
            found.append(("left behind", name))
        elif top == "out" and ended.code != 0:
            found.append(("left behind", f"{name} after code {ended.code}"))
    changed = sorted(name for name in before if before[name] != after.get(name))
    found += [("changed", name) for name in changed if name.split("/")[0] not in workspace]
    found += [("left behind", str(path.relative_to(home))) for path in sorted(home.rglob("*")) if path.is_file()]
    return found


def _of_ending(ended: Ended) -> list[tuple[str, str]]:
    found = []
    if ended.code not in CODES:
        found.append(("ending", f"ended with {ended.code}"))
    if ended.children:
        found.append(("child", "a child outlived the command"))
    if ended.cpu_seconds > CPU_SECONDS:
        found.append(("time", f"{ended.cpu_seconds:.1f} s of a processor"))
    if ended.memory > MEMORY:
        found.append(("memory", f"{ended.memory >> 20} MB above the imports"))
    return found


def _of_stderr(case: Case, ended: Ended) -> list[tuple[str, str]]:
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    plain = [line for line in lines if not line.startswith(("error: ", "warning: "))]
    found = []
    if "internal error" in ended.err or "Traceback" in ended.err or "; run it alone with -v" in ended.err:
        found.append(("internal", ended.err[-300:]))
    if isinstance(ended.code, int) and ended.code in CODES:
        if len(errors) != (ended.code != 0) or (errors and lines[-1] != errors[-1]):
            found.append(("lines", f"code {ended.code} with {len(errors)} error lines: {ended.err[-300:]!r}"))
        elif plain and "-q" in case.words[:1]:
            found.append(("lines", f"not asked for: {plain[0][:300]!r}"))
    if ended.code == 5 and not any(reason in ended.err for reason in FAILURES):
        found.append(("code", f"5, for a file that is bad: {ended.err[-300:]}"))
    if _CONTROL.search(ended.err) or any(len(line.encode()) > 8_200 for line in lines):
        found.append(("lines", f"control characters, or a line without end: {ended.err[:300]!r}"))
    return found


def _of_stdout(case: Case, ended: Ended) -> list[tuple[str, str]]:
    """Whether what was printed can be read: whole JSON where that was asked for, nothing after an error of others."""
    reports = any(verb in case.words[:2] for verb in ("eval", "report", "data"))
    if not ended.out:
        return []
    if ended.code != 0 and not reports:
        return [("output", f"after code {ended.code}: {ended.out[:200]!r}")]
    if _CONTROL.search(ended.out):
        return [("output", f"control characters: {ended.out[:200]!r}")]
    try:
        _parse(case, ended.out)
    except ValueError as error:
        return [("output", f"{error}: {ended.out[:200]!r}")]
    return []


def _of_output(place: Path) -> list[tuple[str, str]]:
    """Whether the JSON in what was written is JSON, of finite numbers."""
    found = []
    for path in [*sorted(place.glob("out/*.json")), *place.glob("eval.json.new")]:
        try:
            from_json(path.read_bytes())
        except (ValueError, RecursionError) as error:
            found.append(("output", f"{path.relative_to(place)}: {error}"))
    return found


def _parse(case: Case, out: str) -> Any:
    if "predict" in case.words[:2]:
        return [from_json(line) for line in out.splitlines()]
    if case.words[-2:] == ("--format", "json"):
        return from_json(out)
    return None


def told(outcome: Outcome) -> str:
    """An outcome as one line of JSON."""
    known = {"case": str(outcome.case), "code": outcome.code, "seconds": outcome.seconds, "said": outcome.said}
    return json.dumps({**known, "breaches": outcome.breaches})
