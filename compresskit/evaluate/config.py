"""What `compresskit eval` is to do: from the command line, or from the project's file where that names no checkpoint.

The file is `pyproject.toml` (its table `[tool.compresskit.eval]`) or `compresskit.yaml` (its section `eval`, or
the whole file) in the folder where the command runs. Its keys are the command's options, with dashes or underscores.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from compresskit import options
from compresskit.checkpoint.reading import read_text
from compresskit.data import DEFAULT_DATA
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.delivery import Delivery, GateOptions
from compresskit.evaluate.refs import same
from compresskit.evaluate.runs import Runs, meant, parse_runs
from compresskit.evaluate.settings import METRICS, TIMING, EvalSettings
from compresskit.evaluate.settings_text import MOST_TOML, MOST_YAML, from_toml, from_yaml
from compresskit.options import OUTPUT, check, option, options_of, refuse
from compresskit.text import kind_of

if TYPE_CHECKING:
    from compresskit.evaluate.evaluate import Extras
    from compresskit.evaluate.gate import Rule

Part = TypeVar("Part")

PYPROJECT, YAML = "pyproject.toml", "compresskit.yaml"
TABLE = "[tool.compresskit.eval]"


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What is evaluated, against what, and what is kept beside the report."""

    checkpoints: tuple[str, ...] = option(
        (),
        "Folders (full, overlay, PEFT, quantized, ONNX), Hub ids, aliases, or files of answers.",
        metavar="CKPT…",
        shown="what pyproject.toml or compresskit.yaml says",
        argument=True,
    )
    data: str = option(
        DEFAULT_DATA,
        "A file (SQuAD JSON, rows as JSON, CSV or Parquet), a folder, a Hub data set, or demo.",
        metavar="DATA",
    )
    blind: str | None = option(
        None,
        "A set that is scored once for each checkpoint, beside --data, with a record of every look at it.",
        metavar="DATA",
        panel=METRICS,
    )
    blind_record: Path | None = option(
        None, "Where that record is.", metavar="FILE", shown="DATA.blind.jsonl, beside the data", panel=METRICS
    )
    runs: tuple[str, ...] = option(
        (),
        "Checkpoints that are runs of one with other seeds: one row, their mean. May be globs; may be repeated.",
        metavar="NAME=CKPT,…",
    )
    baseline: str | None = option(
        None, "The checkpoint that the others are compared with, or the NAME of runs.", metavar="CKPT"
    )
    show_flips: int = option(
        0, "Tell N questions lost against the baseline, and N won.", metavar="N", least=0, panel=METRICS
    )
    rounds: int | None = option(
        None,
        "Compare time with the baseline's in N rounds, in turns, and show the ratios.",
        metavar="N",
        least=2,
        shown="6 where a gate compares time or memory with the baseline's, else none",
        panel=TIMING,
    )
    cache: bool = option(
        True,
        "Take the row of an unchanged checkpoint from an earlier run.",
        shown="--cache",
        panel=TIMING,
    )
    prove_gates: bool = option(
        False, "Show that each gate can fail and can hold, on made-up rows; measure nothing.", panel=METRICS
    )
    predictions: Path | None = option(
        None, "Write each checkpoint's answers there, id to text.", metavar="DIR", panel=OUTPUT
    )

    def __post_init__(self) -> None:
        check(self)
        if self.blind is None:
            refuse(self, ("blind_record",), "without --blind")
        if self.baseline is None and self.show_flips:
            raise UsageError(f"--show-flips {self.show_flips} has no effect without --baseline; leave it out")
        if self.baseline is None and self.rounds is not None:
            raise UsageError(f"--rounds {self.rounds} has no effect without --baseline; leave it out")
        # What the system says of a name, such as that it is too long, is told where the files in it are checked.
        if self.predictions is not None and os.path.exists(self.predictions) and not self.predictions.is_dir():
            raise UsageError(f"--predictions {self.predictions} is not a folder; give the name of one")
        self._check_runs()

    @property
    def means(self) -> tuple[Runs, ...]:
        """The runs that make a row together."""
        return tuple(map(parse_runs, self.runs))

    @property
    def measured(self) -> tuple[str, ...]:
        """All checkpoints, those that are runs behind the others."""
        return (*self.checkpoints, *(ref for each in self.means for ref in each.refs))

    @property
    def baselines(self) -> tuple[str, ...]:
        """The checkpoints that are the baseline: one, or all of its runs."""
        return meant(self.baseline, self.means)

    def _check_runs(self) -> None:
        """UsageError where a checkpoint is a run twice, two rows have one name, or a run alone is the baseline."""
        seen: list[str] = []
        names: set[str] = set()
        for each in self.means:
            if each.name in names:
                raise UsageError(f"--runs {each.text}: there are other runs of the name {each.name}; write another")
            names.add(each.name)
            for ref in each.refs:
                if any(same(ref, other) for other in seen):
                    raise UsageError(f"--runs {each.text}: {ref} is named twice; name each checkpoint once")
                seen.append(ref)
            if self.baseline not in (None, each.name) and any(same(ref, str(self.baseline)) for ref in each.refs):
                raise UsageError(f"--baseline {self.baseline} is one of the runs of {each.name}; name {each.name}")


