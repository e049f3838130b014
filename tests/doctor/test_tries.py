"""Tries: that they fail where their package does, and one real run of all that is installed."""

import json

import pytest

from compresskit.doctor import needed, optional
from compresskit.doctor.child import outcome
from compresskit.doctor.paths import paths
from compresskit.errors import MissingError
from compresskit.models.tasks import windows
from compresskit.packages import PACKAGES, installed


def test_the_graph_of_one_node_is_what_onnx_makes() -> None:
    onnx = pytest.importorskip("onnx")
    number, helper = onnx.TensorProto.FLOAT, onnx.helper
    ends = [[helper.make_tensor_value_info(name, number, [2])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert model.SerializeToString() == optional.ONE_NODE


def test_a_tokenizers_that_loses_windows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_count_windows", lambda **_: 1)
    windows.require_windows.cache_clear()
    try:
        with pytest.raises(MissingError, match="drops the windows of long contexts"):
            needed.tokenizers()
    finally:
        windows.require_windows.cache_clear()


def test_whatever_a_try_raises_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    from compresskit.doctor import tries

    def leaves() -> None:
        raise SystemExit("it leaves")

    monkeypatch.setattr(tries, "TRIES", {"odd": leaves})
    assert outcome("odd")["reason"] == "SystemExit: it leaves"


@pytest.mark.parametrize("name", ["numpy", "safetensors", "zstandard", "constriction", "torch", "tokenizers"])
def test_tries_that_take_no_time(name: str) -> None:
    from compresskit.doctor.tries import TRIES

    json.dumps(TRIES[name]().facts)


def test_the_ways_are_told_by_what_decides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from compresskit.doctor import paths as module
    from compresskit.models.device import resolve_device
    from compresskit.models.int8 import arithmetic

    def broken() -> None:
        raise OSError("libcudart.so is not there")

    monkeypatch.setattr(module, "library", broken)
    found = {each.what: each.how for each in paths()}
    assert found["int8 products"] == arithmetic(resolve_device("auto"), "auto")
    assert found["qlora"] == "fails: OSError: libcudart.so is not there"
    assert found["training"].endswith("float32")
    assert not any(how.startswith("fails") for what, how in found.items() if what != "qlora")


@pytest.mark.slow
def test_everything_that_is_installed_here_works(capfd: pytest.CaptureFixture[str]) -> None:
    from compresskit.cli.app import main

    code = main(["doctor", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert [(each["name"], each["reason"]) for each in found["packages"] if each["state"] == "broken"] == []
    assert code == (0 if found["works"] else 4)
    there = {package.name for package in PACKAGES if installed(package)}
    assert {each["name"] for each in found["packages"] if each["state"] != "missing"} == there
