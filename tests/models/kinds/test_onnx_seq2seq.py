"""The three graphs of a T5 answer as its torch model, however it is searched, or tell why they cannot."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from compresskit.cli.app import main
from compresskit.data.load import load as load_data
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions
from compresskit.models.kinds import checkpoint_files
from compresskit.models.kinds.onnx import SEQ2SEQ
from compresskit.models.kinds.onnx_seq2seq import cache_names, cache_of, cache_tensors
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load
from compresskit.models.source import resolve
from tests import tiny
from tests.contract import makers
from tests.listing import unlisted
from tests.models.seq2seq_graphs import ExportedT5

ENCODER, DECODER, WITH_PAST = SEQ2SEQ


@pytest.fixture(scope="module")
def pair(exported_t5: ExportedT5) -> tuple[LoadedModel, LoadedModel]:
    return load(str(exported_t5.graphs), device="cpu"), load(str(exported_t5.base), device="cpu")


@pytest.fixture
def folder(exported_t5: ExportedT5, tmp_path: Path) -> Path:
    return unlisted(Path(shutil.copytree(exported_t5.graphs, tmp_path / "graphs")))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_it_answers_as_torch(beams: int, batch_size: int, pair: tuple[LoadedModel, LoadedModel]) -> None:
    """Long contexts in several windows, short ones in batches with them, and rows that go on together."""
    options = AnswerOptions(40, 8, null_threshold=1e9, beams=beams, batch_size=batch_size, n_best=beams)
    found, expected = (list(each.task.answer(each, tiny.examples(14), options)) for each in pair)
    assert any(each.text for each in found)
    for one, two in zip(found, expected, strict=True):
        assert (one.id, one.text, one.span_text) == (two.id, two.text, two.span_text)
        assert [each.text for each in one.n_best] == [each.text for each in two.n_best]
        assert one.score == pytest.approx(two.score, abs=1e-3)
        assert one.null_score == pytest.approx(two.null_score, abs=1e-3)


def test_its_perplexity_is_torchs(pair: tuple[LoadedModel, LoadedModel], tmp_path: Path) -> None:
    examples = load_data(str(makers.data(tmp_path / "data.json")), "eval")
    found, expected = (each.task.perplexity(each, examples, AnswerOptions(48, 8)) for each in pair)
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_is_known_of_it(pair: tuple[LoadedModel, LoadedModel], exported_t5: ExportedT5) -> None:
    loaded, reference = pair
    assert (loaded.method, loaded.family.name, loaded.device) == ("export/onnx", "seq2seq", torch.device("cpu"))
    assert exported_t5.graphs / "model.onnx_data" in checkpoint_files(resolve(str(exported_t5.graphs)))
    stored, counted = loaded.kind.stored(loaded), reference.kind.stored(reference)
    assert (stored.total, stored.nonzero, stored.trainable) == (counted.total, counted.nonzero, 0)


def test_inspect_names_the_graphs(exported_t5: ExportedT5, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(exported_t5.graphs)]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^graph +(\S+) \(onnx\)", told, re.MULTILINE) == list(SEQ2SEQ)


def test_the_cpu_is_told_once(
    exported_t5: ExportedT5, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert load(str(exported_t5.graphs), device="auto").device == torch.device("cpu")
    assert capsys.readouterr().err.count("graphs run on the CPU") == 1


def test_a_cache_and_its_tensors_are_the_same() -> None:
    tensors = [torch.full((2, 1, 3, 4), float(n)) for n in range(8)]
    names = cache_names("present", 2, encoder=True)
    assert names[:5] == [
        *(f"present.0.{each}" for each in ("decoder.key", "decoder.value", "encoder.key", "encoder.value")),
        "present.1.decoder.key",
    ]
    for one, two in zip(cache_tensors(cache_of(tensors), encoder=True), tensors, strict=True):
        assert torch.equal(one, two)
    own = [name.split(".", 1)[1] for name in cache_names("present", 2, encoder=False)]
    assert own == ["0.decoder.key", "0.decoder.value", "1.decoder.key", "1.decoder.value"]


# What does not open.


def cut(folder: Path) -> None:
    path = folder / DECODER
    path.write_bytes(path.read_bytes()[:-99])


def without_head(folder: Path) -> None:
    """A decoder that gives its states in the place of logits, as that of a bare T5Model."""
    model = onnx.load(folder / DECODER, load_external_data=False)
    for node in model.graph.node:
        node.output[:] = ["last_hidden_state" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "last_hidden_state"
    onnx.save(model, folder / DECODER)


def for_one_batch(folder: Path) -> None:
    model = onnx.load(folder / WITH_PAST, load_external_data=False)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, folder / WITH_PAST)


def another_input(folder: Path) -> None:
    model = onnx.load(folder / DECODER, load_external_data=False)
    model.graph.input.append(onnx.helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1]))
    onnx.save(model, folder / DECODER)


def a_single_graph(folder: Path) -> None:
    (folder / ENCODER).rename(folder / "model.onnx")
    for name in SEQ2SEQ[1:]:
        (folder / name).unlink()


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no encoder": (lambda f: (f / ENCODER).unlink(), r"lacks encoder_model\.onnx; copy or export it again"),
    "no past": (lambda f: (f / WITH_PAST).unlink(), r"lacks decoder_with_past_model\.onnx; copy or export it again"),
    "no weights": (
        lambda f: (f / "model.onnx_data").unlink(),
        r"does not open in onnxruntime .* lacks its \.onnx_data",
    ),
    "cut weights": (lambda f: (f / "model.onnx_data").write_bytes(b"1"), r"does not open in onnxruntime \("),
    "a cut graph": (cut, r"decoder_model\.onnx does not open in onnxruntime \("),
    "no head": (without_head, r"decoder_model\.onnx gives last_hidden_state, .*, and not logits; export it as a model"),
    "one batch": (
        for_one_batch,
        r"decoder_with_past_model\.onnx takes inputs of shape \[4, .*; export it with dynamic",
    ),
    "a merged decoder": (another_input, "wants the input use_cache_branch, which is not known here"),
    "one graph": (a_single_graph, r"is a t5 model, of which it lacks encoder_model\.onnx and .*; export it again"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_folder_is_bad_input(name: str, folder: Path) -> None:
    damage, message = DAMAGED[name]
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
