"""What the documentation points at is there: tests by name, files, headings, footnotes; and figures are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools.generate import results

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FIGURES = ROOT / "docs" / "concepts" / "figures"
TEXTS = (".md", ".py", ".toml", ".yaml", ".yml")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_tests_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", text(page))
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or (test and not re.search(rf"^def {test}\(", text(ROOT / file), re.MULTILINE))
    ]
    assert missing == []
    if name(page) == "docs/concepts/mamba.md":
        assert len(named) > 30


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?://|mailto:)[^)\s]+)\)", text(page))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("folder", ["concepts", "how-to", "reference", "results"])
def test_every_page_is_found_from_the_index_of_its_folder(folder: str) -> None:
    """That of results is made from the pages."""
    index = ROOT / "docs" / folder / "index.md"
    linked = set(re.findall(r"\]\(([\w-]+\.md)", text(index) + (results() if folder == "results" else "")))
    assert {page.name for page in index.parent.glob("*.md")} - linked == {"index.md"}


def test_the_pages_that_code_and_recipes_name_exist() -> None:
    folders = ("compresskit", "tests", "examples", "recipes", "benchmarks", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS]
    files += [path for path in ROOT.iterdir() if path.suffix in TEXTS]
    named = {(name(path), page) for path in files for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text(path))}
    assert len(named) > 20
    assert {(file, page) for file, page in named if not (ROOT / page).is_file()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_footnote_is_used_and_defined(page: Path) -> None:
    defined = re.findall(r"^\[\^([\w-]+)\]: ", text(page), re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert set(re.findall(r"\[\^([\w-]+)\](?!: )", text(page))) == set(defined)


def test_the_figures_are_what_their_script_draws() -> None:
    """Places may differ by rounding."""
    from docs.concepts.figures.draw import FIGURES as DRAWN

    assert {path.stem for path in FIGURES.glob("*.svg")} == set(DRAWN)
    for stem, draw in DRAWN.items():
        pair = text(FIGURES / f"{stem}.svg"), draw().svg()
        kept, drawn = (NUMBER.sub("0", each) for each in pair)
        assert drawn == kept, f"{stem}: run python -m docs.concepts.figures.draw"
        places = [[float(number) for number in NUMBER.findall(each)] for each in pair]
        assert places[1] == pytest.approx(places[0], abs=0.11), stem