# All that can be told on the command line or in the project's file.
PARTS = (EvalOptions, EvalSettings, GateOptions, Delivery)


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """One evaluation: what is evaluated, how it is measured, what has to hold, and where the report goes."""

    options: EvalOptions
    settings: EvalSettings
    gating: GateOptions
    delivery: Delivery

    def extras(self, rules: Sequence[Rule]) -> Extras:
        """What the evaluation does beyond its report: the slices that are told, and what `rules` ask for."""
        from compresskit.evaluate.evaluate import Extras
        from compresskit.evaluate.slice import SliceName
        from compresskit.evaluate.timed import needs_new_rows, plan_of

        told = [SliceName(key) for key in self.delivery.slices]
        return Extras(
            use_cache=self.options.cache and not needs_new_rows(rules),
            predictions=self.options.predictions,
            flips=self.options.show_flips,
            slices=(*told, *(rule.part for rule in rules if rule.part is not None)),
            turns=plan_of(rules, self.options.rounds),
            runs=self.options.means,
        )

    def check_places(self, folder: Path) -> None:
        """UsageError where a file of the report would be written over what is read.

        `folder` is that of the project's file.
        """
        from compresskit.data.load import local_files
        from compresskit.evaluate.blind_record import check_record
        from compresskit.evaluate.reading import read_by

        read = [*read_by([*self.options.measured, *self.options.baselines], self.options.data, self.settings)]
        if (blind := self.options.blind) is not None:
            read += [*local_files(blind), check_record(blind, self.options.blind_record, read)]
        self.delivery.check_apart([folder / PYPROJECT, folder / YAML, *read])


def configured(given: Mapping[str, Any], folder: Path) -> EvalConfig:
    """What to do: what was `given` on the command line, and the file of `folder` for the rest.

    The file is read only where no checkpoint is given. Raises InputError where it is broken, UsageError where neither
    names a checkpoint and one is needed, or a value cannot be.
    """
    values = dict(given)
    if not values.get("checkpoints") and not values.get("runs"):
        found = read(folder)
        if values.get("null_threshold", "auto") != "auto":  # a number on the line wins over tuning in the file
            found.pop("tune_data", None)
        values = {**found, **{key: value for key, value in values.items() if key != "checkpoints"}}
    if not any(values.get(key) for key in ("checkpoints", "runs", "prove_gates")):  # to prove gates needs none
        raise UsageError(
            "no checkpoint to evaluate; name at least one alias, Hub id or folder, "
            f"or list them in {TABLE} of {PYPROJECT}, or in {YAML}"
        )
    if "seed" in values and not {"limit", "shots", "rounds"} & set(values):
        raise UsageError(f"--seed {values['seed']} has no effect without --limit, --shots or --rounds; leave it out")
    for key in ("metrics", "harness"):
        values[key] = tuple(name.strip() for text in values.get(key, ()) for name in text.split(","))
    return EvalConfig(
        _made(EvalOptions, values), _made(EvalSettings, values), _made(GateOptions, values), _made(Delivery, values)
    )


