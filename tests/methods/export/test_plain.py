"""`export --peft-plain`: plain PEFT, and `eval`, open what it writes to the adapter's own logits; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import read_json
from compresskit.errors import CompresskitError, InputError, RunFailed, UsageError
from compresskit.methods.export import plain
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.run import run
from compresskit.models.kinds import kind_of
from compresskit.models.registry import load, load_whole
from compresskit.models.source import Source
from tests import tiny
from tests.contract import makers
from tests.contract.test_mamba import answers, checkpoint, job

Made = Callable[[str], tuple[Path, Path]]


def export(adapter: Path, output: Path) -> Path:
    return run(Job("export", ExportOptions(str(adapter), output), ExportConfig(peft_plain=True)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A base of some sort of Mamba, and the adapter of the default targets on it."""
    root = tmp_path_factory.mktemp("plain")
    known: dict[str, tuple[Path, Path]] = {}

    def pair(kind: str) -> tuple[Path, Path]:
        if kind not in known:
            base = checkpoint(kind, root / kind)
            known[kind] = base, run(job("lora", root, base, f"{kind}-adapter", LoraConfig(rank=2)))
        return known[kind]

    return pair


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(len(tiny.TOKENS), (2, 16), generator=torch.Generator().manual_seed(1))
    found: torch.Tensor = model.eval()(input_ids=ids).logits
    return found


def facts(folder: Path) -> dict[str, str]:
    source = Source(str(folder), folder)
    return dict(kind_of(source).contents(source).facts)


@pytest.mark.parametrize("kind", ["mamba", "mamba2", "falcon"])
def test_plain_peft_opens_it_to_the_adapters_logits(kind: str, made: Made, tmp_path: Path) -> None:
    """By the base and the tokenizer that its own files name."""
    base, adapter = made(kind)
    out = export(adapter, tmp_path / "out")
    named = read_json(out / "adapter_config.json")["base_model_name_or_path"]
    assert Path(named).resolve() == base.resolve()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(named), out)
    own: Any = load(str(adapter), device="cpu").model
    torch.testing.assert_close(logits(theirs), logits(own), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(base)), logits(own), atol=1e-2)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == tiny.tokenizer().get_vocab()
    for one, two in zip(answers(out), answers(adapter), strict=True):
        assert (one.text, one.null_score) == (two.text, pytest.approx(two.null_score, abs=1e-4))


def test_manifest_and_contents_tell_who_opens_which(made: Made, tmp_path: Path) -> None:
    base, adapter = made("mamba")
    out = export(adapter, tmp_path / "out")
    before, manifest = read_manifest(adapter), read_manifest(out)
    assert before is not None
    assert manifest is not None
    assert (manifest.kind, manifest.method) == ("adapter", "export/peft-plain")
    assert manifest.steps[:-1] == before.steps
    assert [step.metrics["adapter"] for step in manifest.steps] == ["weights", "peft"]
    assert manifest.base is not None
    assert (out / manifest.base.ref).resolve() == base.resolve()
    assert facts(out)["opened by"] == "plain PEFT, and compresskit"
    assert facts(adapter)["opened by"].startswith("compresskit alone; export --peft-plain, or merge, makes")
    with pytest.raises(UsageError, match=r"--peft-plain has no effect: plain PEFT opens .*out as it is"):
        export(out, tmp_path / "again")


def test_on_packed_weights_it_is_for_those_that_they_were_packed_from(tmp_path: Path) -> None:
    """PEFT computes LoKr on whole weights alone."""
    base = checkpoint("mamba", tmp_path / "base")
    adapter = run_qlora(job("lora", tmp_path, base, "adapter", LoraConfig(rank=2)), 4)
    out = export(adapter, tmp_path / "out")
    named = read_json(out / "adapter_config.json")["base_model_name_or_path"]
    assert Path(named).resolve() == base.resolve()
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(named), out)
    whole = logits(load_whole(Source(str(adapter), adapter)).model)
    torch.testing.assert_close(logits(theirs), whole, rtol=1e-4, atol=1e-5)
    assert len(answers(out)) == 6


def test_other_logits_are_not_written(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapter = made("mamba")
    monkeypatch.setattr(plain, "difference", lambda *_: 2e-4)
    with pytest.raises(RunFailed, match=r"differ from those of .* by 0.0002; merge it instead"):
        export(adapter, tmp_path / "out")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("targets", "error", "told"),
    [
        (("in_z", "x_proj"), UsageError, "plain PEFT opens .* as it is"),
        (("in_proj", "dt_proj"), InputError, "dt_proj, which plain PEFT cannot compute with in a Mamba; merge it"),
    ],
)
def test_what_plain_peft_opens_as_it_is_or_never(
    targets: tuple[str, ...], error: type[CompresskitError], told: str, made: Made, tmp_path: Path
) -> None:
    base, _ = made("mamba")
    adapter = run(job("lora", tmp_path, base, "adapter", LoraConfig(rank=2, targets=targets)))
    with pytest.raises(error, match=told):
        export(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("family", "kind", "error", "told"),
    [
        ("encoder", "adapter", UsageError, "--peft-plain has no effect: plain PEFT opens .*source as it is"),
        ("seq2seq", "adapter", UsageError, "plain PEFT opens .*source as it is"),
        ("causal", "adapter", UsageError, "plain PEFT opens .*source as it is"),
        ("lstm", "adapter", InputError, "adapts weights that PEFT has no layers for; .*: compresskit merge .*source"),
        ("encoder", "full", InputError, "is of kind full, and --peft-plain takes an adapter"),
    ],
)
def test_other_families_and_kinds(
    family: str, kind: str, error: type[CompresskitError], told: str, tmp_path: Path
) -> None:
    makers.of_kind(kind, makers.made(family, tmp_path / "base"), tmp_path / "source")
    with pytest.raises(error, match=told):
        export(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_format_at_a_time() -> None:
    for chosen in (False, True):
        with pytest.raises(UsageError, match="give --onnx or --peft-plain"):
            ExportConfig(onnx=chosen, peft_plain=chosen)


def test_no_graph_of_a_model_that_goes_on_with_a_text(made: Made, tmp_path: Path) -> None:
    base, _ = made("mamba")
    with pytest.raises(UsageError, match=r"--onnx takes readers .*, and --peft-plain takes the adapter of a Mamba"):
        run(Job("export", ExportOptions(str(base), tmp_path / "out"), ExportConfig(onnx=True)))
