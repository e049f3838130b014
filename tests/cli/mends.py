"""The mend that an error names, taken out of its line and run as a person would."""

import re
import shlex

from tests.cli.conftest import Run, Trained

TRAINING = ("train", "prune", "lora", "qlora")


def commands_in(line: str) -> list[list[str]]:
    """The words of each command of ours that a line names, without the program's own; AssertionError for none."""
    found = re.search(r"compresskit [a-z][^`;]*", line)
    assert found, f"no command in: {line}"
    return [shlex.split(command)[1:] for command in found[0].split(" && ")]


def meant_by(line: str) -> str:
    """What a line takes a mistyped word for; AssertionError where it does not say so."""
    found = re.search(r"did you mean ([^?]+)\?", line)
    assert found, f"no hint in: {line}"
    return found[1]


def follow(line: str, run: Run, trained: Trained) -> list[str]:
    """Run every command that a line names, on little data where it trains; the words of the last one."""
    for words in commands_in(line):
        done = run("-q", *words, *(trained.short if words[0] in TRAINING else ()))
        assert done.code == 0, f"{words}: {done.err}"
    return words
