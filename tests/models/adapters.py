"""PEFT adapter folders for tests, written by PEFT itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

IDS = torch.arange(7, 27).reshape(2, 10)


def opened(base: Path, auto: Any = AutoModelForQuestionAnswering, **options: Any) -> Any:
    """The base on the CPU, where bitsandbytes would not put it if there were a GPU."""
    return auto.from_pretrained(base, device_map={"": "cpu"}, **options)


def make(
    base: Path, folder: Path, config: PeftConfig, seed: int = 1, auto: Any = AutoModelForQuestionAnswering
) -> Path:
    """Write an adapter on `base`, none of whose numbers is what PEFT starts with."""
    torch.manual_seed(seed)
    model = get_peft_model(opened(base, auto), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(str(folder))
    return folder


def theirs(base: Path, folder: Path, **options: Any) -> PeftModel:
    """The adapter as PEFT opens it."""
    return PeftModel.from_pretrained(opened(base, **options), str(folder), torch_device="cpu").eval()


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """Start and end logits of `IDS`, shape (2, 10, 2)."""
    outputs = model(input_ids=IDS)
    return torch.stack((outputs.start_logits, outputs.end_logits), dim=-1)
