"""A checkpoint as an object."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import compresskit as ck
from compresskit.checkpoint.manifest import FILE
from tests.api.conftest import Made
from tests.evaluate.report import dom
from tests.listing import unlisted


def test_it_tells_what_its_folder_holds(made: Made) -> None:
    raw = json.loads((made.half.path / FILE).read_text())
    half = ck.Checkpoint(made.half.path)
    assert (half.kind, half.family, half.metrics) == (raw["kind"], raw["family"], raw["steps"][-1]["metrics"])
    assert half.base is not None
    assert (half.base.ref, half.base.sha256) == (raw["base"]["ref"], raw["base"]["sha256"])
    assert half.bytes == sum(path.stat().st_size for path in half.path.iterdir())
    assert repr(half).startswith(f"Checkpoint('{half.path}': mask, encoder, prune/smp, sparsity 50, train_loss ")


def test_it_is_a_path_and_a_value(made: Made) -> None:
    again = ck.Checkpoint(str(made.half.path))
    assert os.fspath(again) == str(made.half.path)
    assert {again, made.half} == {made.half}
    assert again != made.dense
    assert again != str(made.half.path)


def test_one_of_another_tool(made: Made, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((made.dense.path / name).read_bytes())
    found = ck.Checkpoint(tmp_path)
    assert (found.manifest, found.base, found.steps, found.metrics) == (None, None, (), {})
    assert (found.kind, found.family) == ("full", "encoder")
    assert "created" not in found._repr_html_()


def test_a_folder_of_checkpoints_is_none(made: Made) -> None:
    runs = made.half.path.parent
    with pytest.raises(ck.InputError, match=rf"^{runs} is not a checkpoint: it has no config\.json; its folder "):
        ck.Checkpoint(runs)


def test_its_page_escapes_everything(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "<script>alert(1)<"
    folder.mkdir()
    for file in made.half.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    raw = json.loads((folder / FILE).read_text())
    raw["steps"][-1]["data"]["path"] = "<img src=x>"
    (folder / FILE).write_text(json.dumps(raw))
    page = dom.parse(ck.Checkpoint(unlisted(folder))._repr_html_())
    assert not page.all("script")
    assert not page.all("img")
    told = dict(zip(*([each.text for each in page.all(tag)] for tag in ("th", "td")), strict=True))
    assert told["checkpoint"] == str(folder)
    assert "<img src=x>" in told["step 2"]
    assert told["sparsity"] == "50"
    assert told["stands on"] == "../dense"
    assert ">made from</th>" in made.dense._repr_html_()


def test_what_is_in_it(made: Made) -> None:
    found = ck.inspect(made.half, verify=True)
    assert found.remaining == pytest.approx(0.5, abs=0.01)
    assert found.checkpoint is made.half
    assert {matrix.layer for matrix in found.matrices} == {0, 1, 2}
    assert ck.inspect(made.dense).remaining == 1.0


def test_a_file_that_was_changed_is_told(made: Made, tmp_path: Path) -> None:
    for file in made.dense.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text() + " ")
    with pytest.raises(ck.InputError, match=r"tokenizer\.json"):
        ck.inspect(tmp_path, verify=True)


@pytest.mark.parametrize(
    ("ref", "kind", "message"),
    [
        ("demo/brt", ck.UsageError, "did you mean demo/bert"),
        ("./nowhere", ck.InputError, "there is no folder ./nowhere"),
    ],
)
def test_what_is_none(ref: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        ck.Checkpoint(ref)
