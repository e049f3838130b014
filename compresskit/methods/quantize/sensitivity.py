"""What 8 bits cost: the inputs of layers on questions of the training data, and what rounding does to the loss."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compresskit import console
from compresskit.errors import InputError
from compresskit.models.int8 import dequantize, is_plain, quantize, replacement, rounded
from compresskit.models.kinds import int8
from compresskit.models.loaded import TrainableModel
from compresskit.models.task import Batch

# How the inputs of a layer are rounded: by one scale, or where that is None by one for each row.
InputScales = Mapping[str, Tensor | None]


@torch.no_grad()
def largest_inputs(loaded: TrainableModel, layers: Sequence[str], batches: Sequence[Batch]) -> dict[str, Tensor]:
    """By the name of each linear layer the largest magnitude in each channel of its inputs, (in,) in fp32.

    A layer that no batch reaches has zeros.
    """
    modules = {name: loaded.model.get_submodule(name) for name in layers}
    found = {name: torch.zeros(loaded.model.get_parameter(f"{name}.weight").shape[1]) for name in layers}

    def watched(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            torch.maximum(found[name], inputs[0].abs().flatten(0, -2).amax(0).float(), out=found[name])

        return hook

    handles = [module.register_forward_pre_hook(watched(name)) for name, module in modules.items()]
    loaded.model.eval()
    with _removing(handles), console.progress(len(batches), "watching inputs", "windows") as bar:
        for done, batch in enumerate(batches, start=1):
            loaded.task.choices(loaded.model, batch)
            bar.update(done)
    return found


def sensitivities(
    loaded: TrainableModel, names: Sequence[str], batches: Sequence[Batch], inputs: InputScales
) -> dict[str, float]:
    """What the task's loss gains, in nats a window, where the weight of each name alone is in 8 bits.

    It is reckoned to second order, as half of the mean of (gradient · error)², where the mean over windows of products
    of gradients stands for the Hessian (the Fisher information: LeCun et al. 1990, Optimal Brain Damage; Theis et al.
    2018, arXiv 1801.05787). The error is that of a layer's outputs, so that the inputs that are rounded count, those of
    the layers in `inputs`. One pass forward and back a window tells it of all weights.

    Raises InputError where a loss is not a number.
    """
    model: nn.Module = loaded.model.eval().requires_grad_(False)
    watch = _Watch(loaded, names, inputs)
    with _removing(watch.handles), console.progress(len(batches), "calibrating", "windows") as bar:
        for done, batch in enumerate(batches, start=1):
            choices = loaded.task.choices(model, batch)
            assert choices.labels is not None
            loss = nn.functional.cross_entropy(choices.logits, choices.labels, reduction="sum")
            if not bool(loss.isfinite()):
                raise InputError(f"the loss of {loaded.ref} is not a number on the training data; train it again")
            loss.backward()  # type: ignore[no-untyped-call]
            watch.count()
            bar.update(done)
    return {name: watch.squares[name] / len(batches) / 2 for name in names}


@contextlib.contextmanager
def _removing(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch:
    """Sums up (gradient · error)² over windows, by the name of the weight whose error it is."""

    def __init__(self, loaded: TrainableModel, names: Sequence[str], inputs: InputScales) -> None:
        self.squares: defaultdict[str, float] = defaultdict(float)
        self.handles: list[RemovableHandle] = []
        self._model = loaded.model
        self._inputs = inputs
        self._products: defaultdict[str, float] = defaultdict(float)  # of one window
        self._errors: dict[str, Tensor] = {}  # of weights that no layer of its own computes with
        tied = int8.sharing(self._model)
        for name in names:
            for each in (name, *tied.get(name, ())):
                self._add(name, each.rpartition(".")[0])

    def _add(self, name: str, layer: str) -> None:
        """Watch a layer, which computes with the weight `name`."""
        weight, module = self._model.get_parameter(name), self._model.get_submodule(layer)
        codes, scales = quantize(weight)
        packed = replacement(module, codes, scales, shared=True) if is_plain(module) else None
        if packed is None:
            weight.requires_grad_()
            self._errors[name] = dequantize(codes, scales) - weight.detach()
            return

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                read = rounded(inputs[0], self._inputs[layer]) if layer in self._inputs else inputs[0]
                error = packed(read) - output
            if not output.requires_grad:  # of a table: all that follows depends on it
                output.requires_grad_()
            output.register_hook(lambda gradient: self._multiply(name, gradient, error))  # type: ignore[no-untyped-call]

        packed.activations = "none"  # type: ignore[assignment]  # the inputs are rounded here, alike on every machine
        self.handles.append(module.register_forward_hook(hook))

    def _multiply(self, name: str, gradient: Tensor, error: Tensor) -> None:
        self._products[name] += float((gradient * error).sum())

    def count(self) -> None:
        """Add the window whose gradients have just been computed."""
        for name, error in self._errors.items():
            weight = self._model.get_parameter(name)
            if weight.grad is not None:
                self._multiply(name, weight.grad, error)
                weight.grad = None
        for name, product in self._products.items():
            self.squares[name] += product**2
        self._products.clear()
