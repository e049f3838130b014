"""Calibration: questions of the training data, and what they say of the cost of 8 bits."""

from __future__ import annotations

import copy
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compresskit import console
from compresskit.checkpoint.manifest import Data
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.data.match import Golds
from compresskit.errors import RunFailed, UsageError
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.answering import AnswerOptions
from compresskit.models.int8 import Activations, Int8Linear, dequantize, is_plain, quantize, replacement
from compresskit.models.kinds import int8
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.task import Batch
from compresskit.models.tasks.text_answers import trained_prompt

# Tokens of a window at most, and the part of it that neighbours share.
LONGEST, SHARED = 384, 3
SEED = 42


@dataclass(frozen=True, slots=True)
class Calibration:
    """The questions, how they are put, and their windows as batches of one."""

    data: Data
    examples: ExampleSet
    options: AnswerOptions
    batches: Sequence[Batch]


def training_data(loaded: LoadedModel, config: QuantizeConfig) -> str:
    """The data set to calibrate with: the given one, else what the checkpoint learned from last.

    Raises UsageError where its manifest tells of none.
    """
    steps = loaded.manifest.steps if loaded.manifest is not None else ()
    known = [config.train_data, *(step.data.path for step in reversed(steps) if step.data is not None)]
    found = next((path for path in known if path is not None), None)
    if found is None:
        raise UsageError(f"{loaded.ref} does not tell what it was trained on; give --train-data")
    return found


def gathered(loaded: TrainableModel, config: QuantizeConfig) -> Calibration:
    """Questions of the training data, as the model reads them. Raises the errors of reading data."""
    assert config.calibrate is not None
    whole = load_data(training_data(loaded, config), "train")
    seed = SEED if config.seed is None else config.seed
    examples = whole.sample(min(config.calibrate, len(whole)), seed)
    longest = min(LONGEST, loaded.family.max_positions(loaded.model.config) or LONGEST)
    prompt = trained_prompt(loaded) if loaded.task.prompt is not None else None
    options = AnswerOptions(longest, longest // SHARED, prompt_template=prompt)
    with tempfile.TemporaryDirectory() as name:
        loaded.task.write(loaded.tokenizer, examples, options.windows, Path(name))
        features = loaded.task.open(Path(name))
        collate = loaded.task.collator(loaded.tokenizer)
        batches = [collate([features[row]]) for row in range(len(features))]
    info = examples.info
    console.info(f"calibrating with {len(examples)} questions of {info.path}, {len(batches)} windows")
    return Calibration(Data(info.path, info.sha256, info.questions, info.unanswerable), examples, options, batches)


def sensitivities(
    loaded: TrainableModel, names: Sequence[str], batches: Sequence[Batch], activations: Activations
) -> dict[str, float]:
    """What the task's loss gains, in nats a window, where the weight of each name alone is in 8 bits.

    It is reckoned to second order, as half of the mean of (gradient · error)², where the mean over windows of products
    of gradients stands for the Hessian (the Fisher information: LeCun et al. 1990, Optimal Brain Damage; Theis et al.
    2018, arXiv 1801.05787). The error is that of a layer's outputs, so that rounded inputs count. One pass forward and
    back a window tells it of all weights. Raises RunFailed where a loss is not a number.
    """
    model: nn.Module = loaded.model.eval().requires_grad_(False)
    watch = _Watch(loaded, names, activations)
    with watch, console.progress(len(batches), "calibrating", "windows") as bar:
        for done, batch in enumerate(batches, start=1):
            choices = loaded.task.choices(model, batch)
            assert choices.labels is not None
            loss = nn.functional.cross_entropy(choices.logits, choices.labels, reduction="sum")
            if not bool(loss.isfinite()):
                raise RunFailed(f"the loss of {loaded.ref} is not a number on the training data; train it again")
            loss.backward()  # type: ignore[no-untyped-call]
            watch.count()
            bar.update(done)
    return {name: watch.squares[name] / len(batches) / 2 for name in names}


class _Watch:
    """Sums up (gradient · error)² over windows, by the name of the weight whose error it is."""

    def __init__(self, loaded: TrainableModel, names: Sequence[str], activations: Activations) -> None:
        self.squares: defaultdict[str, float] = defaultdict(float)
        self._model = loaded.model
        self._names = names
        self._activations = activations
        self._products: defaultdict[str, float] = defaultdict(float)  # of one window
        self._errors: dict[str, Tensor] = {}  # of weights that no layer of its own computes with
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> _Watch:
        tied = int8.sharing(self._model)
        for name in self._names:
            weight = self._model.get_parameter(name)
            codes, scales = quantize(weight)
            for each in (name, *tied.get(name, ())):
                module = self._model.get_submodule(each.rpartition(".")[0])
                rounded = replacement(module, codes, scales, shared=True) if is_plain(module) else None
                if rounded is not None:
                    self._handles.append(module.register_forward_hook(self._watched(name, rounded)))
                else:
                    weight.requires_grad_()
                    self._errors[name] = dequantize(codes, scales) - weight.detach()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _watched(self, name: str, rounded: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        if isinstance(rounded, Int8Linear):
            rounded.activations = self._activations

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                error = rounded(*inputs) - output
            if not output.requires_grad:  # of a table: all that follows depends on it
                output.requires_grad_()

            def add(gradient: Tensor) -> None:
                self._products[name] += float((gradient * error).sum())

            output.register_hook(add)  # type: ignore[no-untyped-call]

        return hook

    def count(self) -> None:
        """Add the window whose gradients have just been computed."""
        for name, error in self._errors.items():
            weight = self._model.get_parameter(name)
            if weight.grad is not None:
                self._products[name] += float((weight.grad * error).sum())
                weight.grad = None
        for name, product in self._products.items():
            self.squares[name] += product**2
        self._products.clear()


def kept(
    loaded: TrainableModel, costs: Mapping[str, float], calibration: Calibration, config: QuantizeConfig
) -> list[str]:
    """The weights that stay in 16 bits, those that cost most: as many as `keep_top` or `max_loss` says."""
    ranked = sorted(costs, key=lambda name: -costs[name])
    if config.max_loss is None:
        return ranked[: config.keep_top or 0]
    full = exact_matches(loaded, calibration)

    def holds(count: int) -> bool:
        trial = copy.deepcopy(loaded.model)
        int8.pack(trial, [name for name in costs if name not in ranked[:count]])
        int8.set_activations(trial, config.activations)
        found = exact_matches(replace(loaded, model=trial), calibration)
        console.info(f"{count} of {len(ranked)} matrices in 16 bits: EM {found:.2f}, in full {full:.2f}")
        return full - found <= (config.max_loss or 0.0)

    return ranked[: fewest(len(ranked), holds)]


def fewest(most: int, holds: Callable[[int], bool]) -> int:
    """The least count of 0, 1, 2, 4, … that holds, made less by halving the step to the one before; else `most`.

    It is the least of all where more never hold less.
    """
    below, count = -1, 0
    while count < most and not holds(count):
        below, count = count, min(max(1, 2 * count), most)
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if holds(middle) else (middle, count)
    return count


def exact_matches(loaded: LoadedModel, calibration: Calibration) -> float:
    """Per cent of the questions that the model answers as the gold answers say."""
    answers = loaded.task.answer(loaded, calibration.examples, calibration.options)
    pairs = zip(calibration.examples, answers, strict=True)
    right = [Golds(gold.text for gold in example.answers).score(answer.text)[0] for example, answer in pairs]
    return 100 * sum(right) / len(right)
