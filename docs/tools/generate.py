"""The parts of the reference that are made from the code while the site is built.

A page says `<!-- generated: NAME -->` where one of `PARTS` belongs, and a line for those who read it on GitHub;
`hook.py` puts the part in the place of both. So a new verb, flag, key or name stands in the reference without anybody
writing it down.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from compresskit import errors
from compresskit.checkpoint import manifest, mask
from compresskit.checkpoint.headers import read_headers
from compresskit.checkpoint.listing import Listed
from compresskit.checkpoint.store import read_safetensors_metadata
from compresskit.cli.app import EXIT_BROKEN_PIPE, app, verb_names
from compresskit.evaluate.row import SCHEMA_FILE
from compresskit.options import Known, range_of
from compresskit.recipe.document import RECIPE_KEYS, STEP_KEYS
from compresskit.recipe.evaluation import KNOWN
from compresskit.recipe.verbs import VERBS, key_of
from docs.tools.python_api import python_api

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
MARK = re.compile(r"^<!-- generated: ([\w-]+) -->\n\nOn GitHub nothing stands here: .*$", re.MULTILINE)


def filled(page: str) -> str:
    """The text of a page with the parts that it asks for. Raises KeyError for a part that there is not."""
    return MARK.sub(lambda found: PARTS[found[1]](), page)


def commands() -> str:
    """Every verb with what it takes, a table for each heading of its help."""
    known = typer.main.get_command(app)
    lines = ["## Global flags", "", *_flags(known.params)]
    for name in verb_names():
        lines += _verb(f"compresskit {name}", known.commands[name])  # type: ignore[attr-defined]
    return "\n".join(lines)


def _verb(name: str, verb: Any) -> Iterator[str]:
    inner = getattr(verb, "commands", None)
    yield from ("", f"## `{name}`", "", _inline(inspect.cleandoc(verb.help or "")), "")
    if inner is None:
        yield from _usage(name, verb)
        yield from _by_heading(verb)
    for word, each in (inner or {}).items():
        yield from ("", f"### `{name} {word}`", "", _inline(inspect.cleandoc(each.help or "")), "")
        yield from _usage(f"{name} {word}", each)
        yield from _by_heading(each)


def _usage(name: str, verb: Any) -> Iterator[str]:
    words = [_argument(param) for param in verb.params if param.param_type_name == "argument"]
    yield from (f"    {' '.join([name, *words, '[OPTIONS]'])}", "")


def _argument(param: Any) -> str:
    word = param.metavar or param.name.upper()
    return word if param.required else f"[{word}]"


def _by_heading(verb: Any) -> Iterator[str]:
    headings: dict[str, list[Any]] = {}
    for param in verb.params:
        if not param.hidden and param.name != "help":
            headings.setdefault(getattr(param, "rich_help_panel", None) or "", []).append(param)
    for heading, params in headings.items():
        if heading:
            yield from ("", f"**{heading}**", "")
        yield from _flags(params)


def _flags(params: Iterable[Any]) -> list[str]:
    rows = []
    for param in params:
        if param.hidden or param.name == "help":
            continue
        is_argument = param.param_type_name == "argument"
        names = [_argument(param)] if is_argument else [*sorted(param.opts, key=len), *param.secondary_opts]
        flags = ", ".join(f"`{name}`" for name in names)
        value = "" if is_argument or param.is_flag else _value(param)
        rows.append((flags, value, _inline(param.help or ""), _default(param)))
    return _table(("flag", "value", "what it does", "default"), rows)


def _value(param: Any) -> str:
    return f"`{param.metavar or 'TEXT'}`"


def _default(param: Any) -> str:
    told = param.show_default
    if isinstance(told, str):
        return _inline(told)
    return f"`{param.default}`" if told and param.default not in (None, False) else ""


def recipe_keys() -> str:
    """The keys of a recipe, of a step, of its options, and of the block `eval`."""
    takers: dict[tuple[str, str, str, str], list[str]] = {}
    for verb in VERBS.values():
        for name, known in verb.options.items():
            row = (f"`{key_of(name)}`", _allowed(known), _inline(known.option.help), _told(known))
            takers.setdefault(row, []).append(verb.name)
    training = [verb.name for verb in VERBS.values() if verb.trains]
    options = [
        (key, value, told, default, "all that train" if verbs == training else ", ".join(verbs))
        for (key, value, told, default), verbs in takers.items()
    ]
    measured = [
        (f"`{key_of(name)}`", _allowed(known), _inline(known.option.help), _told(known))
        for name, known in KNOWN.items()
    ]
    lines = [
        "## Of the recipe",
        "",
        *_table(("key", "what it is"), [(f"`{key}`", told) for key, told in RECIPE_KEYS.items()]),
        "## Of a step",
        "",
        *_table(("key", "what it is"), [(f"`{key}`", told) for key, told in STEP_KEYS.items()]),
        "## Of `options`",
        "",
        *_table(("key", "value", "what it does", "default", "methods"), options),
        "## Of `eval`",
        "",
        *_table(("key", "value", "what it does", "default"), measured),
    ]
    return "\n".join(lines)


def _allowed(known: Known) -> str:
    own = known.option
    if own.choices:
        value = " ".join(f"`{choice}`" for choice in own.choices)
    elif known.kind is bool:
        value = "`true` `false`"
    else:
        value = f"`{' '.join(filter(None, [own.metavar or 'TEXT', range_of(own)]))}`"
    return f"a list, each {value}" if known.is_list else value


def _told(known: Known) -> str:
    if known.option.shown:
        return _inline(known.option.shown)
    return "" if known.default in (None, (), False) or not _is_plain(known.default) else f"`{known.default}`"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def exit_codes() -> str:
    """The exit codes, by the errors that have them."""
    kinds = sorted(errors.CompresskitError.__subclasses__(), key=lambda kind: kind.exit_code)
    rows = [
        (str(errors.EXIT_OK), "", "All went well; every gate holds."),
        *((str(kind.exit_code), f"`{kind.__name__}`", _first_line(kind)) for kind in kinds),
        (str(errors.EXIT_INTERRUPTED), "", "Interrupted: Ctrl-C, SIGTERM, SIGHUP."),
        (str(EXIT_BROKEN_PIPE), "", "Nobody reads the output any more, such as in `compresskit eval … | head -1`."),
    ]
    return "\n".join(_table(("code", "error in Python", "what happened"), rows))


def manifest_keys() -> str:
    """The keys of a manifest, by the dataclasses that hold them."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(manifest.Manifest).json_schema()
    parts = {"Manifest": schema, **schema["$defs"]}
    lines = []
    for kind in (manifest.Manifest, manifest.Base, manifest.Step, manifest.Data, Listed):
        title = f"{kind.__name__}: the whole file" if kind is manifest.Manifest else kind.__name__
        properties = parts[kind.__name__]["properties"]
        rows = [(f"`{field.name}`", _json_type(properties[field.name], parts)) for field in fields(kind)]
        if kind is manifest.Manifest:
            rows = [("`schema`", f"`{json.dumps(manifest.SCHEMA)}`"), *rows]
        lines += [f"## {title}", "", _inline(inspect.getdoc(kind) or ""), "", *_table(("key", "value"), rows)]
    return "\n".join(lines)


