"""LoRA against PEFT's own loading and merging, and by the formula where PEFT cannot reach."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig as PeftLora
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, MergeConfig, MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.lora.method import STEPS_TO_MOVE, LoraMethod, PeftAdapters
from compresskit.methods.lora.targets import adaptable, chosen, told
from compresskit.methods.run import run
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load, load_trainable
from compresskit.models.seq2seq import Seq2SeqFamily
from compresskit.models.source import Source, resolve
from compresskit.training.arguments import TrainingOptions
from tests.contract import makers
from tests.listing import unlisted
from tests.models import adapters

AUTO: dict[str, Any] = {"encoder": AutoModelForQuestionAnswering, "seq2seq": AutoModelForSeq2SeqLM}


def job(root: Path, family: str, config: LoraConfig, **options: Any) -> Job:
    base, data = root / "base", root / "data.json"
    if not base.exists():
        makers.made(family, base)
        makers.data(data)
    settings: dict[str, Any] = {"max_steps": 6, "batch_size": 4, "max_length": 48, "stride": 8, "seed": 1}
    settings |= {"device": "cpu"} | options
    return Job("lora", TrainingOptions(str(base), root / "out", train_data=str(data), **settings), config)


@torch.no_grad()
def logits(model: Any) -> list[Tensor]:
    ids = torch.arange(5, 25).reshape(2, 10)
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    out = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
    return [out.logits] if "logits" in out else [out.start_logits, out.end_logits]


def merged(root: Path, adapter: Path) -> Path:
    return run(Job("merge", MergeOptions(str(adapter), root / "merged"), MergeConfig()))


CONFIGS = {
    "default": LoraConfig(rank=2),
    "rslora, alpha": LoraConfig(rank=4, alpha=3.0, rslora=True, dropout=0.1),
    "dora": LoraConfig(rank=2, dora=True, targets=("linear",)),
    "gaussian": LoraConfig(rank=2, init="gaussian", targets=("attention",)),
    "pissa": LoraConfig(rank=2, init="pissa", targets=("linear",)),
    "pissa, rslora": LoraConfig(rank=3, alpha=2.0, init="pissa", rslora=True),
    "orthogonal": LoraConfig(rank=2, init="orthogonal", targets=("all-linear",)),
}


@pytest.mark.parametrize("family", AUTO)
@pytest.mark.parametrize("name", CONFIGS)
def test_plain_peft_opens_and_merges_it_to_the_same_logits(tmp_path: Path, family: str, name: str) -> None:
    out = run(job(tmp_path, family, CONFIGS[name], lr=0.05))
    plain = AUTO[family].from_pretrained(tmp_path / "base")
    before = logits(plain)
    theirs = logits(PeftModel.from_pretrained(plain, out))
    assert any(not torch.allclose(one, two, atol=1e-3) for one, two in zip(theirs, before, strict=True))
    for one, two in zip(logits(load(str(out), device="cpu").model), theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    opened = AUTO[family].from_pretrained(merged(tmp_path, out))
    for one, two in zip(logits(opened), theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert not list((tmp_path / "merged").glob("adapter*"))


@pytest.mark.parametrize("family", AUTO)
@pytest.mark.parametrize("rslora", [False, True])
def test_pissa_is_saved_on_the_whole_weights(tmp_path: Path, family: str, rslora: bool) -> None:
    """It starts as the model itself; the saved folder on the plain base computes what was trained in memory."""
    loaded = tiny(family, tmp_path)
    before = logits(loaded.model)
    config = LoraConfig(rank=2, alpha=3.0, init="pissa", rslora=rslora, targets=("linear",))
    attached = LoraMethod().attach(loaded, config, torch.float32)
    for one, two in zip(logits(loaded.model), before, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in attached.added():
            parameter.add_(0.1 * torch.randn_like(parameter))
    trained = logits(loaded.model)
    (tmp_path / "out").mkdir()
    attached.save(tmp_path / "out")
    opened = PeftModel.from_pretrained(AUTO[family].from_pretrained(tmp_path / family), tmp_path / "out")
    for one, two, old in zip(logits(opened), trained, before, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(two, old, atol=1e-3)


def test_what_pissa_cannot_be_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--init pissa and --dora exclude each other"):
        LoraConfig(init="pissa", dora=True)
    with pytest.raises(UsageError, match=r"--rank 17 is more than .* has with --init pissa"):
        run(job(tmp_path, "encoder", LoraConfig(rank=17, init="pissa")))
    makers.quantized(tmp_path / "base", tmp_path / "packed")
    loaded = load_trainable(resolve(str(tmp_path / "packed")))
    with pytest.raises(UsageError, match="--init pissa changes the weights below"):
        LoraMethod().examine(job(tmp_path, "encoder", LoraConfig(init="pissa")), loaded)


def test_a_reader_of_recurrences_computes_the_formula(tmp_path: Path) -> None:
    out = run(job(tmp_path, "lstm", LoraConfig(rank=3, alpha=2.0, rslora=True), lr=0.05))
    base, ours = load(str(tmp_path / "base"), device="cpu"), load(str(out), device="cpu")
    tensors = load_file(out / "adapter_model.safetensors")
    parameters: Any = ours.model
    changed = 0
    for name, weight in base.model.named_parameters():
        found = parameters.get_parameter(name)
        key = f"base_model.model.{name}"
        if f"{key}.lora_A.weight" in tensors:
            product = tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]
            torch.testing.assert_close(found, weight + 2.0 / math.sqrt(3) * product)
            changed += 1
        else:
            assert torch.equal(found, tensors.get(key, weight))
    assert changed == len(base.family.weights(parameters)) > 4
    for one, two in zip(logits(load(str(merged(tmp_path, out)), device="cpu").model), logits(ours.model), strict=True):
        assert torch.equal(one, two)


def spoil_rank(folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 5}))


def spoil_name(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {name.replace("lora_A", "lora_C"): tensor for name, tensor in load_file(path).items()}
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)


def spoil_number(folder: Path) -> None:
    """A whole adapter is not there any more."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    stem = next(name for name in tensors if "lora_A" in name).partition("lora_A")[0]
    save_file({name: tensor.clone() for name, tensor in tensors.items() if not name.startswith(stem)}, path)


