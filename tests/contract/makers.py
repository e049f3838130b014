"""A tiny checkpoint of every family and of every kind: what a new family or kind adds to the contract tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from onnx import numpy_helper
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from compresskit.checkpoint.manifest import Manifest
from compresskit.models.families import family_of
from compresskit.models.kinds.overlay import save_overlay
from compresskit.models.lstm.build import write_reader
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.registry import load_trainable
from compresskit.models.source import base_of, resolve
from tests import tiny
from tests.models import adapters, graphs
from tests.models.tiny import random_masks

# Families: from a folder to a checkpoint in it that knows the words of `tests.tiny` and reads 64 tokens.


def lstm(folder: Path) -> Path:
    """A BiLSTM reader with all that a variant has, and with dropout, so that a run draws random numbers."""
    options = LstmOptions.choose(variant="bidaf", hidden_size=6, embedding_dim=5, buckets=3)
    write_reader(options, [*tiny.WORDS, ".", "?"], None, 0, folder)
    return folder


def seq2seq(folder: Path) -> Path:
    """A T5 of one block on either side, with tied embeddings."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    config = T5Config(
        vocab_size=len(tiny.TOKENS),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.decoder_start_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def causal(folder: Path, positions: int = 128) -> Path:
    """A Llama of two blocks, with tied embeddings, that reads so many tokens."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    config = LlamaConfig(
        vocab_size=len(tiny.TOKENS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


FAMILIES: Mapping[str, Callable[[Path], Path]] = {
    "encoder": tiny.checkpoint,
    "lstm": lstm,
    "seq2seq": seq2seq,
    "causal": causal,
}


AUTO: Mapping[str, Any] = {
    "encoder": AutoModelForQuestionAnswering,
    "seq2seq": AutoModelForSeq2SeqLM,
    "causal": AutoModelForCausalLM,
}


def made(family: str, folder: Path) -> Path:
    """A checkpoint of a family; the test fails where nobody has said how one is made."""
    if family not in FAMILIES:
        pytest.fail(f"register a maker for the family {family} in {__file__}")
    return FAMILIES[family](folder)


def without_head(folder: Path) -> Path:
    """The same checkpoint without its head."""
    model = load_trainable(resolve(str(folder))).model
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in family_of(resolve(str(folder))).head(model):
        del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def data(path: Path) -> Path:
    """SQuAD 2.0 data in the words of `tests.tiny`: 20 questions, every fifth of them unanswerable, every third long."""
    paragraphs = []
    for number, example in enumerate(tiny.examples(20)):
        answers = [{"text": answer.text, "answer_start": answer.start} for answer in example.answers]
        impossible = number % 5 == 4
        known = {"id": example.id, "question": example.question, "is_impossible": impossible}
        context = example.context + " the sea lies on the sea ." * (6 * (number % 3 == 2))
        paragraphs.append({"context": context, "qas": [{**known, "answers": [] if impossible else answers}]})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


# Kinds: from a plain checkpoint and a new folder to a checkpoint of the kind on it, or made from it.


@dataclass(frozen=True)
class Counted:
    """Parameters of a checkpoint, counted from the tensors by whoever made it: all of them, and those not zero."""

    total: int
    nonzero: int


def counted(tensors: Any) -> Counted:
    """Numbers in all of some tensors."""
    tensors = list(tensors)
    return Counted(sum(t.numel() for t in tensors), sum(int((t != 0).sum()) for t in tensors))


def full(base: Path, folder: Path) -> Counted:
    shutil.copytree(base, folder)
    return counted(load_file(folder / "model.safetensors").values())


def mask(base: Path, folder: Path) -> Counted:
    """An overlay that keeps about a third of every maskable weight, and brings a head of its own."""
    source = resolve(str(base))
    loaded = load_trainable(source)
    state = {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}
    masks = random_masks({name: state[name].shape for name in loaded.family.weights(loaded.model)}, seed=3)
    learned = {name: state[name] + 1 for name in sorted(loaded.family.head(loaded.model))}
    folder.mkdir()
    save_overlay(folder, masks, learned)
    loaded.model.config.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    Manifest(loaded.family.name, "mask", base_of(source, folder), []).write(folder)
    kept = {name: state[name] * torch.from_numpy(each.expand()) for name, each in masks.items()}
    return counted({**state, **learned, **kept}.values())


def adapter(base: Path, folder: Path) -> Counted:
    family = family_of(resolve(str(base))).name
    if family == "lstm":
        return weight_adapter(base, folder)
    config = {
        "encoder": LoraConfig(r=2, target_modules=["query"], task_type="QUESTION_ANS"),
        "seq2seq": LoraConfig(r=2, target_modules=["q"], task_type="SEQ_2_SEQ_LM"),
        "causal": LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    }[family]
    adapters.make(base, folder, config, auto=AUTO[family])
    added = load_file(folder / "adapter_model.safetensors")
    # PEFT saves a head of the adapter's own under the names of the base's.
    state = {**load_file(base / "model.safetensors")}
    state |= {name.removeprefix("base_model.model."): tensor for name, tensor in added.items()}
    return counted(state.values())


def weight_adapter(base: Path, folder: Path) -> Counted:
    """Low-rank terms of random numbers over every matrix of a BiLSTM, as PEFT would call them."""
    state = load_file(base / "model.safetensors")
    loaded = load_trainable(resolve(str(base)))
    torch.manual_seed(4)
    added: dict[str, torch.Tensor] = {}
    for name in loaded.family.weights(loaded.model):
        a, b = torch.randn(2, state[name].shape[1]), torch.randn(state[name].shape[0], 2)
        added |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
        state[name] = state[name] + 1.5 * (b @ a)
    folder.mkdir()
    save_file(added, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 3,
        "target_modules": sorted(loaded.family.weights(loaded.model)),
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    loaded.tokenizer.save_pretrained(folder)
    return counted(state.values())


def quantized(base: Path, folder: Path) -> Counted:
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=["qa_outputs", "lm_head"]
    )
    auto = AUTO[family_of(resolve(str(base))).name]
    model = auto.from_pretrained(base, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"})
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    states = ((p, getattr(p, "quant_state", None)) for p in model.parameters())
    return counted(p.detach() if state is None else dequantize_4bit(p.data, state) for p, state in states)


def graph(base: Path, folder: Path) -> Counted:
    """Of an exported reader, which is not of `base`; its weights are the tensors of more than one floating number."""
    graphs.export("bert", base.with_name(f"{folder.name}-from"), folder)
    tensors = (numpy_helper.to_array(each) for each in onnx.load(folder / "model.onnx").graph.initializer)
    return counted(torch.from_numpy(each.copy()) for each in tensors if each.dtype.kind == "f" and each.size > 1)


KINDS: Mapping[str, Callable[[Path, Path], Counted]] = {
    "full": full,
    "mask": mask,
    "adapter": adapter,
    "quantized": quantized,
    "onnx": graph,
}


# What a method must be told.
CONFIGS: Mapping[str, Mapping[str, Any]] = {"export": {"onnx": True}}


def is_possible(method: str, kind: str, family: str) -> bool:
    """Whether a method takes such a checkpoint of a family.

    bitsandbytes packs no recurrent layers, and `merge` does not unpack its weights. An export takes seconds: overlays,
    and other families than encoders, are exported in its own tests alone.
    """
    exported = method != "export" or (family == "encoder" and kind == "full")
    return exported and (kind != "quantized" or (family != "lstm" and method != "merge"))


def of_kind(kind: str, base: Path, folder: Path) -> Counted:
    """Make a checkpoint of a kind; the test fails where nobody has said how."""
    if kind not in KINDS:
        pytest.fail(f"register a maker for the kind {kind} in {__file__}")
    return KINDS[kind](base, folder)