def mask_format() -> str:
    """The format of masks: what the code says of it, and the header of a small file that it writes."""
    import numpy as np

    kept = np.random.default_rng(0).random((64, 64)) < 0.1
    blocks = np.random.default_rng(1).random((4, 4)) < 0.5
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        mask.save_masks(folder, {"one.weight": mask.Mask(kept), "another.weight": mask.Mask(blocks, (32, 32))})
        path = folder / mask.FILE
        metadata, tensors, size = read_safetensors_metadata(path), read_headers(path), path.stat().st_size
    shown = {**metadata, "masks": json.loads(metadata["masks"])}
    rows = [(f"`{name}`", f"`{header.dtype}`", f"`{list(header.shape)}`") for name, header in tensors.items()]
    entry = [(f"`{field.name}`", f"`{field.type}`") for field in fields(mask.MaskEntry)]
    bound = mask.shannon_bits(int(kept.sum()), kept.size)
    words = tensors["one.weight"].shape[0]
    return "\n".join(
        [
            _inline(inspect.getdoc(mask) or ""),
            "",
            f"The file is `{mask.FILE}`. Its metadata are `schema` (`{mask.SCHEMA}`) and `masks`, a JSON text with an",
            "entry for each mask:",
            "",
            *_table(("key of an entry", "type"), entry),
            _inline(inspect.getdoc(mask.MaskEntry) or ""),
            "",
            "## An example",
            "",
            f"A file of {size} bytes with two masks, of 64 × 64 single weights and of 4 × 4 blocks of 32 × 32 weights.",
            "Its metadata, the text of `masks` unfolded:",
            "",
            "```json",
            json.dumps(shown, indent=2),
            "```",
            "",
            "and its tensors, the coded words of each mask:",
            "",
            *_table(("tensor", "dtype", "shape"), rows),
            f"The first mask takes {32 * words} bits. The Shannon bound of {kept.size} bits, {int(kept.sum())} of them "
            f"ones, is {bound:.0f}.",
        ]
    )