@pytest.mark.parametrize("family", ["encoder", "lstm", "seq2seq"])
@pytest.mark.parametrize("spoil", [spoil_rank, spoil_name, spoil_number])
def test_what_does_not_fit_its_base(tmp_path: Path, family: str, spoil: Any) -> None:
    out = run(job(tmp_path, family, LoraConfig(rank=2)))
    spoil(unlisted(out))
    with pytest.raises(InputError, match="does not fit its base"):
        load(str(out), device="cpu")


# Targets


def tiny(family: str, folder: Path) -> TrainableModel:
    return load_trainable(Source("tiny", makers.made(family, folder / family)))


def test_presets(tmp_path: Path) -> None:
    loaded = tiny("seq2seq", tmp_path)
    attention = {"encoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.0.SelfAttention"}
    attention |= {"decoder.block.0.layer.1.EncDecAttention"}
    sides = ("encoder.block.0.layer.1", "decoder.block.0.layer.2")
    feed = {f"{side}.DenseReluDense.{name}" for side in sides for name in ("wi", "wo")}

    def named(*targets: str) -> set[str]:
        return set(chosen(loaded, targets))

    assert named("query-value") == {f"{layer}.{part}" for layer in attention for part in "qv"}
    assert named("attention") == {f"{layer}.{part}" for layer in attention for part in "qkvo"}
    assert named("linear") == named("all-linear") == named("attention") | feed
    assert named("q") == {f"{layer}.q" for layer in attention}
    assert named("decoder.*.wi", "k") == {"decoder.block.0.layer.2.DenseReluDense.wi"} | {f"{a}.k" for a in attention}
    assert told(adaptable(loaded), chosen(loaded, ["q", "wo"])) == "q 3 of 3, wo 2 of 2; none of k, v, o, wi"


