"""Mambas on a GPU: on mamba-ssm's kernels where they are installed, and on our scan, against the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model
from torch import Tensor

from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.merge import fold
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.answering import AnswerOptions
from compresskit.models.causal import CausalFamily
from compresskit.models.kinds.full import FullKind
from compresskit.models.loaded import TrainableModel
from compresskit.models.mamba import kernels, mixer
from compresskit.models.mamba.adapters import adapter_tensors, put_adapters
from compresskit.models.mamba.mixer import use_own_mixers
from compresskit.models.mamba.scan import selective_scan
from compresskit.models.registry import load
from compresskit.models.tasks import steps
from compresskit.models.tasks.causal_memory import read, remembered
from compresskit.training.computing import checkpoint_activations
from tests import tiny
from tests.contract.test_mamba import checkpoint, job
from tests.models.mamba.small import ids, small
from tests.models.mamba.test_kernels import passes
from tests.models.mamba.test_scan import inputs

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

FAMILIES = ("mamba", "falcon_mamba", "mamba2")
ALL = ("in_proj", "x_proj", "out_proj", "dt_proj")


@pytest.fixture(params=["kernels", "own scan"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On which a Mamba computes; without the packages, on our scan alone."""
    name: str = request.param
    if name == "own scan":
        monkeypatch.setattr(mixer, "kernels_for", lambda _: None)
    elif kernels.kernels_for(torch.zeros(1, device="cuda")) is None:
        pytest.skip("needs mamba-ssm and causal-conv1d")
    return name


def model_of(family: str) -> Any:
    more = {"num_heads": 8, "state_size": 16} if family == "mamba2" else {}  # its kernels multiply tiles of 16
    model = small(family, hidden_size=64, **more)
    use_own_mixers(model)
    return model