def evaluation_json() -> str:
    """The keys of an evaluation's JSON, by the parts of its published schema."""
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    parts = {"The whole file": schema, **schema["$defs"]}
    lines: list[str] = []
    for name, part in parts.items():
        if "properties" not in part:
            continue
        required = set(part.get("required", ()))
        rows = [
            (
                f"`{key}`" + ("" if key in required else " (may be missing)"),
                _json_type(value, parts),
                _inline(value.get("description", "")),
            )
            for key, value in part["properties"].items()
        ]
        title = name if part is schema else f"`{name}`"
        told = _inline(part.get("description", ""))
        lines += [f"## {title}", "", told, "", *_table(("key", "value", "what it is"), rows)]
    return "\n".join(lines)


def _json_type(value: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a value of a JSON Schema may be, in a few words; `parts` are the definitions that it refers to."""
    if "$ref" in value:
        name = str(value["$ref"]).rsplit("/", 1)[-1]
        is_shown = "properties" in parts[name]
        return f"[`{name}`](#{name.lower()})" if is_shown else _json_type(parts[name], parts)
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return " or ".join(f"`{json.dumps(each)}`" for each in value["enum"])
    if several := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(_json_type(each, parts) for each in several)
    kind = value.get("type", "any")
    kinds = [kind] if isinstance(kind, str) else kind
    words = []
    for each in kinds:
        if each == "array":
            words.append(_list_type(value, parts))
        elif each == "object" and isinstance(value.get("additionalProperties"), Mapping):
            words.append(f"object of {_json_type(value['additionalProperties'], parts)}")
        else:
            words.append(str(each))
    return " or ".join(words)


def _list_type(value: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    if entries := value.get("prefixItems"):
        return f"list of {len(entries)} × {_json_type(entries[0], parts)}"
    return f"list of {_json_type(value['items'], parts)}" if "items" in value else "list"


def extras() -> str:
    """The extras of the package, with what each installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {name: [re.split(r"[<>=!~;]", each)[0] for each in packages] for name, packages in _extras(project)}
    return "\n".join(_table(("extra", "packages"), [(f"`{name}`", ", ".join(each)) for name, each in known.items()]))


def _extras(project: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    found: Mapping[str, list[str]] = project["optional-dependencies"]
    return found.items()


def results() -> str:
    """The pages of measured tables by their headings, the newest first."""
    pages = sorted(RESULTS.glob("2*.md"), reverse=True)
    return "\n".join(f"- [{page.read_text(encoding='utf-8').splitlines()[0][2:]}]({page.name})" for page in pages)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, without the columns in which no row has anything, and a blank line after it."""
    cells = list(rows)
    used = [number for number in range(len(head)) if any(row[number] for row in cells)]
    if not cells:
        return []

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(row[number].replace("|", "\\|") for number in used) + " |"

    return [line(head), "|" + " --- |" * len(used), *map(line, cells), ""]


def _inline(text: str) -> str:
    """A text of the code as Markdown: a literal block keeps its lines, angle brackets stay what they are."""
    return re.sub(r"<(?=[a-z])", "&lt;", text.replace("::\n\n", ":\n\n"))


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "recipe-keys": recipe_keys,
    "exit-codes": exit_codes,
    "manifest": manifest_keys,
    "mask": mask_format,
    "evaluation-json": evaluation_json,
    "python-api": python_api,
    "extras": extras,
    "results": results,
}
"""What a page may ask for, by name."""
