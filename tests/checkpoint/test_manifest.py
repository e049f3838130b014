import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.listing import Listed
from compresskit.checkpoint.manifest import FILE, Base, Data, Manifest, Step, read_manifest
from compresskit.errors import InputError

TRAIN = Step("train", {"lr": 5e-5, "epochs": 3.0}, 42, Data("squad.json", "ab" * 32, 100, 33), 12.5, {"em": 60.25})
PRUNE = Step("prune/smp", {"block": [1, 1], "teacher": None}, 7, None, 3.0, {"sparsity": 50.0})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    base = Base("../dense", "abc123", "cd" * 32)
    manifest = Manifest("encoder", "mask", base, [TRAIN, PRUNE], "2026-01-02T03:04:05+00:00")
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == replace(manifest, files={})
    assert manifest.method == "prune/smp"


def test_the_file_has_the_documented_keys(tmp_path: Path) -> None:
    Manifest("encoder", "full", None, [TRAIN]).write(tmp_path)
    raw = json.loads((tmp_path / "compresskit.json").read_text())
    assert raw.keys() == {"schema", "family", "kind", "base", "steps", "created", "files"}
    assert raw["schema"] == "compresskit.checkpoint/1"
    assert raw["base"] is None
    step = raw["steps"][0]
    assert step.keys() == {"method", "config", "seed", "data", "wall_time_s", "metrics", "versions", "choices"}
    assert step["data"] == {
        "path": "squad.json",
        "sha256": "ab" * 32,
        "questions": 100,
        "unanswerable": 33,
        "counts": {},
    }
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
    with pytest.raises(InputError, match=rf"is not a manifest \(.*\b{key}: .*damaged: copy or make"):
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
    with pytest.raises(InputError, match=rf"is not a manifest \(.*\b{key}: .*damaged: copy or make"):
        read_manifest(tmp_path)


def change(raw: Any, place: str, value: Any) -> None:
    """Put a value at a place such as `steps.0.seed`."""
    *outer, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    for part in outer:
        raw = raw[part]
    raw[last] = value


WRONG: list[tuple[str, list[Any]]] = [
    ("family", [3, None]),
    ("kind", ["thing", 1, ["full"]]),
    ("created", [None, 2026]),
    ("more", ["a key that nobody knows"]),
    ("base", ["text", {}, [], {"ref": "b"}]),
    ("base.ref", [3, None, ["b"], {"a": 1}]),
    ("base.revision", [3, False, []]),
    ("base.sha256", [3, None, {}]),
    ("base.more", [1]),
    ("steps", [None, [3], {}, "train"]),
    ("steps.0.method", [None, 1]),
    ("steps.0.config", [None, [], "text"]),
    ("steps.0.seed", ["42", 4.2, True, None]),
    ("steps.0.data", ["squad.json", []]),
    ("steps.0.data.questions", ["100", None, 1.5]),
    ("steps.0.wall_time_s", ["12", None, True, -1, [1.0]]),
    ("steps.0.metrics", [None, [], "em"]),
    ("steps.0.metrics.em", ["60", [60], True, {}]),
    ("steps.0.metrics.params_trainable", ["all"]),
    ("steps.0.versions", [[], {"torch": 2}, None]),
    ("files", ["text", [], {"../x": {"sha256": "0" * 64, "bytes": 1}}, {"": {"sha256": "0" * 64, "bytes": 1}}]),
    ("files.log", [None, {}, {"sha256": "0" * 64}, {"sha256": "no", "bytes": 1}, {"sha256": "0" * 64, "bytes": -1}]),
    ("files.log", [{"sha256": "0" * 64, "bytes": "1"}, {"sha256": "0" * 64, "bytes": 1, "more": 1}]),
]


@pytest.mark.parametrize(("place", "value"), [(place, value) for place, values in WRONG for value in values])
def test_a_wrong_value_is_bad_input_and_its_place_is_told(place: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    raw = written(tmp_path)
    change(raw, place, value)
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(
        InputError, match=r"is not a manifest \(.*; it is damaged: copy or make the checkpoint"
    ) as caught:
        read_manifest(tmp_path)
    assert caught.value.exit_code == 3
    told = str(caught.value)
    assert "\n" not in told
    assert place.split(".")[0] in told, told


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    raw = written(tmp_path)
    change(raw, "family", "\ud800")
    (tmp_path / FILE).write_text(json.dumps(raw))
    with pytest.raises(InputError, match="damaged: copy or make it again"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["steps.0.wall_time_s", "steps.0.metrics.em", "steps.0.config.lr"])
def test_a_number_that_is_not_finite(place: str, number: str, tmp_path: Path) -> None:
    raw = written(tmp_path)
    change(raw, place, "HERE")
    (tmp_path / FILE).write_text(json.dumps(raw).replace('"HERE"', number))
    with pytest.raises(InputError, match="damaged: copy or make it again"):
        read_manifest(tmp_path)


def test_the_files_of_the_folder_are_listed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"abc")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    first = Manifest("encoder", "full", None, [TRAIN])
    first.write(tmp_path)
    first.write(tmp_path)
    known = read_manifest(tmp_path)
    assert known is not None
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of the standard, FIPS 180-4
    assert known.files == {"log": Listed(sha256, 3), "empty": Listed(hashlib.sha256().hexdigest(), 0)}
    assert known.add(PRUNE, kind="full", base=None).files is None, "the files of another folder"