@pytest.mark.parametrize("family", ["encoder", "lstm", "seq2seq"])
def test_a_target_that_matches_nothing(tmp_path: Path, family: str) -> None:
    with pytest.raises(UsageError, match=r"--targets q_prj matches nothing in .*; it has .*; take of these, or "):
        run(job(tmp_path, family, LoraConfig(targets=("all-linear", "q_prj"))))
    assert not (tmp_path / "out").exists()


def test_the_default_of_t5_base_is_about_800_thousand_parameters() -> None:
    shape: dict[str, Any] = {
        "d_model": 768,
        "d_kv": 64,
        "d_ff": 3072,
        "num_layers": 12,
        "num_heads": 12,
        "vocab_size": 32128,
    }
    with torch.device("meta"):
        model = T5ForConditionalGeneration(T5Config(**shape))
    loaded: Any = replace(_Stub, model=model, family=Seq2SeqFamily())
    modules: Any = chosen(loaded, LoraConfig().for_family("seq2seq").targets).values()
    count = sum(LoraConfig().rank * (module.in_features + module.out_features) for module in modules)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert count == 884_736
    assert 0.003 < count / total < 0.004


_Stub = TrainableModel(None, None, None, None, "t5-base", None, None)  # type: ignore[arg-type]


def test_options_that_recurrences_cannot_have(tmp_path: Path) -> None:
    for config in (LoraConfig(dora=True), LoraConfig(dropout=0.1), LoraConfig(init="gaussian")):
        with pytest.raises(UsageError, match="has no effect with"):
            run(job(tmp_path, "lstm", config))


def test_everything_that_is_said_to_be_adapted_is(tmp_path: Path) -> None:
    """A BiLSTM has linear layers too, which are no weights of its family: they are not among its targets."""
    loaded = tiny("lstm", tmp_path)
    assert set(chosen(loaded, ["all-linear"])) == set(loaded.family.weights(loaded.model))
    out = run(job(tmp_path, "lstm", LoraConfig(rank=2, targets=("all-linear",))))
    adapted = {name.partition(".lora_")[0] for name in load_file(out / "adapter_model.safetensors") if ".lora_" in name}
    assert adapted == {f"base_model.model.{name}" for name in loaded.family.weights(loaded.model)}
    with pytest.raises(UsageError, match="--targets gate matches nothing"):
        chosen(loaded, ["gate"])


def test_random_weights_are_refused_before_a_teacher_is_trained(tmp_path: Path) -> None:
    taught = Job("lora", TrainingOptions("demo/bert", tmp_path / "out"), LoraConfig(), Distillation(distill=True))
    with pytest.raises(UsageError, match="has random weights"):
        run(taught)
    assert not list(tmp_path.iterdir())


# Gradients


def test_adapters_that_get_no_gradient_end_the_run(tmp_path: Path) -> None:
    loaded = tiny("encoder", tmp_path)
    config = LoraConfig(rank=2)
    attached = PeftAdapters(loaded, config, chosen(loaded, ("query-value",)))
    lonely = next(name for name in attached.tensors() if "lora_A" in name)
    ids = torch.arange(5, 15).reshape(1, 10)
    optimizer = torch.optim.SGD(attached.tensors().values(), lr=0.1)
    loaded.model.get_parameter(lonely).requires_grad_(False)  # as if nothing read it
    for number in range(STEPS_TO_MOVE):
        attached.step(number / 10)
        output: Any = loaded.model(input_ids=ids)
        (output.start_logits.pow(2).sum() + output.end_logits.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with pytest.raises(RunFailed, match=r"1 of 8 adapter tensors have had no gradient .* as .*lora_A"):
        attached.step(1.0)


def test_it_is_not_merged_into_packed_weights(tmp_path: Path) -> None:
    makers.made("encoder", tmp_path / "base")
    makers.quantized(tmp_path / "base", tmp_path / "packed")
    config = PeftLora(r=2, target_modules=["query"], task_type="QUESTION_ANS")
    adapter = adapters.make(tmp_path / "packed", tmp_path / "adapter", config)
    with pytest.raises(InputError, match="packed does not tell what it was packed from"):
        merged(tmp_path, adapter)
    assert resolve(str(adapter))
    assert not (tmp_path / "merged").exists()
