"""Two files compared, against numpy; and what of a folder is gone, new, or of another form."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compresskit.checkpoint import coded, mask
from compresskit.checkpoint.store import save_tensors, write_json
from compresskit.recipe import alike as module
from compresskit.recipe.alike import FileAlike, alike
from compresskit.recipe.likeness import Likeness


def both(tmp_path: Path, name: str, then: dict[str, Any], now: dict[str, Any]) -> FileAlike:
    for folder, tensors in (("then", then), ("now", now)):
        (tmp_path / folder).mkdir()
        save_tensors(tmp_path / folder / name, {key: each.clone() for key, each in tensors.items()})
    (found,) = alike(tmp_path / "then", tmp_path / "now", [name])
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("chunk", [7, 1 << 22])
def test_numbers(dtype: torch.dtype, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest difference, and that in parts of the largest number, as numpy finds them."""
    monkeypatch.setattr(module, "_CHUNK", chunk)
    then = torch.randn(6, 5).to(dtype)
    now = then.clone()
    now[2, 3], now[5, 4] = 3.0, -2.0
    found = both(tmp_path, "w.safetensors", {"a": then, "same": then}, {"a": now, "same": then})
    (apart,) = found.apart
    one, two = then.double().numpy(), now.double().numpy()
    assert apart.absolute == np.abs(one - two).max()
    assert apart.relative == np.abs(one - two).max() / np.abs(one).max()
    assert apart.share == 2 / 30
    assert (apart.name, apart.shape, found.tensors, found.is_same, found.problem) == ("a", (6, 5), 2, False, "")


def test_the_same_tensors_in_other_bytes(tmp_path: Path) -> None:
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
        save_tensors(tmp_path / name / "w.safetensors", {"a": torch.ones(2)}, {"made": name})
    (found,) = alike(tmp_path / "then", tmp_path / "now", ["w.safetensors"])
    assert (found.apart, found.is_same, found.change) == ((), False, "the same tensors, in other bytes")


def test_bits_that_are_the_same_number(tmp_path: Path) -> None:
    then, now = torch.tensor([0.0, 1.0, float("nan")]), torch.tensor([-0.0, 1.0, float("nan")])
    (apart,) = both(tmp_path, "w.safetensors", {"a": then[:2], "b": then}, {"a": now[:2], "b": then}).apart
    assert (apart.name, apart.share, apart.absolute, apart.relative) == ("a", 0.5, 0.0, 0.0)


def test_a_number_that_became_none(tmp_path: Path) -> None:
    (apart,) = both(tmp_path, "w.safetensors", {"a": torch.ones(2)}, {"a": torch.tensor([1.0, float("nan")])}).apart
    assert apart.relative == float("inf")


def test_a_verdict_on_tensors_names_the_other_files_that_differ() -> None:
    """A tokenizer that came out otherwise asks other questions of the same tensors."""
    files = [FileAlike("model.safetensors", True, 5), FileAlike("vocab.txt", False, change="it is gone")]
    found = Likeness(Path("then"), Path("now"), 0.0, files, {}, {}, {}, {}, "")
    assert (found.verdict, found.told) == ("same", "the same, bit for bit: 5 tensors; other files differ: vocab.txt")


@pytest.mark.parametrize("odd", [float("inf"), float("nan")])
def test_numbers_that_are_not_finite_hide_no_difference(odd: float, tmp_path: Path) -> None:
    (apart,) = both(tmp_path, "w.safetensors", {"a": torch.tensor([odd, 2.0])}, {"a": torch.tensor([odd, 3.0])}).apart
    assert (apart.share, apart.absolute, apart.relative) == (0.5, 1.0, 0.5)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_whole_numbers_and_codes_differ_by_their_share(dtype: torch.dtype, tmp_path: Path) -> None:
    then = torch.arange(8).to(dtype)
    now = then.clone()
    now[3] = 0
    (apart,) = both(tmp_path, "w.safetensors", {"a": then}, {"a": now}).apart
    assert (apart.share, apart.absolute, apart.relative) == (1 / 8, None, 1 / 8)


