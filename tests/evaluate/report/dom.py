"""A small tree of an HTML page, that refuses what is not closed as it was opened."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = ("meta", "link", "img", "br", "hr", "input", "base", "source", "wbr")


class Node:
    """An element: its attributes, and its children (elements and texts)."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        """All text within, runs of white space as one blank."""
        parts = [
            child if isinstance(child, str) else f" {child.text} " for child in self.children if not _is_wbr(child)
        ]
        return " ".join("".join(parts).split())

    def all(self, tag: str | None = None, css: str | None = None, **attributes: str) -> list[Node]:
        """The elements within, in order, of a tag, with a class, with attributes."""
        return [
            node
            for node in self._within()
            if tag in (None, node.tag)
            and (css is None or css in node.classes)
            and all(node.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag: str | None = None, css: str | None = None, **attributes: str) -> Node:
        """The only such element."""
        (found,) = self.all(tag, css, **attributes)
        return found

    def _within(self) -> Iterator[Node]:
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child._within()


def _is_wbr(child: Node | str) -> bool:
    """Whether it is a place for a line to break, which is no space."""
    return isinstance(child, Node) and child.tag == "wbr"


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice: {self.get_starttag_text()}"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        node = self.open.pop()
        assert node.tag == tag, f"</{tag}> closes <{node.tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(text: str) -> Node:
    """Return the tree of a page; AssertionError where an element is not closed, or in the wrong order."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root], f"never closed: {[node.tag for node in parser.open[1:]]}"
    return parser.root
