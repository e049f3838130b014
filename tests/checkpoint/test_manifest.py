import json
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.manifest import FILE, Base, Data, Manifest, Step, read_manifest
from compresskit.errors import InputError

TRAIN = Step("train", {"lr": 5e-5, "epochs": 3.0}, 42, Data("squad.json", "ab" * 32, 100, 33), 12.5, {"em": 60.25})
PRUNE = Step("prune/smp", {"block": [1, 1], "teacher": None}, 7, None, 3.0, {"sparsity": 50.0})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    base = Base("../dense", "abc123", "cd" * 32)
    manifest = Manifest("encoder", "mask", base, [TRAIN, PRUNE], "2026-01-02T03:04:05+00:00")
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.method == "prune/smp"


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    Manifest("encoder", "full", None, [TRAIN]).write(tmp_path)
    raw = json.loads((tmp_path / "compresskit.json").read_text())
    assert raw.keys() == {"schema", "family", "kind", "base", "steps", "created"}
    assert raw["schema"] == "compresskit.checkpoint/1"
    assert raw["base"] is None
    step = raw["steps"][0]
    assert step.keys() == {"method", "config", "seed", "data", "wall_time_s", "metrics", "versions"}
    assert step["data"] == {"path": "squad.json", "sha256": "ab" * 32, "questions": 100, "unanswerable": 33}
    assert {"python", "torch", "transformers"} <= step["versions"].keys()


def test_adding_a_step_keeps_the_history_and_the_original() -> None:
    first = Manifest("encoder", "full", None, [TRAIN])
    second = first.add(PRUNE, kind="mask", base=Base("x", None, "00"))
    assert (second.kind, second.base, list(second.steps)) == ("mask", Base("x", None, "00"), [TRAIN, PRUNE])
    assert (first.kind, list(first.steps)) == ("full", [TRAIN])


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert Manifest("encoder", "full", None, []).method == "-"


@pytest.mark.parametrize("raw", [{"schema": "compresskit.checkpoint/2"}, {"schema": None}, {}, [], "text", 3])
def test_a_foreign_schema(tmp_path: Path, raw: Any) -> None:
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"compresskit\.json has schema .*reads 'compresskit\.checkpoint/1'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"schema": ', "\x00"])
def test_broken_json(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match="not valid JSON"):
        read_manifest(tmp_path)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"schema": "\xff"}')
    with pytest.raises(InputError, match="not valid JSON"):
        read_manifest(tmp_path)


def written(folder: Path) -> dict[str, Any]:
    Manifest("encoder", "mask", Base("b", None, "00"), [TRAIN]).write(folder)
    raw: dict[str, Any] = json.loads((folder / FILE).read_text())
    return raw


@pytest.mark.parametrize("key", ["family", "kind", "base", "steps", "created"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    raw = written(tmp_path)
    del raw[key]
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(InputError, match=f"lacks or misspells a key .*{key}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("place", "key"),
    [(("steps", 0), "method"), (("steps", 0), "data"), (("steps", 0, "data"), "sha256"), (("base",), "sha256")],
)
def test_a_missing_inner_key_is_named(tmp_path: Path, place: tuple[Any, ...], key: str) -> None:
    raw = written(tmp_path)
    inner: Any = raw
    for part in place:
        inner = inner[part]
    del inner[key]
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(InputError, match=f"lacks or misspells a key .*{key}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("kind", "thing"), ("steps", [3]), ("steps", None), ("base", "text"), ("base", {"foo": 1})],
)
def test_a_wrong_value(tmp_path: Path, key: str, value: Any) -> None:
    raw = {**written(tmp_path), key: value}
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(InputError, match="damaged"):
        read_manifest(tmp_path)
