"""`export --onnx` against torch: any batch and length, overlays folded in, and what is refused."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import nn

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import InputError, MissingError, RunFailed, UsageError
from compresskit.methods.export import graph
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.registry import load
from tests import tiny
from tests.contract import makers
from tests.models import tiny as readers


def export(base: Path, output: Path) -> Path:
    return run(Job("export", ExportOptions(str(base), output), ExportConfig(onnx=True)))


def answers(folder: Path, count: int = 12) -> list[Any]:
    loaded = load(str(folder), device="cpu")
    return list(loaded.task.answer(loaded, tiny.examples(count), AnswerOptions(48, 8)))


@dataclass(frozen=True)
class Exported:
    """A plain checkpoint, the folder `out` of its export, and what was `traced`."""

    base: Path
    out: Path
    traced: onnx_ir.Model

    def again(self, *_: Any, **__: Any) -> onnx_ir.Model:
        """What was traced, to be changed."""
        return self.traced.clone()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The export of a family; made when it is asked for, since that takes seconds."""
    root = tmp_path_factory.mktemp("exported")
    known: dict[str, Exported] = {}
    trace = graph.traced

    def of(family: str) -> Exported:
        if family in known:
            return known[family]
        base = root / family
        # 64 wide, because onnx_ir leaves small weights in the graph's own file.
        if family == "encoder":
            tiny.checkpoint(base, hidden=64)
        else:
            makers.made(family, base)

        def kept(*arguments: Any, **more: Any) -> onnx_ir.Model:
            known[family] = Exported(base, root / f"{family}-out", trace(*arguments, **more))
            return known[family].again()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(graph, "traced", kept)
            export(base, root / f"{family}-out")
        return known[family]

    return of


@pytest.mark.parametrize("kind", ["mask", "adapter"])
@pytest.mark.parametrize("family", ["encoder", pytest.param("lstm", marks=pytest.mark.slow)])
def test_the_graph_answers_as_the_checkpoint(family: str, kind: str, tmp_path: Path) -> None:
    makers.of_kind(kind, makers.made(family, tmp_path / "base"), tmp_path / "source")
    out = export(tmp_path / "source", tmp_path / "out")
    for one, two in zip(answers(out), answers(tmp_path / "source"), strict=True):
        assert (one.id, one.text) == (two.id, two.text)
        assert one.null_score == pytest.approx(two.null_score, abs=1e-4)
    manifest = read_manifest(out)
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("onnx", "export/onnx")
    assert {path.name for path in out.iterdir()} >= {"model.onnx", "config.json", "tokenizer_config.json"}
    onnx.checker.check_model(out / "model.onnx")


@pytest.mark.parametrize(
    "kind", ["roberta", "distilbert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "electra"))]
)
def test_readers_of_several_architectures(kind: readers.Kind, tmp_path: Path) -> None:
    """Some take token types, some do not."""
    readers.save(kind, tmp_path / "base")
    assert [each.text for each in answers(export(tmp_path / "base", tmp_path / "out"))] == [
        each.text for each in answers(tmp_path / "base")
    ]


@pytest.mark.parametrize("family", ["encoder", "lstm"])
def test_any_batch_and_length(family: str, exported: Callable[[str], Exported]) -> None:
    """Among them those that no probe had; parts of unlike length in one batch."""
    base, out = exported(family).base, exported(family).out
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    model: Any = load(str(base), device="cpu").model
    for batch, length in ((1, 7), (7, 12), (3, 61)):
        ids = torch.randint(5, 20, (batch, length))
        ends = torch.randint(6, length + 1, (batch, 1))
        mask = (torch.arange(length) < ends).long()
        types = ((torch.arange(length) >= 3).long() * mask).long()
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        found = session.run(None, {entry.name: inputs[entry.name].numpy() for entry in session.get_inputs()})
        with torch.no_grad():
            expected = model(**inputs)
        for one, two in zip(found, (expected.start_logits, expected.end_logits), strict=True):
            real = np.where(mask.numpy() > 0, one, 0)
            np.testing.assert_allclose(real, torch.where(mask > 0, two, 0.0).numpy(), atol=1e-5)


def test_a_bilstm_is_a_node_not_a_loop(exported: Callable[[str], Exported]) -> None:
    """Unrolled over the time of an example, a graph would be of that length alone."""
    base, out = exported("lstm").base, exported("lstm").out
    kinds = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    layers = sum(isinstance(module, nn.LSTM) for module in load(str(base), device="cpu").model.modules())
    # The encoder reads twice, context and question.
    assert kinds.count("LSTM") == layers + 1
    assert len(kinds) < 400


def test_a_graph_that_answers_otherwise_is_not_written(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = exported("encoder")
    monkeypatch.setattr(graph, "traced", encoder.again)
    monkeypatch.setattr(graph, "difference", lambda *_: 2e-4)
    with pytest.raises(RunFailed, match=r"differs from the model by 0.0002; it is not written"):
        export(encoder.base, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_what_one_file_holds_are_beside_it(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = exported("encoder")
    monkeypatch.setattr(graph, "traced", encoder.again)
    monkeypatch.setattr(graph, "ONE_FILE", 1000)
    out = export(encoder.base, tmp_path / "out")
    whole = sum(parameter.numel() for parameter in load(str(encoder.base), device="cpu").model.parameters())
    assert (out / "model.onnx_data").stat().st_size > 4 * 0.8 * whole
    assert [each.text for each in answers(out)] == [each.text for each in answers(encoder.base)]


def test_what_is_refused(exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="give --onnx"):
        ExportConfig()
    base = tiny.checkpoint(tmp_path / "base")
    headless = makers.without_head(tiny.checkpoint(tmp_path / "headless"))
    with pytest.raises(InputError, match="no trained question-answering head"):
        export(headless, tmp_path / "out")
    with pytest.raises(InputError, match="is of kind onnx, and export takes adapter or full or mask"):
        export(exported("encoder").out, tmp_path / "out")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(MissingError, match=r"--onnx needs onnxscript, .*'compresskit\[onnx\]'"):
        export(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()
