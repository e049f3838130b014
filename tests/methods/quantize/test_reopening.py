"""What is packed opens again, answers as it did, or is not left; what no backend packs so is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from compresskit.checkpoint.store import load_tensors, save_tensors
from compresskit.errors import RunFailed, UsageError
from compresskit.methods.job import Job
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.quantize.graph import Graph, whole_products
from compresskit.methods.quantize.int8 import Int8
from compresskit.methods.run import outline, run
from compresskit.models.probing import difference, logits
from compresskit.models.registry import load
from tests.contract import readers


def packing(folder: Path, **settings: Any) -> Job:
    return Job("quantize", QuantizeOptions(str(folder / "base"), folder / "out"), QuantizeConfig(**settings))


def test_a_model_that_asks_a_table_for_its_padding(tmp_path: Path) -> None:
    readers.checkpoint("funnel", tmp_path / "base")
    run(packing(tmp_path, activations="none"))
    assert torch.isfinite(logits(load(str(tmp_path / "out"), device="cpu"))).all()  # type: ignore[arg-type]


# Weights that are read raw, of layers that are not called; weights under other names in the files of the Hub.
@pytest.mark.parametrize("kind", ["layoutlmv3", pytest.param("jina_embeddings_v3", marks=pytest.mark.slow)])
def test_4_bits_of_layers_that_are_called(kind: str, tmp_path: Path) -> None:
    readers.checkpoint(kind, tmp_path / "base")
    run(packing(tmp_path, bits=4, backend="bitsandbytes"))
    whole, packed = (load(str(tmp_path / name), device="cpu") for name in ("base", "out"))
    assert difference(logits(packed), logits(whole)) < 0.2  # type: ignore[arg-type]
    (path,) = (tmp_path / "out").glob("*.safetensors")
    packed_layers = {n.partition(".weight.quant_state")[0] for n in load_tensors(path) if ".quant_state." in n}
    assert len(packed_layers) == 12  # six in each of two blocks
    assert not any("rel_pos" in name for name in packed_layers)


@pytest.mark.parametrize(("kind", "layer"), [("falcon", "FalconLinear"), ("ibert", "QuantLinear")])
def test_layers_of_a_models_own(kind: str, layer: str, tmp_path: Path) -> None:
    readers.checkpoint(kind, tmp_path / "base")
    job = packing(tmp_path, bits=4, backend="bitsandbytes")
    for does in (run, outline):
        with pytest.raises(UsageError, match=rf"linear layers alone, .* has its weights in others \({layer}\); leave"):
            does(job)
    assert not list(tmp_path.glob("*out*"))


def test_what_does_not_open_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers.checkpoint("bert", tmp_path / "base")
    save = Int8.save

    def forgets(self: Int8, folder: Path) -> None:
        save(self, folder)
        tensors = load_tensors(folder / "model.safetensors")
        grown = {name: 9 * tensor for name, tensor in tensors.items() if name.endswith("_scale")}
        save_tensors(folder / "model.safetensors", {**tensors, **grown}, {"format": "pt"})

    monkeypatch.setattr(Int8, "save", forgets)
    with pytest.raises(RunFailed, match=r"what quantize/int8 makes of .*base does not open as it was \(its logits are"):
        run(packing(tmp_path))

    def loses(self: Int8, folder: Path) -> None:
        save(self, folder)
        tensors = load_tensors(folder / "model.safetensors")
        del tensors["bert.encoder.layer.0.attention.self.query.weight_scale"]
        save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})

    monkeypatch.setattr(Int8, "save", loses)
    with pytest.raises(RunFailed, match=r"does not open again \(.*has no scales for bert.*; it is not left"):
        run(packing(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_what_is_packed_in_fewer_weights_than_announced_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that came out whole answers as the packed one does: its logits do not tell."""
    readers.checkpoint("bert", tmp_path / "base")
    save, weight = Int8.save, "bert.encoder.layer.0.attention.self.query.weight"

    def whole(self: Int8, folder: Path) -> None:
        save(self, folder)
        tensors = load_tensors(folder / "model.safetensors")
        scale = tensors.pop(f"{weight}_scale")
        tensors[weight] = tensors[weight].float() * scale
        save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})

    monkeypatch.setattr(Int8, "save", whole)
    with pytest.raises(RunFailed, match=r"keeps 13 of 14 weights in few bits that were to be; it is not left"):
        run(packing(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_graph_with_a_product_of_whole_weights_is_not_left(tmp_path: Path) -> None:
    def graph(path: Path, *kinds: int) -> Path:
        weights = [helper.make_tensor(f"w{n}", kind, [4, 4], [1] * 16) for n, kind in enumerate(kinds)]
        nodes = [helper.make_node("MatMul", ["x", each.name], [f"y{each.name}"]) for each in weights]
        path.parent.mkdir(exist_ok=True)
        onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], weights)), path)
        return path

    single, bits = TensorProto.FLOAT, TensorProto.INT8
    made: Any = Graph.__new__(Graph)
    made._products = whole_products(graph(tmp_path / "before" / "model.onnx", single, single))
    assert made._products == {"w0", "w1"}
    graph(tmp_path / "after" / "model.onnx", bits, bits)
    assert made.problem(tmp_path / "after") is None
    graph(tmp_path / "after" / "decoder.onnx", bits, single)
    assert made.problem(tmp_path / "after") == "has 1 of 2 products in 8 bits that were to be"
    made._products = set()
    assert made.problem(tmp_path / "after") == "has 0 of 0 products in 8 bits that were to be"
