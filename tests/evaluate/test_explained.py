"""The bytes of a folder by their part, and the line where the parameters do not explain them."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresskit.checkpoint.store import save_arrays
from compresskit.evaluate.explained import bytes_explained, told_bytes
from compresskit.evaluate.measure import disk_bytes
from compresskit.evaluate.report import csv
from compresskit.evaluate.report.table import notes
from compresskit.evaluate.row import Dataset, Report, Row

MB = 1_000_000


def folder_of(path: Path) -> Path:
    """Weights of 4,000 bytes, settings, and what a trainer leaves."""
    path.mkdir()
    save_arrays(path / "model.safetensors", {"a": np.zeros((10, 50), np.float32), "b": np.zeros(2000, np.int8)})
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}   ")
    (path / "optimizer.pt").write_bytes(b"x" * 300)
    (path / "checkpoint-7").mkdir()
    (path / "checkpoint-7" / "model.safetensors").write_bytes(b"x" * 40)
    (path / "pytorch_model.bin").write_bytes(b"x" * 700)
    (path / "README.md").write_bytes(b"x" * 5)
    return path


def test_parts_are_all_of_the_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder")
    found = bytes_explained(folder)
    whole = (folder / "model.safetensors").stat().st_size
    assert found == {
        **{"weights": whole, "tokenizer": 7, "training": 340, "other": 705},
        **{"weights.F32": 2000, "weights.I8": 2000, "other.pytorch_model.bin": 700, "other.README.md": 5},
    }
    assert sum(size for key, size in found.items() if "." not in key) == disk_bytes(folder)


def test_weights_that_are_not_opened_are_other_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder")
    save_arrays(folder / "scales.safetensors", {"s": np.zeros(9, np.float32)})
    os.link(folder / "README.md", folder / "again.md")
    found = bytes_explained(folder)
    assert found["other"] == 705 + found["other.scales.safetensors"]
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))
    assert bytes_explained(folder)["weights"] == found["weights"]


def told(parts: dict[str, int], **more: Any) -> list[str]:
    disk = sum(size for key, size in parts.items() if "." not in key)
    values: dict[str, Any] = {"disk_bytes": disk, "deploy_bytes": disk, "params_total": 25 * MB, **more}
    row = Row("it", "it", "encoder", "-", False, bytes_explained=parts, **values)
    report = Report("2026-01-01T00:00:00+00:00", {}, {}, Dataset("eval.json", "00ff", 10, 3), (row,))
    found = told_bytes(report)
    assert set(found) <= set(notes(report))
    assert Report.from_json(report.to_json()) == report
    assert "bytes_explained" not in csv.render(report)
    return found


def test_weights_of_their_format_need_no_line() -> None:
    assert told({"weights": 100 * MB, "tokenizer": MB, "weights.F32": 100 * MB}) == []
    assert told({"weights": 26 * MB, "tokenizer": 5 * MB, "weights.I8": 25 * MB, "weights.F32": MB}) == []
    assert told({"weights": 100 * MB}) == []  # of a graph no formats are known
    assert told({"weights": 100 * MB, "weights.F32": 100 * MB}, params_total=None) == []


@pytest.mark.parametrize(
    ("parts", "more", "line"),
    [
        (
            {"weights": 100 * MB, "tokenizer": MB, "training": 200 * MB, "other": MB, "other.a.bin": MB},
            {},
            "it: 302 MB on disk, of which 100 MB weights, 1.00 MB tokenizer and settings, 200 MB states of a training, "
            "1.00 MB other files, which are not read (a.bin)",
        ),
        (
            {"weights": 150 * MB, "weights.F32": 150 * MB},
            {},
            "it: 150 MB of weights for 25.0M parameters (150 MB F32), where 100 MB would do: tensors are there twice, "
            "or none of the model's",
        ),
        (
            {"weights": 5 * MB, "weights.F32": 5 * MB},
            {"deploy_bytes": 105 * MB},
            "it: 5.00 MB of weights for 25.0M parameters (5.00 MB F32); the rest is the base that it stands on",
        ),
        (
            {"weights": 13 * MB, "weights.U8": 12 * MB, "weights.F32": MB},
            {},
            "it: 13.0 MB of weights for 25.0M parameters (12.0 MB U8, 1.00 MB F32): several of them share a byte, or "
            "are left out",
        ),
    ],
)
def test_what_is_larger_or_smaller_is_told(parts: dict[str, int], more: dict[str, int], line: str) -> None:
    assert told(parts, **more) == [line]