def globbed_runs(text: str, folder: Path, where: str = "--runs") -> str:
    """`NAME=CKPT,…` with the checkpoints that globs mean; what has no such form is told of later, by `parse_runs`.

    Raises InputError, naming `where`, for a glob that finds nothing.
    """
    name, sign, refs = text.partition("=")
    found = _found([ref.strip() for ref in refs.split(",")], folder, where) if sign else ()
    return f"{name}={','.join(found)}" if sign else text


def _made(part: type[Part], values: Mapping[str, Any]) -> Part:
    return part(**{name: values[name] for name in options_of(part) if name in values})


def read(folder: Path) -> dict[str, Any]:
    """The checked values of the file in `folder`, under the names of the fields of `PARTS`.

    Empty where there is no such file, or no such table in it. Globs among the checkpoints are resolved, relative to
    `folder`. Raises InputError where a file is broken, a key unknown or of another type, or a glob finds nothing;
    UsageError where both files have a say.
    """
    toml, yml = _table(folder / PYPROJECT), _section(folder / YAML)
    if toml is not None and yml is not None:
        raise UsageError(f"{PYPROJECT} and {YAML} both say what to evaluate; keep one of them")
    raw, where = (toml, f"{PYPROJECT} {TABLE}") if toml is not None else (yml or {}, YAML)
    values = options.read(PARTS, raw, where)
    values["checkpoints"] = _found(values.get("checkpoints", ()), folder, where)
    values["runs"] = tuple(globbed_runs(text, folder, where) for text in values.get("runs", ()))
    return values


_MEND = "mend it, or name the checkpoints"


def _text(path: Path, most: int) -> str | None:
    """The text of a file of settings; None where there is nothing of that name, not even a link."""
    return read_text(path, _MEND, most) if os.path.lexists(path) else None


def _table(path: Path) -> Mapping[str, Any] | None:
    text = _text(path, MOST_TOML)
    if text is None:
        return None
    try:
        value: Any = from_toml(text)
    except ValueError as error:
        raise InputError(f"{path}: is not valid TOML ({error}); {_MEND}") from error
    for key in ("tool", "compresskit", "eval"):
        value = value.get(key) if isinstance(value, dict) else None
    return _mapping(value, f"{PYPROJECT} {TABLE}")


def _section(path: Path) -> Mapping[str, Any] | None:
    text = _text(path, MOST_YAML)
    if text is None:
        return None
    try:
        value = from_yaml(text)
    except ValueError as error:
        raise InputError(f"{path}: is not valid YAML ({error}); {_MEND}") from error
    return _mapping(value.get("eval", value) if isinstance(value, dict) else value, YAML)


def _mapping(value: object, where: str) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{where}: holds {kind_of(value)}; write KEY and value pairs")
    return value


def _found(patterns: Sequence[str], folder: Path, where: str) -> tuple[str, ...]:
    """The checkpoints that the patterns mean, in their order; what is not a glob stays as it is.

    A glob takes folders, but not those of runs that go on, and files only where it ends like one.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if not glob.has_magic(pattern):
            found[pattern] = None
            continue
        wants_files = pattern.endswith((".json", ".gz"))
        names = [
            name
            for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True))
            if (folder / name).is_dir() != wants_files and not name.rstrip("/").endswith(".partial")
        ]
        if not names:
            raise InputError(f"{where}: no checkpoint matches {pattern!r}; mend the glob, or train one first")
        found.update(dict.fromkeys(names))
    return tuple(found)
