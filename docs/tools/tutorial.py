"""Run the commands of the tutorial, and put what they printed into its page.

    python -m docs.tools.tutorial run DIR --model MODEL --train TRAIN --dev DEV [--steps N]
    python -m docs.tools.tutorial fill DIR

`run` runs in DIR every command of the page behind which `<!-- output -->` stands, and keeps what they print in
DIR/outputs.json. `--steps N` makes it a rehearsal: nothing is trained for more than N steps. `fill` writes the outputs
into the page, and draws the pictures of the evaluation (`pictures.py`); after a rehearsal it draws none.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from compresskit.evaluate.combine import read_report
from docs.tools.pictures import IMAGES, KEPT, draw

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "index.md"
OUTPUT = re.compile(r"((?:^    [^\n]+\n)+)\n<!-- output -->\n\n```text\n.*?^```\n", re.MULTILINE | re.DOTALL)
SETTINGS = re.compile(r"^```yaml\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"(?<=<!-- run -->\n).*?(?=\n<!-- end of run -->)", re.DOTALL)
PROGRESS = re.compile(r"^(.+): [\d,]+/[\d,]+ \(\d+%\).*\n(?=\1: [\d,]+/)", re.MULTILINE)
KEPT_OUTPUTS = "outputs.json"
WIDTH = 118
"""Columns of the terminal that the page shows."""
DEV_QUESTIONS = 11_873
"""Those of SQuAD 2.0 that the page asks."""


def shown_commands(page: str) -> list[str]:
    """The commands of the page whose output it shows, each on one line."""
    return [" ".join(found[1].replace("\\\n", "").split()) for found in OUTPUT.finditer(page)]


def run(folder: Path, model: Path, train: Path, dev: Path, steps: int | None) -> None:
    """Run the commands in `folder`, one after the other; CalledProcessError where one fails but for a gate."""
    (folder / "squad").mkdir(parents=True, exist_ok=True)
    shutil.copytree(model, folder / "minilm", dirs_exist_ok=True)
    for name, data in (("train.json.gz", train), ("dev.json.gz", dev)):
        shutil.copyfile(data, folder / "squad" / name)
    page = PAGE.read_text(encoding="utf-8")
    settings = SETTINGS.search(page)
    assert settings is not None
    (folder / "compresskit.yaml").write_text(settings[1], encoding="utf-8")
    outputs = [[command, _printed(command, folder, steps)] for command in shown_commands(page)]
    told = {"steps": steps, "outputs": outputs}
    (folder / KEPT_OUTPUTS).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def _printed(command: str, folder: Path, steps: int | None) -> str:
    """What a command prints, without the lines of progress that another follows."""
    words = shlex.split(command)
    assert words[0] == "compresskit"
    if steps is not None and words[1] in ("train", "prune"):
        if "--epochs" in words:  # which excludes the other
            del words[(place := words.index("--epochs")) : place + 2]
        words += ["--max-steps", str(steps)]
    print(shlex.join(words), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={
            **os.environ,
            "COLUMNS": str(WIDTH),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, flush=True)
    if done.returncode > 1:
        done.check_returncode()
    text = PROGRESS.sub("", done.stdout.rstrip() + "\n")
    return text + ("(exit code 1)\n" if done.returncode else "")


def _wrapped(text: str) -> str:
    """What was printed, with long lines of words broken as a terminal would."""
    wrap = functools.partial(textwrap.wrap, width=WIDTH, break_on_hyphens=False, break_long_words=False)
    return "".join(f"{part}\n" for line in text.splitlines() for part in (wrap(line) if len(line) > WIDTH else [line]))


def fill(folder: Path) -> None:
    """Write what `run` kept into the page. ValueError where the page has other commands by now."""
    kept: dict[str, Any] = json.loads((folder / KEPT_OUTPUTS).read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    if [command for command, _ in kept["outputs"]] != shown_commands(page):
        raise ValueError(f"{PAGE} has other commands than were run in {folder}; run them again")
    outputs = iter(_wrapped(text) for _, text in kept["outputs"])
    filled = OUTPUT.sub(lambda found: f"{found[1]}\n<!-- output -->\n\n```text\n{next(outputs)}```\n", page)
    report = read_report(folder / "eval.json")
    machine = report.device.get("name") or report.device.get("cpu") or "a CPU"
    day = report.created[:10]
    version = report.versions["compresskit"].partition("+")[0]
    told = f"The outputs below are of a run on {day} ({machine}, compresskit {version})."
    if report.dataset.questions != DEV_QUESTIONS:
        told += "\nIts data were a part of SQuAD 2.0, so that yours reaches more."
    if kept["steps"] is not None:
        told = f"The outputs below are of a rehearsal on {day}: {kept['steps']} steps a training, on few questions."
        told += "\nThey show what is printed, not what is reached: so little training beats nothing, and gates say so."
    PAGE.write_text(RUN.sub(lambda _: told, filled), encoding="utf-8")
    if kept["steps"] is None:
        KEPT.write_bytes((folder / "eval.json").read_bytes())
        draw(report, IMAGES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    running = parts.add_parser("run")
    running.add_argument("folder", type=Path)
    for name in ("--model", "--train", "--dev"):
        running.add_argument(name, type=Path, required=True)
    running.add_argument("--steps", type=int)
    parts.add_parser("fill").add_argument("folder", type=Path)
    given = parser.parse_args()
    if given.part == "run":
        run(given.folder, given.model, given.train, given.dev, given.steps)
    else:
        fill(given.folder)
