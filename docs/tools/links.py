"""Whether all links of the built site lead somewhere: `python -m docs.tools.links SITE`.

Every `href` and `src` of a page that stays on this machine has to name a file of the site, and its anchor an id of that
page. One that leads to the network is told where a browser would load it by itself (a script, a style, an image).
Prints what is broken; the exit code is 1 then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Anchors(HTMLParser):
    """The ids of a page, and what it links to: pairs of the tag and the address."""

    ids: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the id of a tag, and its address."""
        known: Mapping[str, str] = {name: value for name, value in attrs if value is not None}
        self.ids |= {known[name] for name in ("id", "name") if name in known}
        self.links += [(tag, known[name]) for name in ("href", "src") if name in known]


@cache
def read(page: Path) -> Anchors:
    """A page of the site."""
    anchors = Anchors()
    anchors.feed(page.read_text(encoding="utf-8"))
    return anchors


def broken(site: Path) -> Iterator[str]:
    """What is wrong, a line for each link."""
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # its addresses begin at the root of a server
            continue
        for tag, link in read(page).links:
            if problem := _problem(page, tag, link):
                yield f"{page.relative_to(site)}: {link} {problem}"


def _problem(page: Path, tag: str, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return "would be loaded from the network" if tag in ("script", "img", "link") and parts.netloc else None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "is not there"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in read(target).ids and anchor != "__skip":
        return "has no such anchor"
    return None


if __name__ == "__main__":
    found = list(broken(Path(sys.argv[1])))
    print("\n".join(found) or "all links lead somewhere")
    sys.exit(bool(found))
