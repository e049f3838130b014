"""What mkdocs does beside its own: fill in what is generated, and show what the pages link to outside docs/.

A page may link to any file or folder of the repository, as on GitHub. In the site such a file is a page of its own
below `repository/`: Markdown as it is, code as code, a folder with all its files.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.tools.generate import filled

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
ROW, CODE = re.compile(r"^\|.*\|$", re.MULTILINE), re.compile(r"`[^`]+`")
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sh": "bash"}
RESULTS = "results/"
SHOWN = (*LANGUAGES, ".md", ".txt")


def on_config(config: Any) -> Any:
    """Put the pages that no one has named in the navigation where `FOLDER/*` stands; measured tables newest first."""
    named = set(_named(config["nav"]))
    _expand(config["nav"], named)
    return config


def _named(nav: Any) -> Iterator[str]:
    """The pages that the navigation names."""
    for each in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(each, str):
            yield each
        else:
            yield from _named(each)


def _expand(nav: list[Any], named: set[str]) -> None:
    """Replace each `FOLDER/*` by the pages of that folder that are not `named`."""
    for number, each in enumerate(nav):
        if isinstance(each, dict):
            for inner in each.values():
                if isinstance(inner, list):
                    _expand(inner, named)
        elif each.endswith("/*"):
            folder = each.removesuffix("*")
            pages = {f"{folder}{page.name}" for page in (ROOT / "docs" / folder).glob("*.md")}
            nav[number : number + 1] = sorted(pages - named, reverse=folder == RESULTS)
            return


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file and folder outside docs/ that a page links to, and those that they link to."""
    waiting = [file.src_uri for file in files.documentation_pages()]
    sources = {f"docs/{uri}" for uri in waiting}
    todo = [(f"docs/{uri}", (ROOT / "docs" / uri).read_text(encoding="utf-8")) for uri in waiting]
    while todo:
        source, text = todo.pop()
        for target in _outside(source, text):
            if target not in sources:
                sources.add(target)
                page = _page_of(target)
                files.append(File.generated(config, _uri(target), content=page))
                todo += [(target, page)] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The text of a page with what is generated in its place, and with its links and tables as the site has them."""
    return piped(_relinked(filled(markdown), page.file.src_uri))


def piped(text: str) -> str:
    """A page's text with the bars within code in a table as they are.

    GitHub wants a backslash before each of them, and leaves it out; Python-Markdown wants none, and would show it.
    """
    return ROW.sub(lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), text)


def _outside(source: str, text: str) -> Iterator[str]:
    """The files and folders outside docs/ to which a page links, seen from the root of the repository."""
    for link in LINK.finditer(text):
        target = _target(source, link[1])
        if not target.startswith("docs/") and (ROOT / target).exists():
            yield target


def _target(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _uri(target: str) -> str:
    """Where the page of a file outside docs/ lies among the site's sources."""
    return f"repository/{target}" if target.endswith(".md") else f"repository/{target.replace('.', '-')}.md"


def _page_of(target: str) -> str:
    """The text of the page of a file or folder."""
    path = ROOT / target
    if target.endswith(".md"):
        return path.read_text(encoding="utf-8")
    inner = sorted(each for each in path.iterdir() if each.suffix in SHOWN) if path.is_dir() else [path]
    shown = [f"## {each.name}\n\n{_code(each)}" if path.is_dir() else _code(each) for each in inner]
    return f"# {target}\n\n" + "\n\n".join(shown) + "\n"


def _code(path: Path) -> str:
    return f"````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8').rstrip()}\n````"


def _relinked(text: str, uri: str) -> str:
    """Links of a page that lead to or from `repository/`, as they are in the site."""
    inside = uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"
    if uri.startswith("repository/") and not uri.endswith(".md"):
        return text
    here = posixpath.dirname(uri)

    def changed(link: re.Match[str]) -> str:
        target = _target(inside, link[1])
        if not (ROOT / target).exists():
            return link[0]
        place = target.removeprefix("docs/") if target.startswith("docs/") else _uri(target)
        if (ROOT / target).is_dir() and target.startswith("docs/"):
            place = f"{place}/index.md"
        return os.path.relpath(place, here or ".") + (link[2] or "")

    return LINK.sub(changed, text)
