"""What is packed opens again, answers as it did, or is not left; what no backend packs so is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from compresskit.checkpoint.store import load_tensors, save_tensors
from compresskit.errors import RunFailed, UsageError
from compresskit.methods.job import Job
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
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
