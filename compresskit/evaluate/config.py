"""What `compresskit eval` is to do: from the command line, or from the project's file where that names no checkpoint.

The file is ``pyproject.toml`` (its table ``[tool.compresskit.eval]``) or ``compresskit.yaml`` (its section ``eval``, or
the whole file) in the folder where the command runs. Its keys are the command's options, with dashes or underscores.
"""

from __future__ import annotations

import difflib
import glob
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from compresskit.data import DEFAULT_DATA
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.evaluate import Extras
from compresskit.evaluate.settings import EvalSettings

PYPROJECT, YAML = "pyproject.toml", "compresskit.yaml"
TABLE = "[tool.compresskit.eval]"

_LISTS = ("checkpoints", "gates", "metrics", "harness")
_TEXTS = (
    "data",
    "baseline",
    "format",
    "output",
    "junit",
    "html",
    "plot",
    "predictions",
    "tune_data",
    "device",
    "dtype",
)
_NUMBERS = ("batch_size", "max_length", "stride", "limit", "seed", "repeat", "show_flips")
_FLAGS = ("gate_ci", "cache")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(_LISTS, ((list, str), "a list of texts")),
    **dict.fromkeys(_TEXTS, ((str,), "a text")),
    **dict.fromkeys(_NUMBERS, ((int,), "a whole number")),
    **dict.fromkeys(_FLAGS, ((bool,), "true or false")),
    "null_threshold": ((int, float, str), "a number, or 'auto'"),
}


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """All that one evaluation is told; ``settings`` are those of the measurement, the rest is what becomes of it."""

    checkpoints: tuple[str, ...]
    settings: EvalSettings
    data: str = DEFAULT_DATA
    baseline: str | None = None
    gates: tuple[str, ...] = ()
    gate_ci: bool = False
    format: str = "table"
    output: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    plot: Path | None = None
    predictions: Path | None = None
    show_flips: int = 0
    cache: bool = True

    def __post_init__(self) -> None:
        if self.show_flips < 0:
            raise UsageError(f"show flips is {self.show_flips}; give a whole number of at least 0")
        if self.predictions is not None and self.predictions.exists() and not self.predictions.is_dir():
            raise UsageError(f"--predictions {self.predictions}: is no folder; give the name of one")

    @property
    def extras(self) -> Extras:
        """What the evaluation does beyond its report."""
        return Extras(self.cache, self.predictions, self.show_flips)


def configured(given: Mapping[str, Any], folder: Path) -> EvalConfig:
    """Return what to do: ``given`` on the command line (None where not given), and the file of ``folder`` for the rest.

    The file is read only where no checkpoint is given. Raises InputError where it is broken, UsageError where neither
    names a checkpoint, or a value cannot be.
    """
    values = {key: value for key, value in given.items() if value is not None and value != []}
    if "checkpoints" not in values:
        found = read(folder)
        if values.get("null_threshold", "auto") != "auto":  # a number on the line wins over tuning in the file
            found.pop("tune_data", None)
        values = {**found, **values}
    if not values.get("checkpoints"):
        raise UsageError(
            "no checkpoint to evaluate; name at least one alias, Hub id or folder, "
            f"or list them in {TABLE} of {PYPROJECT}, or in {YAML}"
        )
    for key in ("checkpoints", "gates"):
        values[key] = tuple(values.get(key, ()))
    for key in ("metrics", "harness"):
        values[key] = tuple(name.strip() for text in values.get(key, ()) for name in text.split(","))
    for key in ("output", "junit", "html", "plot", "predictions"):
        values[key] = Path(values[key]) if key in values else None
    measuring = {field.name for field in fields(EvalSettings)}
    settings = EvalSettings(**{key: value for key, value in values.items() if key in measuring})
    return EvalConfig(settings=settings, **{key: value for key, value in values.items() if key not in measuring})


def read(folder: Path) -> dict[str, Any]:
    """Return the checked values of the file in ``folder``, under the names of `EvalConfig` and `EvalSettings`.

    Empty where there is no such file, or no such table in it. Globs among the checkpoints are resolved, relative to
    ``folder``. Raises InputError where a file is broken, a key unknown or of another type, or a glob finds nothing;
    UsageError where both files have a say.
    """
    toml, yml = _table(folder / PYPROJECT), _section(folder / YAML)
    if toml is not None and yml is not None:
        raise UsageError(f"{PYPROJECT} and {YAML} both say what to evaluate; keep one of them")
    raw, where = (toml, f"{PYPROJECT} {TABLE}") if toml is not None else (yml or {}, YAML)
    values = dict(_checked(key, value, where) for key, value in raw.items())
    values["checkpoints"] = _found(values.get("checkpoints", ()), folder, where)
    return values


def _table(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not valid TOML ({error}); mend it, or name the checkpoints") from error
    for key in ("tool", "compresskit", "eval"):
        value = value.get(key) if isinstance(value, dict) else None
    return _mapping(value, f"{PYPROJECT} {TABLE}")


def _section(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise InputError(f"{path}: is not valid YAML ({told}); mend it, or name the checkpoints") from error
    return _mapping(value.get("eval", value) if isinstance(value, dict) else value, YAML)


def _mapping(value: object, where: str) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{where}: holds a {type(value).__name__}; write KEY and value pairs")
    return value


def _checked(key: object, value: object, where: str) -> tuple[str, Any]:
    """Return a key in its normal form, and its value; InputError where there is no such key, or the type is another."""
    name = str(key).replace("-", "_")
    if name not in _KINDS:
        near = difflib.get_close_matches(name, _KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(_KINDS))}"
        raise InputError(f"{where}: unknown key {key!r}; {hint}")
    types, wanted = _KINDS[name]
    entries = value if types[0] is list and isinstance(value, list) else [value]
    fits = isinstance(value, list) == (types[0] is list) and all(
        isinstance(entry, types) and isinstance(entry, bool) == (bool in types) for entry in entries
    )
    if name == "null_threshold" and isinstance(value, str) and value != "auto":
        fits = False
    if not fits:
        raise InputError(f"{where}: {key} is {value!r:.80}, not {wanted}")
    return name, value


def _found(patterns: Sequence[str], folder: Path, where: str) -> list[str]:
    """Return the checkpoints that the patterns mean, in their order; what is no glob stays as it is.

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
    return list(found)
