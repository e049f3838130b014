"""The public names of the package as Markdown: signatures and docstrings, as Python itself has them.

Names are looked up as a user does. So those that are imported when they are first asked for are here too, and what a
decorator adds to a docstring. (mkdocstrings reads the source of the whole package, or imports all of it.)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import compresskit

SECTION = re.compile(r"^(Keywords|Args|Attributes|Example|Examples|Returns|Raises):\n((?:(?:    .*)?(?:\n|\Z))+)", re.M)
ENTRY = re.compile(r"^(\w+): ", re.M)
LITERAL = re.compile(r"::$", re.M)
_WIDTH = 88


def public_names() -> list[str]:
    """What `import compresskit` offers: `__all__`, or where there is none every name without an underscore."""
    every = getattr(compresskit, "__all__", None)
    if every is None:
        every = [name for name, value in vars(compresskit).items() if not inspect.ismodule(value)]
    return sorted((name for name in every if not name.startswith("_")), key=_order)


def _order(name: str) -> tuple[int, str]:
    """Functions first, then what they return, errors last."""
    value = getattr(compresskit, name)
    if not inspect.isclass(value):
        return (0 if callable(value) else 2, name)
    return (3 if issubclass(value, BaseException) else 1, name)


def python_api() -> str:
    """A section for each public name."""
    return "\n".join(line for name in public_names() for line in _section(name, getattr(compresskit, name)))


def _section(name: str, value: Any) -> Iterator[str]:
    yield from (f"## `{name}` {{: #{name} }}", "")
    if inspect.isclass(value):
        yield from _class(name, value)
    elif callable(value):
        yield from _call(name, value)
    else:  # a type alias, whose parts of ours are public names too
        yield from (f"    {name} = {re.sub(r'compresskit[.a-z]*[.]', '', str(value))}", "")


def _class(name: str, kind: type) -> Iterator[str]:
    if not issubclass(kind, BaseException):
        yield from _signature(name, kind)
    yield from (told(inspect.getdoc(kind) or ""), "")
    for member, value in vars(kind).items():
        if member.startswith("_") or (is_dataclass(kind) and member in kind.__dataclass_fields__):
            continue
        call = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if inspect.isfunction(call):
            yield from (f"### `{name}.{member}` {{: #{name}.{member} }}", "")
            yield from _call(member, call)
        elif inspect.isdatadescriptor(value) or hasattr(value, "func"):  # a property, cached or not
            yield from (f"### `{name}.{member}` {{: #{name}.{member} }}", "", told(inspect.getdoc(value) or ""), "")


def _call(name: str, call: Any) -> Iterator[str]:
    yield from _signature(name, call)
    yield from (told(inspect.getdoc(call) or ""), "")


def _signature(name: str, call: Any) -> Iterator[str]:
    """A signature on one line, or where that is too long an argument on each; keywords are told below it.

    That of a class says not what it gives.
    """
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return
    shown = _arguments(signature)
    gives_itself = inspect.isclass(call) or signature.return_annotation is signature.empty
    end = "" if gives_itself else f" -> {_plain(signature.return_annotation)}"
    line = f"{name}({', '.join(shown)}){end}"
    if len(line) > _WIDTH:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in shown) + f"){end}"
    yield from ("```python", line, "```", "")


def _arguments(signature: inspect.Signature) -> list[str]:
    """The arguments as they are written, with the star before those that are given by name alone."""
    shown, starred = [], False
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not starred:
            shown.append("*")
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        typed = "" if each.annotation is each.empty else f": {_plain(each.annotation)}"
        value = "..." if repr(each.default) == "<factory>" else repr(each.default)  # made anew for each object
        default = "" if each.default is each.empty else f" = {value}" if typed else f"={value}"
        shown.append(f"{stars}{each.name}{typed}{default}")
    return shown


def _plain(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def told(doc: str) -> str:
    """A docstring as Markdown: its sections under headings, examples as code, keywords as a list."""
    return SECTION.sub(_subsection, LITERAL.sub(":", doc.replace("<", "&lt;")) + "\n").strip()


def _subsection(found: re.Match[str]) -> str:
    heading, inner = found[1], inspect.cleandoc(found[2])
    if heading.startswith("Example"):
        return f"**{heading}**\n\n```python\n{inner.replace('&lt;', '<')}\n```\n\n"
    entries = ENTRY.sub(r"- `\1`: ", re.sub(r"\n +", " ", inner)) if ENTRY.match(inner) else inner
    return f"**{heading}**\n\n{entries}\n\n"
