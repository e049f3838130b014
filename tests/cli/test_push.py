"""`compresskit push`, and what was pushed opened again by its id on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.cli.conftest import Run, Trained, tree
from tests.publish.fake_hub import FakeHub, put_in_place


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub()
    put_in_place(monkeypatch, made)
    return made


@pytest.mark.usefixtures("measured_here")
def test_a_mask_and_its_base_come_back(
    hub: FakeHub, trained: Trained, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back by its id answers as the folder did."""
    mask, data = trained.pruned("smp"), trained.eval_data
    asked = ["eval", "--data", data, "--limit", "4", "--device", "cpu", "--format", "json"]
    before = run(*asked, mask, "-o", "eval.json")
    assert before.code == 0, before.err
    done = run("push", trained.dense, "me/dense", "--license", "mit")
    assert (done.code, done.out) == (0, "")
    assert "https://huggingface.co/me/dense/commit/0123 is there; compresskit eval me/dense measures it" in done.err
    done = run("push", mask, "me/mask", "--base-ref", "me/dense", "--report", "eval.json", "--license", "mit")
    assert done.code == 0, done.err
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshots(place / "cache"))
    after = run(*asked, "me/mask", "--no-cache")
    assert after.code == 0, after.err
    (found,), (known,) = (json.loads(each.out)["rows"] for each in (after, before))
    assert [found[key] for key in ("em", "f1", "no_ans_em")] == [known[key] for key in ("em", "f1", "no_ans_em")]
    assert found["manifest"]["base"]["ref"] == "me/dense"
    head: Any = huggingface_hub.ModelCard(hub.files("me/mask")["README.md"].decode()).data
    assert head.eval_results[0].metric_value == round(known["em"], 2)


def test_a_dry_run_writes_the_card_alone(hub: FakeHub, trained: Trained, place: Path, run: Run) -> None:
    before = tree(trained.root)
    done = run("push", trained.dense, "me/dense", "--dry-run")
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("warning: nothing tells the licence")
    printed = done.out
    done = run("push", trained.dense, "me/dense", "--dry-run", "-o", "card.md")
    assert (done.code, done.out) == (0, "")
    assert (place / "card.md").read_text() == printed
    assert hub.repos == {}
    assert tree(trained.root) == before
    done = run("push", trained.dense, "me/dense", "--dry-run", "-o", trained.dense / "README.md")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "lies in" in done.err