def test_four_bits_that_are_kept_as_floats_are_bytes(tmp_path: Path) -> None:
    then, now = torch.zeros(4), torch.tensor([0.0, 0.0, 0.0, 1e-30])
    beside = {"w.absmax": torch.ones(1)}
    (apart,) = both(tmp_path, "w.safetensors", {"w": then, **beside}, {"w": now, **beside}).apart
    changed = np.count_nonzero(now.numpy().view(np.uint8))
    assert (apart.share, apart.absolute) == (changed / 16, None)


def test_masks_differ_by_their_bits(tmp_path: Path) -> None:
    bits = np.random.default_rng(1).random((40, 30)) < 0.3
    other = bits.copy()
    other[0, :6] = ~other[0, :6]
    for name, each in (("then", bits), ("now", other)):
        (tmp_path / name).mkdir()
        mask.save_masks(tmp_path / name, {"w": mask.Mask(each, (1, 1))})
    (found,) = alike(tmp_path / "then", tmp_path / "now", [mask.FILE])
    assert [(each.name, each.relative, each.absolute) for each in found.apart] == [("w", 6 / 1200, None)]


def test_coded_weights_are_compared_as_codes(tmp_path: Path) -> None:
    codes = torch.randint(-9, 9, (20, 10), dtype=torch.int8)
    other = codes.clone()
    other[4, 4] += 1
    for name, each in (("then", codes), ("now", other)):
        (tmp_path / name).mkdir()
        coded.save_coded(tmp_path / name, {"w": each, "scale": torch.ones(20)})
    (found,) = alike(tmp_path / "then", tmp_path / "now", [coded.FILE])
    assert [(each.name, each.share) for each in found.apart] == [("w", 1 / 200)]


def graph(path: Path, weight: Any, node: str = "Add") -> None:
    path.parent.mkdir(exist_ok=True)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(weight, np.float32), "w")]
    made = helper.make_graph([helper.make_node(node, ["x", "w"], ["y"])], "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(made), path)


def test_graphs(tmp_path: Path) -> None:
    graph(tmp_path / "then" / "model.onnx", [1, 2, 4])
    graph(tmp_path / "now" / "model.onnx", [1, 2, 3])
    (found,) = alike(tmp_path / "then", tmp_path / "now", ["model.onnx"])
    assert [(each.name, each.absolute, each.relative) for each in found.apart] == [("w", 1.0, 0.25)]
    graph(tmp_path / "now" / "model.onnx", [1, 2, 4], node="Mul")
    (found,) = alike(tmp_path / "then", tmp_path / "now", ["model.onnx"])
    assert (found.apart, found.problem) == ((), "the graph computes otherwise")


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        ({"a": torch.ones(3)}, "the tensor a was float32 [2] and is float32 [3]"),
        ({"a": torch.ones(2).half()}, "the tensor a was float32 [2] and is float16 [2]"),
        ({"b": torch.ones(2)}, "the tensor a is gone"),
        ({"a": torch.ones(2), "0": torch.ones(2)}, "the tensor 0 is new"),
    ],
)
def test_what_is_not_of_one_form(now: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert both(tmp_path, "w.safetensors", {"a": torch.ones(2)}, now).problem == problem


def test_other_files(tmp_path: Path) -> None:
    """Of settings, which; of all else, how long. Weights that are in one folder alone are no small matter."""
    for name in ("then", "now"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", {"version": name, "size": 3})
        (tmp_path / name / "vocab.txt").write_text("a" * len(name))
        (tmp_path / name / "same.txt").write_text("same")
    save_tensors(tmp_path / "now" / "w.safetensors", {"a": torch.ones(2)})
    (tmp_path / "then" / "README.md").write_text("mine")
    names = ["config.json", "vocab.txt", "same.txt", "w.safetensors", "README.md"]
    assert [
        (each.is_same, each.change, each.problem) for each in alike(tmp_path / "then", tmp_path / "now", names)
    ] == [
        (False, "version was 'then' and is 'now'", ""),
        (False, "4 bytes then, 3 now", ""),
        (True, "", ""),
        (False, "", "it is new"),
        (False, "it is gone", ""),
    ]
