"""Configurations that no reader has, by hand or from a damaged file."""

import json
from pathlib import Path
from typing import Any

import pytest

from compresskit.errors import InputError
from compresskit.models.registry import load
from tests.models.lstm import small


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("1", {"attention": "foo"}),
        ("1", {"pooling": "foo"}),
        ("1", {"dropout": 7}),
        ("1", {"dropout": "a"}),
        ("1", {"l2": -5}),
        ("1", {"num_hidden_layers": 0}),
        ("1", {"hidden_size": -1}),
        ("1", {"modelling_layers": 1}),
        ("3", {"attention_heads": 5}),
        ("bidaf", {"character_length": 0}),
        ("bidaf", {"highway": -1}),
        ("1", {"vocab_size": 12}),
        ("1", {"hidden_size": 7}),
    ],
)
def test_a_folder_with_a_wrong_configuration(tmp_path: Path, variant: str, changes: dict[str, Any]) -> None:
    folder = small.folder(tmp_path, variant)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=r"copy or download it again|it is damaged"):
        load(str(folder), device="cpu")


def test_the_line_names_the_fault(tmp_path: Path) -> None:
    folder = small.folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pooling": "foo"}))
    with pytest.raises(InputError, match="pooling 'foo' is not one of flatten, max"):
        load(str(folder), device="cpu")


def test_the_tokenizer_of_another_reader(tmp_path: Path) -> None:
    folder, other = small.folder(tmp_path), small.folder(tmp_path / "other", buckets=30)
    (folder / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    with pytest.raises(
        InputError, match=r"the tokenizer of another model \(47 tokens, 20 known\); copy the files of its own"
    ):
        load(str(folder), device="cpu")


def test_a_tokenizer_without_its_configuration(tmp_path: Path) -> None:
    folder = small.folder(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="without padding"):
        load(str(folder), device="cpu")
