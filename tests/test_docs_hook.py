"""The hook of the site: links that leave docs/, and pages that nobody has named."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="pip install 'compresskit[docs]'")

from docs.tools import hook


def test_links_that_leave_docs_lead_to_pages_of_the_site() -> None:
    text = "[a](evaluation.md#gates) [b](../../action.yml) [c](../../recipes/) [d](https://x.org) [e](../results/)"
    assert hook._relinked(text, "reference/recipes.md") == (
        "[a](evaluation.md#gates) [b](../repository/action-yml.md) [c](../repository/recipes.md) [d](https://x.org) "
        "[e](../results/index.md)"
    )


def test_links_of_a_page_from_outside_docs_lead_back() -> None:
    text = "[a](docs/how-to/ci.md) [b](CONTRIBUTING.md#options) ![c](docs/images/table.svg)"
    assert hook._relinked(text, "repository/README.md") == (
        "[a](../how-to/ci.md) [b](CONTRIBUTING.md#options) ![c](../images/table.svg)"
    )


def test_bars_within_code_in_a_table_are_shown_as_they_are() -> None:
    """Against Python-Markdown itself: the backslash that GitHub wants would be a part of the code."""
    markdown = pytest.importorskip("markdown").markdown
    text = (
        "| flag | value |\n| --- | --- |\n| `--log` | `<a\\|b>` or `c\\|d` |\n| `--x` | one \\| two |\n\nOut: `a\\|b`\n"
    )
    shown = markdown(hook.piped(text), extensions=["tables"])
    assert "<td><code>&lt;a|b&gt;</code> or <code>c|d</code></td>" in shown
    assert "<td>one | two</td>" in shown
    assert "<code>a\\|b</code>" in shown, "outside of tables a backslash is one"


def test_what_is_linked_outside_docs_is_found_and_shown() -> None:
    text = "[a](../../action.yml) [b](evaluation.md) [c](../../nowhere.yml) [d](../../examples/ci/)"
    assert list(hook._outside("docs/reference/recipes.md", text)) == ["action.yml", "examples/ci"]
    assert hook._page_of("action.yml").startswith("# action.yml\n\n````yaml\n")
    shown = hook._page_of("examples/ci")
    assert all(f"\n## {name}\n" in shown for name in ("compresskit.yaml", "github.yml", "gitlab.yml"))


def test_pages_that_nobody_has_named_stand_at_the_end_of_their_folder() -> None:
    nav: list[Any] = [{"How to": ["how-to/ci.md", "how-to/*"]}, {"Results": ["results/index.md", "results/*"]}]
    hook.on_config({"nav": nav})
    (_, how_to), (_, results) = nav[0].popitem(), nav[1].popitem()
    assert how_to[0] == "how-to/ci.md"
    assert "how-to/index.md" in how_to[1:]
    assert len(set(how_to)) == len(how_to)
    assert results[0] == "results/index.md"
    assert results[1:] == sorted(results[1:], reverse=True)
    assert len(results) > 10
