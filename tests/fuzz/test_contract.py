"""The fuzzer sees each breach of the contract; its mutations change what they are given, and are the same each time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests import tiny
from tests.fuzz import mutations
from tests.fuzz.cases import Case, breaches
from tests.fuzz.mutations import Mutation
from tests.fuzz.process import Ended
from tests.fuzz.trees import changed, dumped

CASE = Case("dense", "", ("-q", "predict", "dense"))
REFUSED = Ended("", "error: dense is damaged; copy it again\n", 3, 0.1, 1 << 20, False)
ANSWERED = Ended('{"text": "a"}\n', "", 0, 0.1, 1 << 20, False)
BEFORE = {"dense": "folder", "dense/config.json": "100644 ab"}


def kinds(tmp_path: Path, ended: Ended, after: dict[str, str] = BEFORE, case: Case = CASE) -> set[str]:
    return {kind for kind, _ in breaches(case, ended, BEFORE, after, tmp_path)}


@pytest.mark.parametrize("ended", [REFUSED, ANSWERED])
def test_what_keeps_the_contract(ended: Ended, tmp_path: Path) -> None:
    assert kinds(tmp_path, ended) == set()


@pytest.mark.parametrize(
    ("kind", "ended", "changes"),
    [
        ("ending", ANSWERED, {"code": "SIGSEGV"}),
        ("ending", ANSWERED, {"code": 70}),
        ("child", ANSWERED, {"children": True}),
        ("time", ANSWERED, {"cpu_seconds": 6.0}),
        ("memory", ANSWERED, {"memory": 600 << 20}),
        ("internal", REFUSED, {"err": "error: internal error: KeyError: 'a'; run again\n", "code": 5}),
        ("code", REFUSED, {"code": 5}),
        ("lines", REFUSED, {"err": "error: a\nerror: b\n"}),
        ("lines", REFUSED, {"err": "error: a\nIgnored option\n"}),
        ("lines", REFUSED, {"err": "error: \x1b[31m\n"}),
        ("lines", REFUSED, {"err": f"error: {'a' * 9000}\n"}),
        ("lines", REFUSED, {"code": 0}),
        ("lines", ANSWERED, {"err": "Some weights were not used\n"}),
        ("output", REFUSED, {"out": "{}\n"}),
        ("output", ANSWERED, {"out": '{"score": NaN}\n'}),
        ("output", ANSWERED, {"out": "a\x1b[31m\n"}),
    ],
)
def test_what_breaks_it(kind: str, ended: Ended, changes: dict[str, Any], tmp_path: Path) -> None:
    assert kind in kinds(tmp_path, replace(ended, **changes))


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("changed", {**BEFORE, "dense/config.json": "100644 cd"}),
        ("changed", {"dense": "folder"}),
        ("left behind", {**BEFORE, ".out.1234": "folder"}),
        ("left behind", {**BEFORE, "out": "folder"}),
        ("left behind", {**BEFORE, "a-pickle-ran": "folder"}),
    ],
)
def test_what_it_leaves(kind: str, after: dict[str, str], tmp_path: Path) -> None:
    assert kinds(tmp_path, REFUSED, after) == {kind}
    assert (kinds(tmp_path, ANSWERED, after) == set()) is ("out" in after)


def test_a_temporary_file_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "built-x").write_text("a")
    assert kinds(tmp_path, ANSWERED) == {"left behind"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("fuzz") / "bert")


def everything(groups: Sequence[tuple[Mutation, ...]]) -> list[Mutation]:
    return list(dict.fromkeys(mutation for group in groups for mutation in group))


@pytest.mark.parametrize("mutation", everything([mutations.BYTES, mutations.PLACES, mutations.HEADER]))
def test_a_mutation_is_the_same_each_time(mutation: Mutation, checkpoint: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = Path(shutil.copytree(checkpoint, tmp_path / name))
        told = mutation(folder / "model.safetensors", Random(5))
        found.append((told, sorted(path.name for path in folder.iterdir())))
        for path in folder.iterdir():
            if path.stat(follow_symlinks=False).st_size > 1 << 20:
                path.unlink()
    assert found[0] == found[1]


def test_an_entry_of_json_in_json_is_changed() -> None:
    tree = {"__metadata__": {"masks": json.dumps({"w": {"ones": 7}})}}
    found = {dumped(changed(tree, Random(seed))[0]) for seed in range(200)}
    assert len(found) > 50
    assert any(rb"\"ones\": {" in text or rb"\"ones\": null" in text for text in found)
    assert any(text.count(b'"masks"') == 2 for text in found)
