"""The parts of the documentation that are made: from the code, from a saved evaluation, from a run of the tutorial."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import compresskit
from compresskit import errors
from compresskit.checkpoint.manifest import Base, Data, Manifest, Step
from compresskit.cli.app import VERBS, verb_names
from compresskit.evaluate.combine import read_report
from compresskit.evaluate.row import SCHEMA_FILE
from compresskit.methods.prune.config import PruneConfig
from compresskit.options import options_of
from compresskit.recipe.schema import schema
from compresskit.training.arguments import TrainingOptions
from docs.tools import links, pictures, tutorial
from docs.tools.generate import MARK, PARTS, filled
from docs.tools.python_api import public_names, told

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    return filled((DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8"))


def test_every_part_is_asked_for_by_a_page_and_no_other_is() -> None:
    asked = [found[1] for path in DOCS.rglob("*.md") for found in MARK.finditer(path.read_text(encoding="utf-8"))]
    marks = sum(path.read_text(encoding="utf-8").count("<!-- generated: ") for path in DOCS.rglob("*.md"))
    assert sorted(asked) == sorted(PARTS)
    assert marks == len(asked)  # a mark without its line for GitHub would be left as it is


def test_the_commands_have_every_verb_and_flag() -> None:
    text = page("commands")
    sections = dict(re.findall(r"^## `compresskit ([\w-]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == verb_names()
    assert len(sections) == len(VERBS)
    for kind in (TrainingOptions, PruneConfig):
        for known in options_of(kind).values():
            assert known.option.argument or f"`{known.flag}`" in sections["prune"]
    assert (
        "| `-o`, `--output` | `DIR` | Folder of the new checkpoint. | runs/&lt;model>-&lt;method> |"
        in sections["train"]
    )
    assert "x>=1" in sections["train"]
    assert "### `compresskit recipes cp`" in sections["recipes"]
    assert "--help" not in re.findall(r"^\| `(--[\w-]+)`", text, re.MULTILINE)


def test_the_recipe_keys_are_those_of_the_schema() -> None:
    text, known = page("recipe-keys"), schema()
    keys = {name.rsplit(".", 1)[-1] for name in known["$defs"]} | set(known["properties"])
    keys |= set(known["properties"]["steps"]["items"]["properties"]) | set(known["properties"]["eval"]["properties"])
    assert set(re.findall(r"^\| `([\w-]+)`", text, re.MULTILINE)) == keys
    assert re.search(r"^\| `sparsity` \|.*\| `0.5` \| prune \|$", text, re.MULTILINE)
    assert re.search(r"^\| `lr` \|.*\| all that train \|$", text, re.MULTILINE)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`)?", page("exit-codes"), re.MULTILINE)
    assert [int(code) for code, _ in rows] == [0, 1, 2, 3, 4, 5, 130, 141]
    for code, name in rows:
        assert not name or getattr(errors, name).exit_code == int(code)


def test_the_manifest_has_every_key_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    step = Step("train", {}, 1, Data("d", "0" * 64, 1, 0), 1.0, {})
    Manifest("encoder", "full", Base("b", None, "0" * 64), [step]).write(tmp_path)
    written = json.loads((tmp_path / "compresskit.json").read_text(encoding="utf-8"))
    keys = {*written, *written["base"], *written["steps"][0], *written["steps"][0]["data"]}
    keys |= set(written["files"]["config.json"])
    assert set(re.findall(r"^\| `(\w+)`", page("manifest"), re.MULTILINE)) == keys


def test_the_format_of_masks_is_told_with_a_file_of_it() -> None:
    text = page("mask")
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    assert shown["schema"] == "compresskit.mask/1"
    assert shown["masks"]["another.weight"]["block"] == [32, 32]
    ones = shown["masks"]["one.weight"]["ones"]
    bits, of, told_ones, bound = map(int, re.findall(r"takes (\d+) bits.* of (\d+) bits, (\d+) .* is (\d+)\.", text)[0])
    assert (of, told_ones) == (64 * 64, ones)
    assert bound <= bits <= bound + 64


def test_the_keys_of_an_evaluation_are_those_of_its_schema() -> None:
    text, known = page("eval-json"), json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    sections = dict(re.findall(r"^## `?([\w ]+)`?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for name in ("row", "gate", "dataset"):
        assert set(re.findall(r"^\| `(\w+)`", sections[name], re.MULTILINE)) == set(known["$defs"][name]["properties"])
    linked = set(re.findall(r"\]\(#([\w-]+)\)", text))
    assert linked <= set(sections)


def test_every_public_name_of_python_is_told() -> None:
    text = page("python-api")
    assert re.findall(r"^## `(\w+)`", text, re.MULTILINE) == public_names()
    assert "register" in public_names()
    assert compresskit.register.__doc__
    assert "AutoModelForQuestionAnswering.from_pretrained" in text


def test_a_docstring_becomes_markdown() -> None:
    doc = (
        "Do it.\n\nKeywords:\n    lr: The rate,\n        above 0.\n    seed: A number.\n\n"
        "Example:\n    >>> do(1)\n    2\n\nRaises X."
    )
    assert told(doc) == (
        "Do it.\n\n**Keywords**\n\n- `lr`: The rate, above 0.\n- `seed`: A number.\n\n"
        "**Example**\n\n```python\n>>> do(1)\n2\n```\n\nRaises X."
    )


def test_broken_links_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="a/b.html#there">x</a><a href="a/b.html#gone">x</a><a href="no.html">x</a>'
        '<a href="https://example.org">x</a><script src="https://example.org/x.js"></script>',
        encoding="utf-8",
    )
    (tmp_path / "a" / "b.html").write_text('<h1 id="there">x</h1><a href="../index.html">x</a>', encoding="utf-8")
    assert list(links.broken(tmp_path)) == [
        "index.html: a/b.html#gone has no such anchor",
        "index.html: no.html is not there",
        "index.html: https://example.org/x.js would be loaded from the network",
    ]


def test_the_picture_of_the_table_is_what_its_script_draws() -> None:
    kept = (pictures.IMAGES / "table.svg").read_text(encoding="utf-8")
    assert pictures.table_svg(read_report(pictures.KEPT)) == kept, "run python -m docs.tools.pictures"
    assert "http" not in kept.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")


def test_the_outputs_of_a_run_go_into_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tutorial.PAGE.read_text(encoding="utf-8")
    commands = tutorial.shown_commands(text)
    assert len(commands) >= 8
    assert all(command.startswith("compresskit ") and "\\" not in command for command in commands)
    assert all(each.strip() for each in re.findall(r"<!-- output -->\n\n```text\n(.*?)```", text, re.DOTALL))
    monkeypatch.setattr(tutorial, "PAGE", tmp_path / "index.md")
    monkeypatch.setattr(tutorial, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(tutorial, "draw", lambda *_: None)
    tutorial.PAGE.write_text(text, encoding="utf-8")
    (tmp_path / "eval.json").write_bytes(pictures.KEPT.read_bytes())
    outputs = [[command, f"output {number}\n"] for number, command in enumerate(commands)]
    kept = tmp_path / tutorial.KEPT_OUTPUTS
    kept.write_text(json.dumps({"steps": None, "outputs": outputs}), encoding="utf-8")
    tutorial.fill(tmp_path)
    found = re.findall(r"<!-- output -->\n\n```text\n(.*?)```", tutorial.PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found == [text for _, text in outputs]
    assert (tmp_path / "kept.json").is_file()
    kept.write_text(json.dumps({"steps": None, "outputs": outputs[1:]}), encoding="utf-8")
    with pytest.raises(ValueError, match="other commands"):
        tutorial.fill(tmp_path)


def test_lines_of_progress_are_left_out_but_for_the_last() -> None:
    last = "a line\ntraining: 875/875 (100%), loss 1\nscoring: 9/9 (100%)\nready\n"
    printed = last.replace("training", "training: 21/875 (2%), loss 3.4\ntraining")
    assert printed != last
    assert tutorial.PROGRESS.sub("", printed) == last
