"""`export --onnx` of encoder-decoders: Optimum's layout, any batch and length, each weight once, what is refused."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForSeq2SeqLM

from compresskit.checkpoint.manifest import read_manifest
from compresskit.errors import RunFailed
from compresskit.methods.export import seq2seq
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.kinds.onnx import SEQ2SEQ
from compresskit.models.registry import load
from tests import tiny
from tests.contract.test_seq2seq_models import bart
from tests.models import adapters
from tests.models.seq2seq_graphs import ExportedT5

ENCODER, DECODER, WITH_PAST = SEQ2SEQ


def export(base: Path, output: Path) -> Path:
    return run(Job("export", ExportOptions(str(base), output), ExportConfig(onnx=True)))


def session(folder: Path, name: str) -> Any:
    return onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])


def names(entries: Any) -> list[str]:
    return [entry.name for entry in entries]


def test_the_layout_is_optimums(exported_t5: ExportedT5) -> None:
    folder = exported_t5.graphs
    files = {path.name for path in folder.iterdir()}
    assert files >= {*SEQ2SEQ, "model.onnx_data", "config.json", "generation_config.json", "tokenizer.json"}
    assert len([name for name in files if "onnx" in name]) == 4
    known = [f"{n}.{part}.{each}" for n in (0, 1) for part in ("decoder", "encoder") for each in ("key", "value")]
    wanted = {
        ENCODER: (["input_ids", "attention_mask"], ["last_hidden_state"]),
        DECODER: (
            ["encoder_attention_mask", "input_ids", "encoder_hidden_states"],
            ["logits", *(f"present.{each}" for each in known)],
        ),
        WITH_PAST: (
            ["encoder_attention_mask", "input_ids", *(f"past_key_values.{each}" for each in known)],
            ["logits", *(f"present.{each}" for each in known if "decoder" in each)],
        ),
    }
    for name, (inputs, outputs) in wanted.items():
        onnx.checker.check_model(folder / name)
        found = session(folder, name)
        assert (names(found.get_inputs()), names(found.get_outputs())) == (inputs, outputs)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert (manifest.family, manifest.kind, manifest.method) == ("seq2seq", "onnx", "export/onnx")


@pytest.mark.parametrize(("batch", "length", "tokens"), [(1, 1, 1), (3, 17, 4), (6, 70, 2)])
@torch.no_grad()
def test_any_batch_length_and_past(batch: int, length: int, tokens: int, exported_t5: ExportedT5) -> None:
    """A whole decoding by plain onnxruntime, as Optimum does it, against one pass of torch."""
    encoder, decoder, with_past = (session(exported_t5.graphs, name) for name in SEQ2SEQ)
    ids, written = torch.randint(5, 40, (batch, length)), torch.randint(5, 40, (batch, tokens + 3))
    mask = (torch.arange(length) < torch.randint(1, length + 1, (batch, 1))).long()
    (hidden,) = encoder.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
    fed = {"encoder_attention_mask": mask.numpy(), "input_ids": written[:, :tokens].numpy()}
    first = decoder.run(None, {**fed, "encoder_hidden_states": hidden})
    told = [torch.from_numpy(first[0])]
    past = dict(zip(names(decoder.get_outputs())[1:], first[1:], strict=True))
    for step in range(tokens, tokens + 3):
        fed["input_ids"] = written[:, step : step + 1].numpy()
        read = {name.replace("present", "past_key_values"): array for name, array in past.items()}
        found = dict(zip(names(with_past.get_outputs()), with_past.run(None, {**fed, **read}), strict=True))
        told.append(torch.from_numpy(found.pop("logits")))
        past |= found
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(exported_t5.base).eval()
    expected = model(input_ids=ids, attention_mask=mask, decoder_input_ids=written).logits
    assert torch.allclose(torch.cat(told, dim=1), expected, atol=1e-4)


def test_each_weight_is_written_once(exported_t5: ExportedT5) -> None:
    """The embeddings of either side, and the output over the vocabulary, are one tensor in torch too."""
    model = load(str(exported_t5.base), device="cpu").model
    whole = sum(parameter.nbytes for parameter in model.parameters())
    places = {
        (entry["offset"], entry["length"])
        for name in SEQ2SEQ
        for tensor in onnx.load(exported_t5.graphs / name, load_external_data=False).graph.initializer
        if (entry := {each.key: int(each.value) for each in tensor.external_data if each.key != "location"})
    }
    small = sum(parameter.nbytes for parameter in model.parameters() if parameter.nbytes < 1024)
    assert sum(length for _, length in places) == whole - small
    size = (exported_t5.graphs / "model.onnx_data").stat().st_size
    assert size < whole + 4096 * len(places)


@pytest.mark.slow
def test_bart_with_an_adapter_folded_in(tmp_path: Path) -> None:
    """Learned positions, biases, and tied embeddings of another model."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token, tokenizer.bos_token = tokenizer.sep_token, tokenizer.cls_token
    torch.manual_seed(0)
    bart(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=2, target_modules=["q_proj", "fc1"], task_type="SEQ_2_SEQ_LM")
    adapters.make(tmp_path / "base", tmp_path / "adapter", config, auto=AutoModelForSeq2SeqLM)
    out = export(tmp_path / "adapter", tmp_path / "out")
    options = AnswerOptions(48, 8, null_threshold=1e9, beams=2)
    one, two = (
        list(loaded.task.answer(loaded, tiny.examples(6), options))
        for loaded in (load(str(folder), device="cpu") for folder in (out, tmp_path / "adapter"))
    )
    assert [each.span_text for each in one] == [each.span_text for each in two]
    assert any(each.span_text for each in one)


def test_graphs_that_answer_otherwise_are_not_written(
    exported_t5: ExportedT5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seq2seq, "graphs", exported_t5.again)
    monkeypatch.setattr(seq2seq, "difference", lambda *_: 2e-4)
    with pytest.raises(RunFailed, match=r"differs from the model by 0.0002; it is not written"):
        export(exported_t5.base, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_has_no_graph_is_told(exported_t5: ExportedT5, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise torch.onnx.errors.OnnxExporterError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(RunFailed, match=r"base cannot be exported to ONNX \(.*no such operator\)"):
        export(exported_t5.base, tmp_path / "out")
    assert not list(tmp_path.iterdir())
