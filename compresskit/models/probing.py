"""What a model says of a few inputs, to compare two forms of the same model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compresskit.checkpoint.temporary import temporary_folder
from compresskit.data.load import load as load_data
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import TrainableModel
from compresskit.models.task import Batch
from compresskit.models.tasks.span_batches import INPUTS, with_mask

# So many windows, in batches of these sizes, each as long as its longest; none is longer than this.
WINDOWS, SIZES, LONGEST = 32, (1, 2, 5), 96
# So many tokens are written after a random text.
WRITTEN = 6


def windows(loaded: TrainableModel) -> list[Batch]:
    """Windows of the built-in demo set, of several lengths and in batches of several sizes, as the model reads them."""
    examples = load_data("demo", "eval").sample(2 * WINDOWS, seed=0)
    with temporary_folder() as folder:
        longest = min(loaded.family.max_positions(loaded.model.config) or LONGEST, LONGEST)
        loaded.task.write(loaded.tokenizer, examples, WindowOptions(longest, 16), folder)
        features = loaded.task.open(folder)
        rows = [features[row] for row in range(min(WINDOWS, len(features)))]
    collate, begin = loaded.task.collator(loaded.tokenizer), 0
    found: list[Batch] = []
    while begin < len(rows):
        size = SIZES[len(found) % len(SIZES)]
        batch = with_mask(collate(rows[begin : begin + size]))
        found.append({name: batch[name] for name in INPUTS if name in batch})
        begin += size
    return found


def texts(loaded: TrainableModel) -> list[Batch]:
    """Random texts of several lengths for a model that writes, and what it has written after each.

    They are as many as windows, in batches of the same sizes: input_ids and attention_mask (batch, length), and
    decoder_input_ids (batch, WRITTEN), all int64. The same on every call.
    """
    config, generator = loaded.model.config, torch.Generator().manual_seed(0)
    longest = min(loaded.family.max_positions(config) or LONGEST, LONGEST)
    found: list[Batch] = []
    while (left := WINDOWS - sum(len(batch["input_ids"]) for batch in found)) > 0:
        size = min(SIZES[len(found) % len(SIZES)], left)
        ends = torch.randint(1, longest + 1, (size, 1), generator=generator)
        mask = (torch.arange(int(ends.max())) < ends).long()
        ids = torch.randint(config.vocab_size, mask.shape, generator=generator)
        written = torch.randint(config.vocab_size, (size, WRITTEN), generator=generator)
        found.append({"input_ids": ids, "attention_mask": mask, "decoder_input_ids": written})
    return found


def reached(loaded: TrainableModel, layers: Mapping[str, nn.Module]) -> dict[str, bool]:
    """Of some `layers` those that a forward pass calls, by name: whether the logits depend on what each answers.

    Another module may read the weight of a layer that is not called. The experts of a mixture count as called, whoever
    is asked: a few inputs do not reach them all. No parameter gets a gradient.
    """
    probes: dict[str, Tensor] = {}

    def added(name: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            return output + probes.setdefault(name, torch.zeros((), device=output.device, requires_grad=True))

        return hook

    model, was_training = loaded.model, loaded.model.training
    handles = [layer.register_forward_hook(added(name)) for name, layer in layers.items()]
    batch = windows(loaded)[-1] if loaded.task.prompt is None else _ids(model.config)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            asked: Any = model.eval()
            outputs = asked(**{name: tensor.to(loaded.device) for name, tensor in batch.items()})
            total = torch.stack([outputs[name].float().sum() for name in loaded.task.graph_outputs]).sum()
            gradients = torch.autograd.grad(total, list(probes.values()), allow_unused=True) if probes else ()
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    found = {name: gradient is not None for name, gradient in zip(probes, gradients, strict=True)}
    return {**found, **{name: True for name in layers if "experts" in name.split(".")}}


@torch.no_grad()
def logits(loaded: TrainableModel) -> Tensor:
    """All logits of a model in evaluation mode, in one row: of the windows above, or of a text that it writes.

    The same inputs on every call.
    """
    model: Any = loaded.model.eval()
    batches = windows(loaded) if loaded.task.prompt is None else [_ids(model.config)]
    outputs = [model(**batch) for batch in batches]
    return torch.cat([found[name].flatten() for found in outputs for name in loaded.task.graph_outputs])


def _ids(config: Any) -> Batch:
    """Random tokens to read, and to have written where that is a text of its own."""
    ids = torch.randint(config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    written = {"decoder_input_ids": ids[:, :4]} if config.is_encoder_decoder else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **written}


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference of two rows of logits, in parts of the largest one (of 1 where that is less).

    Infinite where one of them is not a number, or -inf (a place that is left out) where the other is not.
    """
    out = expected.isneginf()
    if not torch.equal(found.isneginf(), out):
        return math.inf
    here, there = found[~out].float(), expected[~out].float()
    if not bool(here.isfinite().all() and there.isfinite().all()):
        return math.inf
    return float((here - there).abs().max() / there.abs().max().clamp(min=1.0)) if len(here) else 0.0
