"""PEFT adapters of any kind open as PEFT opens them, or tell why not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    PeftModelForQuestionAnswering,
    TrainableTokensConfig,
    VBLoRAConfig,
    VeraConfig,
)
from safetensors.torch import load_file, save_file
from transformers import BertForQuestionAnswering

from compresskit.checkpoint.manifest import Manifest, Step
from compresskit.errors import InputError
from compresskit.models.registry import load, load_trainable, require_head
from compresskit.models.source import base_of, resolve
from tests.models import adapters, overlays, tiny
from tests.models.adapters import logits, theirs

SOME: dict[str, Any] = {"target_modules": ["query", "value"]}
QA: dict[str, Any] = {"task_type": "QUESTION_ANS"}
CONFIGS: dict[str, Callable[[], PeftConfig]] = {
    "lora": lambda: LoraConfig(r=2, **SOME, **QA),
    "dora": lambda: LoraConfig(r=2, use_dora=True, **SOME, **QA),
    "lora of biases": lambda: LoraConfig(r=2, bias="all", **SOME, **QA),
    "lora of embeddings": lambda: LoraConfig(r=2, target_modules=["word_embeddings", "query"], **QA),
    "lora with tokens": lambda: LoraConfig(r=2, trainable_token_indices=[5, 7], **SOME, **QA),
    "lora of all layers, head too": lambda: LoraConfig(r=2, target_modules="all-linear"),
    "lora and norms whole": lambda: LoraConfig(r=2, modules_to_save=["LayerNorm"], **SOME, **QA),
    "ia3": lambda: IA3Config(target_modules=["query", "dense"], feedforward_modules=["dense"], **QA),
    "adalora": lambda: AdaLoraConfig(total_step=10, init_r=3, target_r=2, **SOME, **QA),
    "vera": lambda: VeraConfig(r=2, **SOME, **QA),
    "oft": lambda: OFTConfig(oft_block_size=4, **SOME, **QA),
    "vblora": lambda: VBLoRAConfig(r=2, num_vectors=4, vector_length=4, topk=2, **SOME, **QA),
    "trainable_tokens": lambda: TrainableTokensConfig(token_indices=[5, 6, 9], target_modules=["word_embeddings"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("bert", tmp_path_factory.mktemp("adapters") / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return adapters.make(base, tmp_path / "adapter", CONFIGS["lora"]())


@pytest.mark.parametrize("name", CONFIGS)
def test_it_opens_as_peft_opens_it(name: str, base: Path, tmp_path: Path) -> None:
    folder = adapters.make(base, tmp_path / "adapter", CONFIGS[name]())
    loaded = require_head(load(str(folder), device="cpu"))
    assert torch.equal(logits(loaded.model), logits(theirs(base, folder)))
    plain = logits(load(str(base), device="cpu").model)
    assert not torch.allclose(logits(loaded.model), plain, atol=1e-3), "the adapter does something"
    assert loaded.method == name.split(" ")[0]
    assert (loaded.path, loaded.base, loaded.manifest, loaded.ref) == (folder, base, None, str(folder))
    assert isinstance(loaded.model, BertForQuestionAnswering)
    assert not loaded.model.training
    needed = {path.resolve() for path in loaded.files}
    assert needed == {path.resolve() for where in (folder, base) for path in where.iterdir()}


@pytest.mark.parametrize(("kind", "module"), [("roberta", "query"), ("distilbert", "q_lin"), ("electra", "query")])
def test_other_encoders(kind: tiny.Kind, module: str, tmp_path: Path) -> None:
    base = tiny.save(kind, tmp_path / "base", head="mlm")
    folder = adapters.make(base, tmp_path / "adapter", LoraConfig(r=2, target_modules=[module], **QA))
    assert torch.equal(logits(require_head(load(str(folder), device="cpu")).model), logits(theirs(base, folder)))


@pytest.mark.parametrize("task", ["QUESTION_ANS", None])
def test_a_base_without_head_needs_an_adapter_with_one(task: str | None, tmp_path: Path) -> None:
    base = tiny.save("bert", tmp_path / "base", head="none")
    folder = adapters.make(base, tmp_path / "adapter", LoraConfig(r=2, task_type=task, **SOME))
    loaded = load(str(folder), device="cpu")
    assert loaded.missing_head == (task is None)
    if task is None:
        with pytest.raises(InputError, match="no trained question-answering head"):
            require_head(loaded)
    else:
        assert torch.equal(logits(loaded.model), logits(theirs(base, folder)))


def test_the_format_of_the_numbers(adapter: Path, base: Path) -> None:
    loaded = load(str(adapter), device="cpu", dtype="bfloat16")
    assert torch.equal(logits(loaded.model), logits(theirs(base, adapter, dtype=torch.bfloat16)))


def test_replaced_modules_leave_nothing_behind(base: Path, adapter: Path) -> None:
    names = {name for name, _ in load(str(adapter), device="cpu").model.named_parameters()}
    assert {"qa_outputs.weight", "qa_outputs.bias"} <= names
    assert not any("original_module" in name for name in names)


def test_its_own_tokenizer_comes_first(adapter: Path) -> None:
    before = load(str(adapter), device="cpu").tokenizer
    assert (before.bos_token, before.model_max_length) == (None, tiny.POSITIONS)
    own = tiny.wordpiece()
    own.bos_token = own.cls_token
    own.save_pretrained(adapter)
    loaded = load(str(adapter), device="cpu")
    assert loaded.tokenizer.bos_token == own.cls_token
    assert loaded.tokenizer.model_max_length == tiny.POSITIONS


def test_our_manifest_names_base_and_method(adapter: Path, base: Path, tmp_path: Path) -> None:
    step = Step("lora", {}, 0, None, 1.0, {})
    change_config(base_model_name_or_path="/no/where")(adapter)
    Manifest("encoder", "adapter", base_of(resolve(str(base)), adapter), [step]).write(adapter)
    loaded = load(str(adapter), device="cpu")
    assert loaded.method == "lora"
    assert torch.equal(logits(loaded.model), logits(theirs(base, adapter)))
    other = tiny.save("bert", tmp_path / "other", seed=5)
    Manifest("encoder", "adapter", base_of(resolve(str(other)), adapter), [step]).write(adapter)
    shutil.copy(base / "model.safetensors", other)
    with pytest.raises(InputError, match="was made on a base with weights sha256"):
        load(str(adapter), device="cpu")


def test_on_masks(base: Path, tmp_path: Path) -> None:
    """An adapter that was trained on pruned weights."""
    state = overlays.make(base, tmp_path / "mask", learns=True)
    folder = adapters.make(base, tmp_path / "adapter", CONFIGS["lora"]())
    change_config(base_model_name_or_path="../mask")(folder)
    pruned = BertForQuestionAnswering.from_pretrained(base)
    pruned.load_state_dict(state)
    expected = logits(PeftModelForQuestionAnswering.from_pretrained(pruned, folder).eval())
    assert torch.equal(logits(load(str(folder), device="cpu").model), expected)


def test_it_is_not_trained(adapter: Path) -> None:
    with pytest.raises(InputError, match=r"is of kind adapter: merge it into its base first: compresskit merge"):
        load_trainable(resolve(str(adapter)))


# What does not open.


def change_config(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return damage


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def of_the_bare_model(folder: Path) -> None:
    """As PEFT saves an adapter of `AutoModel`, which has no head, by the names of its tensors too."""
    change_config(task_type=None, modules_to_save=None)(folder)
    path = folder / "adapter_model.safetensors"
    tensors = {name.replace(".bert.", "."): tensor for name, tensor in load_file(path).items() if ".bert." in name}
    save_file(tensors, path, metadata={"format": "pt"})


A = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
HEAD = "base_model.model.qa_outputs.weight"
DAMAGED = {
    "a pickle": (pickled, r"as a pickle \(adapter_model\.bin\), which can run any code; convert it .*save_pretrained"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), r"safetensors does not exist"),
    "cut weights": (truncate, r"adapter_model\.safetensors is not a whole safetensors file"),
    "a lost tensor": (change_tensors(lambda t: t.pop(A)), r"it lacks 1 tensor, such as .*query\.lora_A\.weight; give"),
    "no head": (of_the_bare_model, r"on the bare model .*: compresskit lora"),
    "a lost head": (
        change_tensors(lambda t: t.pop(HEAD)),
        r"does not fit its base \(.*qa_outputs\.weight.*\); give",
    ),
    "a tensor too many": (
        change_tensors(lambda t: t.update({A.replace("query", "key"): torch.ones(2, 16)})),
        r"it has no place for 1 tensor, such as .*key\.lora_A\.weight; give it its own base",
    ),
    "another size": (change_tensors(lambda t: t.update({A: torch.ones(2, 8)})), r"does not fit its base: .*; give it"),
    "other modules": (change_config(target_modules=["nothing"]), r"does not fit its base \(No modules were targeted"),
    "another task": (change_config(task_type="CAUSAL_LM"), r"does not fit its base \("),
    "an unknown kind": (change_config(peft_type="MAGIC"), r"adapter_config\.json cannot be read \(.*MAGIC"),
    "no kind": (change_config(peft_type=None), r"adapter_config\.json cannot be read"),
    "task arithmetic": (change_config(peft_type="POLY"), r"adapter by poly, which is not supported; those that PEFT"),
    "a broken file": (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not valid JSON"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_adapter_is_bad_input(name: str, adapter: Path) -> None:
    damage, message = DAMAGED[name]
    damage(adapter)
    with pytest.raises(InputError, match=message) as caught:
        load(str(adapter), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(adapter) in str(caught.value)


@pytest.mark.parametrize("name", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
def test_prompts_are_not_supported(name: str, base: Path, tmp_path: Path) -> None:
    config = getattr(peft, name)(num_virtual_tokens=2, **QA)
    folder = adapters.make(base, tmp_path / "adapter", config)
    with pytest.raises(InputError, match=r"which is not supported; those that PEFT injects into modules are: LoRA"):
        load(str(folder), device="cpu")


def test_a_base_of_another_family(tmp_path: Path, adapter: Path) -> None:
    """The words of the base's own loader."""
    (tmp_path / "base").mkdir()
    change_config(base_model_name_or_path=str(tmp_path / "base"))(adapter)
    with pytest.raises(InputError, match=r"base is not a checkpoint: it has no config\.json"):
        load(str(adapter), device="cpu")
