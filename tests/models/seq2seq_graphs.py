"""A tiny T5 with its three ONNX graphs, which are traced once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from compresskit.methods.export import seq2seq
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job
from compresskit.methods.run import run
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from tests import tiny


@dataclass(frozen=True)
class ExportedT5:
    """The checkpoint `base`, the folder `graphs` of its export, and what was `traced`."""

    base: Path
    graphs: Path
    traced: Mapping[str, onnx_ir.Model]

    def again(self, _: Any = None) -> dict[str, onnx_ir.Model]:
        """What was traced, to be changed."""
        return {name: model.clone() for name, model in self.traced.items()}


def t5(folder: Path) -> Path:
    """A T5 of one block before two, with tied embeddings. Its answers are of many lengths, and no weights are equal."""
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = tokenizer.sep_token
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    shape: dict[str, Any] = {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 1, "num_decoder_layers": 2}
    tokens: dict[str, Any] = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tiny.TOKENS), num_heads=2, **shape, **tokens))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def export_t5(root: Path) -> ExportedT5:
    """Make the T5, and run its export."""
    base = t5(root / "base")
    exported = ExportedT5(base, root / "graphs", seq2seq.graphs(load_trainable(resolve(str(base)))))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(seq2seq, "graphs", exported.again)
        run(Job("export", ExportOptions(str(base), exported.graphs), ExportConfig(onnx=True)))
    return exported