@pytest.mark.parametrize("length", [1, 2, 40, 300])
@pytest.mark.parametrize("known", [True, False])
def test_the_kernels_scan_is_the_float64_one(length: int, known: bool) -> None:
    found = kernels.kernels_for(torch.zeros(1, device="cuda"))
    if found is None:
        pytest.skip("needs mamba-ssm and causal-conv1d")
    given = {name: tensor.detach() for name, tensor in inputs(2, 64, length, 16).items()}
    if not known:
        given["state"] = None
    wanted = selective_scan(**given | {"dt": torch.nn.functional.softplus(given["dt"])})
    there: dict[str, Any] = {name: None if each is None else each.float().cuda() for name, each in given.items()}
    for one, two in zip(kernels.scan(found, **there), wanted, strict=True):
        torch.testing.assert_close(one.double().cpu(), two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_cpu(family: str, path: str) -> None:
    """In training and evaluation, and in parts that follow each other: the state is not lost."""
    model, tokens = model_of(family), ids(2, 21)
    wanted = passes(model, tokens)
    bound = 5e-3 if family == "mamba2" else 1e-3  # whose kernels multiply in fewer bits
    for one, two in zip(passes(model.cuda(), tokens.cuda()), wanted, strict=True):
        torch.testing.assert_close(one.cpu(), two, rtol=bound, atol=bound)


@pytest.mark.parametrize("family", FAMILIES)
def test_right_padding_changes_nothing(family: str, path: str) -> None:
    model, tokens = model_of(family).cuda(), ids(1, 11).cuda()
    padded = torch.nn.functional.pad(tokens, (0, 5))
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (0, 5))
    for training in (True, False):
        model.train(training)
        found = model(padded, attention_mask=mask, use_cache=False).logits[:, :11]
        torch.testing.assert_close(found, model(tokens, use_cache=False).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_adapter_has_the_cpus_gradient(family: str, checkpointing: bool, autocast: bool, path: str) -> None:
    """Effective weights of all layers at once, and in checkpointed blocks one by one."""
    model, tokens = model_of(family), ids(4, 32)
    if checkpointing:
        checkpoint_activations(model)
    targets = ("in_proj", "out_proj") if family == "mamba2" else ALL
    lora = put_adapters(model, rank=4, alpha=8.0, targets=targets)
    learned = adapter_tensors(lora)
    with torch.no_grad():
        for parameter in learned.values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    wanted = gradients(model, tokens, learned)
    model.cuda()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        found = gradients(model, tokens.cuda(), learned)
    for name, grad in found.items():
        assert bool(grad.any()), name
        alike = torch.cosine_similarity(grad.flatten(), wanted[name].flatten(), dim=0)
        assert float(alike) > (0.98 if autocast else 0.9999), name


def gradients(model: Any, tokens: Tensor, learned: dict[str, Any]) -> dict[str, Tensor]:
    for parameter in learned.values():
        parameter.grad = None
    model.train()(tokens, labels=tokens).loss.backward()
    return {name: parameter.grad.cpu().clone() for name, parameter in learned.items()}


def test_merged_and_in_evaluation_it_computes_the_same(path: str) -> None:
    model, tokens = model_of("mamba").cuda(), ids(2, 16).cuda()
    lora = put_adapters(model, rank=4, alpha=8.0, targets=(*ALL, "embeddings"))
    with torch.no_grad():
        for parameter in adapter_tensors(lora).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        training = model.train()(tokens).logits
        evaluated = model.eval()(tokens).logits
        fold(TrainableModel(model.cpu(), None, CausalFamily(), FullKind(), "", None, None))  # type: ignore[arg-type]
        merged = model.cuda()(tokens).logits
    torch.testing.assert_close(training, evaluated, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(merged, evaluated, rtol=1e-4, atol=1e-4)


def test_peft_as_shipped_does_not_train_x_proj_on_the_kernels() -> None:
    """What our layers are for; where this fails, they may no longer be needed."""
    if kernels.kernels_for(torch.zeros(1, device="cuda")) is None:
        pytest.skip("needs mamba-ssm and causal-conv1d")
    adapted: Any = get_peft_model(small("mamba", hidden_size=64), PeftLora(target_modules=["in_proj", "x_proj"]))
    adapted.cuda().train()(tokens := ids(2, 16).cuda(), labels=tokens).loss.backward()
    got = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert any("in_proj" in name for name in got)
    assert not any("x_proj" in name for name in got)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_on_the_cpu_reaches_no_kernel(family: str) -> None:
    """Though transformers has bound them when it was imported."""
    model, tokens = model_of(family), ids(2, 21)
    with mock.patch.object(kernels, "_kernels", side_effect=AssertionError("a kernel was looked for")):
        passes(model, tokens)
        model.train()(tokens, labels=tokens).loss.backward()
    assert all(parameter.grad.device.type == "cpu" for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_as_graphs_are_the_steps(family: str, path: str) -> None:
    """Also when rows end, and when another batch with other states comes."""
    model = model_of(family).cuda()
    made = mock.Mock(wraps=steps._Graph)

    def alike(memory: Any, other: Any) -> None:
        tokens = ids(memory.rows, 1).flatten().cuda()
        wanted = read(model, other.cache, tokens[:, None])
        torch.testing.assert_close(memory.read(tokens), wanted, rtol=1e-4, atol=1e-4)

    with torch.no_grad(), mock.patch.object(steps, "_Graph", made):
        for rows in (7, 3):
            prompts = ids(rows, 9).tolist()
            pair: list[Any] = [remembered(model, prompts) for _ in range(2)]
            for memory in pair:
                memory._read_prompts()
            for _ in range(2 * steps.WORTH):
                alike(*pair)
            for memory in pair:
                memory.select(torch.arange(rows - 2, device="cuda"))
            alike(*pair)
    assert made.call_count == 2


@pytest.mark.parametrize("kind", ["mamba", "falcon", "mamba2"])
def test_every_verb_on_cuda(kind: str, tmp_path: Path, path: str) -> None:
    """And what they leave answers on both devices alike."""
    base = checkpoint(kind, tmp_path / "base")

    def made(method: str, out: str, config: Any) -> Path:
        more = {"lr": None} if method == "prune" else {}
        return run(job(method, tmp_path, trained if out != "trained" else base, out, config, device="cuda", **more))

    trained = made("train", "trained", TrainConfig())
    folders = [trained, made("prune", "mask", PruneConfig(sparsity=0.5)), made("lora", "adapter", LoraConfig(rank=2))]
    if kind != "mamba2":
        for bits in (4, 8):
            asked = job("lora", tmp_path, trained, f"packed-{bits}", LoraConfig(rank=2), device="cuda")
            folders.append(run_qlora(asked, bits))
        whole = QuantizeOptions(model=str(trained), output=tmp_path / "int8")
        folders.append(run(Job("quantize", whole, QuantizeConfig())))
    for folder in folders:
        found = []
        for device in ("cuda", "cpu"):
            loaded = load(str(folder), device=device)
            found.append(list(loaded.task.answer(loaded, tiny.examples(16), AnswerOptions(48, 8))))
        loose = 0.5 if "8" in folder.name else 2e-2
        for one, two in zip(*found, strict=True):
            assert one.null_score == pytest.approx(two.null_score, abs=loose), folder.name
