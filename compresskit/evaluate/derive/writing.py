"""Derived gates as a project's file that `eval` reads: YAML (compresskit.yaml, recipes) or TOML (pyproject.toml)."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compresskit.checkpoint.outputs import check_file
from compresskit.checkpoint.reading import read_text
from compresskit.checkpoint.store import write_text
from compresskit.errors import RunFailed, UsageError
from compresskit.evaluate.config import TABLE
from compresskit.evaluate.derive.proposing import Proposal, Proposed
from compresskit.evaluate.settings import EvalSettings
from compresskit.options import options_of
from compresskit.text import counted, one_line, to_json

ENDINGS = (".yaml", ".yml", ".toml")
_FIRST = "# Gates derived by compresskit gates derive"
_WIDTH = 100


def check_target(target: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """UsageError where no such file may be written: another ending, a file that is to stay, or one that is read.

    What is replaced is a file of derived gates alone: a project's own file has more in it.
    """
    if target.suffix not in ENDINGS:
        raise UsageError(f"-o {target}: ends with none of {', '.join(ENDINGS)}, by which YAML or TOML is chosen")
    check_file(target, inputs, flag="-o")
    if not os.path.exists(target):
        return
    if not overwrite:
        raise UsageError(f"-o {target} is there already; pass --overwrite, or name another file")
    if not read_text(target, "choose another with -o").startswith(_FIRST):
        raise UsageError(
            f"-o {target} is no file of derived gates, which alone --overwrite replaces; choose another, and copy the "
            "gates"
        )


def write(proposed: Proposed, target: Path) -> None:
    """Write the file, whole or not at all; RunFailed where the system does not let us."""
    try:
        write_text(target, render(proposed, target.suffix))
    except OSError as error:
        raise RunFailed(f"-o {target}: cannot be written ({error.strerror}); make room, or choose another") from error


def render(proposed: Proposed, ending: str = ENDINGS[0]) -> str:
    """The text of the file; each gate stands below its reason."""
    head = [*_comment(_head(proposed)), *(line for each in proposed.left_out for line in _comment(f"No gate: {each}"))]
    keys = {key: to_json(value) for key, value in _asked(proposed).items()}
    is_toml = ending == ".toml"
    lines = [line for each in proposed.gates for line in _gate(each, is_toml)]
    if is_toml:
        return "\n".join(
            [*head, TABLE, *(f"{key} = {value}" for key, value in keys.items()), "gates = [", *lines, "]", ""]
        )
    return "\n".join([*head, "eval:", *(f"  {key}: {value}" for key, value in keys.items()), "  gates:", *lines, ""])


def _gate(gate: Proposal, is_toml: bool) -> Iterator[str]:
    yield from (f"    {line}" for line in _comment(gate.reason))
    yield f"    {to_json(gate.rule)}," if is_toml else f"    - {to_json(gate.rule)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(one_line(text), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _head(proposed: Proposed) -> str:
    source, count = proposed.source, len(proposed.gates)
    data = source.report.dataset
    together = max(0.0, 1 - count * (1 - proposed.sure))
    by = f"from {counted(data.questions, 'question')} of {data.path}, measured {source.report.created}"
    told = f"{_FIRST.removeprefix('# ')} {by}. Each is held with {100 * proposed.sure:g} % by itself, all "
    told += f"{count} together with at least {100 * together:.3g} %."
    if all(row.runs is None for row in source.rows):
        told += " Each row is of one run: what another seed gives is not in these limits."
    return told


def _asked(proposed: Proposed) -> Mapping[str, Any]:
    """What was measured and how, as keys of the file: a setting where it is not the default."""
    source = proposed.source
    settings, base = source.baseline.settings, source.baseline
    means = [row for row in (base, *source.rows) if row.runs is not None]
    keys: dict[str, Any] = {
        "checkpoints": [row.path for row in source.rows if row.runs is None],
        "runs": [f"{row.name}={','.join(run.path for run in row.runs or ())}" for row in means],
        "baseline": base.path if base.runs is None else base.name,
        "data": source.report.dataset.path,
    }
    keys = {key: value for key, value in keys.items() if value}
    for name, known in options_of(EvalSettings).items():
        value = settings.get(name)
        plain = tuple(value) if isinstance(value, list) else value
        if plain in (None, known.default) or isinstance(value, dict):
            continue
        if name == "seed" and not {"limit", "shots"} & {key for key, each in settings.items() if each}:
            continue  # it had a say in the rounds alone
        keys[name.replace("_", "-")] = value
    return keys
