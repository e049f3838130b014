"""Weights in 8 bits: codes from -127 to 127 with one scale for each output channel, and what computes with them.

A weight is `scale · code`. Linear layers multiply codes with codes where that is fast: then each row of the input, a
token, gets a scale of its own too (per-token dynamic quantization, Yao et al. 2022, ZeroQuant, arXiv 2206.01861).
Elsewhere the codes are turned into numbers, a block of rows at a time.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

# Codes are symmetric, so that there is no zero point.
LEVELS = 127
# Codes of inputs on a CPU without VNNI: there, sums of two products have 16 bits, and of larger codes would not fit in
# (onnxruntime#6004).
FEWER_LEVELS = 63
# Inputs are turned into codes by so many numbers at a time, which stay in a CPU's cache.
CHUNK = 1 << 19
# Codes are turned into numbers by so many rows of a weight at a time: a whole one would not stay in the cache.
BLOCK_ROWS = 1024
# On a GPU, products of codes need more rows than this, and sizes that are multiples of the other (torch._int_mm).
FEWEST_ROWS, MULTIPLE = 17, 8
# A row of zeros has any scale but 0.
SMALLEST = 1e-12

Activations = Literal["auto", "int8", "none"]


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (rows, columns) of int8 and scales (rows, 1) in fp32 of a weight (rows, columns)."""
    exact = weight.detach().float()
    scales = exact.abs().amax(dim=1, keepdim=True).div_(LEVELS).clamp_(min=SMALLEST)
    return (exact / scales).round_().to(torch.int8), scales


def dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """The fp32 weight (rows, columns) that codes and scales stand for."""
    return codes.float().mul_(scales)


def multiplies_codes(device: torch.device, wanted: Activations, dtype: torch.dtype = torch.float32) -> bool:
    """Whether linear layers on a device turn inputs of `dtype` into codes: where asked for, or by itself where it pays.

    That is on a CPU that oneDNN has such products for, with AVX2 or more, and on a GPU in fp32: in 16 bits its plain
    products take half the time of those of codes (docs/results/2026-11-29-int8-h200.md).
    """
    if wanted != "auto":
        return wanted == "int8"
    if device.type == "cuda":
        return dtype == torch.float32
    return device.type == "cpu" and bool(torch.cpu._is_avx2_supported())


def input_levels() -> int:
    """The largest code of an input on this CPU."""
    return LEVELS if torch.cpu._is_vnni_supported() else FEWER_LEVELS


def arithmetic(device: torch.device, wanted: Activations) -> str:
    """How linear layers in 8 bits compute on a device, in words."""
    if not multiplies_codes(device, wanted):
        return "codes become numbers, a block of rows at a time"
    if device.type == "cuda":
        which = "of fp32" if wanted == "auto" else "of any format"
        return f"products of 8 bits (torch._int_mm) for {FEWEST_ROWS} rows and more {which}; else codes become numbers"
    bits = "8 bits" if input_levels() == LEVELS else "7 bits, since this CPU has no VNNI"
    return f"products of 8 bits (oneDNN); inputs are rounded to {bits}"


class Int8Linear(nn.Module):
    """A linear layer whose weight is kept in codes; `weight_scale` (out, 1) in fp32 is a buffer beside them.

    A `shared` weight is that of another layer, with which it is kept and written. An `input_scale` (1,) in fp32 is that
    of all inputs (static quantization); without it each row of them gets its own.
    """

    weight_scale: Tensor
    input_scale: Tensor | None

    def __init__(
        self,
        codes: Tensor,
        scales: Tensor,
        bias: nn.Parameter | None,
        *,
        shared: bool = False,
        input_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("input_scale", input_scale)
        self.out_features, self.in_features = codes.shape
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("weight_scale", scales, persistent=not shared)
        self.bias = bias
        self.shared = shared
        self.activations: Activations = "auto"
        self.precise = False  # whether it computes and answers in fp32 whatever it is given
        self._packed: Tensor | None = None

    @property
    def is_laid_out(self) -> bool:
        """Whether its codes were laid out for a CPU's product, and are in no tensor of its own any more."""
        return self._packed is not None and not self.shared

    @property
    def kept(self) -> nn.Parameter:
        """The parameter of the codes (out, in); empty where they were laid out for a CPU's product."""
        kept = self._parameters["weight"]
        assert kept is not None
        return kept

    def codes(self) -> Tensor:
        """The codes (out, in), wherever they are."""
        return self.kept.data if self._packed is None or self.shared else self._packed.to_dense().T

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (…, out) of the format of `inputs` (…, in)."""
        rows = inputs.reshape(-1, self.in_features)
        rows = rows.float() if self.precise else rows
        if not multiplies_codes(rows.device, self.activations, rows.dtype):
            outputs = self._by_blocks(rows)
        elif rows.device.type == "cuda":
            fits = len(rows) >= FEWEST_ROWS and not (self.in_features % MULTIPLE or self.out_features % MULTIPLE)
            outputs = self._on_cuda(rows) if fits else self._by_blocks(rows)
        else:
            outputs = self._on_cpu(rows)
        return outputs.view(*inputs.shape[:-1], self.out_features)

    def _on_cpu(self, rows: Tensor) -> Tensor:
        """By oneDNN's product of unsigned with signed codes, whose weights are laid out for it once."""
        if self._packed is None:
            self._packed = torch.ops.onednn.qlinear_prepack(self.kept.data, None)
            self._scales = self.weight_scale.flatten().contiguous()
            self._zeros = torch.zeros(self.out_features, dtype=torch.int32)
            if not self.shared:  # the other layout has them
                self.weight = nn.Parameter(self.kept.data.new_empty(0), requires_grad=False)
        levels = input_levels()
        if self.input_scale is not None:
            scales = self.input_scale * (LEVELS / levels)
            codes = _unsigned(rows.float(), scales.expand(len(rows), 1), levels)
            return self._summed(codes, levels, scales.item(), self.bias).to(rows.dtype)
        scales = _scales_of(rows.float(), levels)
        # A scale of 1: each row has its own, by which the sums are multiplied afterwards.
        sums = self._summed(_unsigned(rows.float(), scales, levels), levels, 1.0, None)
        if self.bias is None:
            return sums.mul_(scales).to(rows.dtype)
        return torch.addcmul(self.bias.detach().float(), sums, scales, out=sums).to(rows.dtype)

    def _summed(self, codes: Tensor, levels: int, scale: float, bias: Tensor | None) -> Tensor:
        zero, packed = levels + 1, (self._packed, self._scales, self._zeros)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes, scale, zero, *packed, bias, 1.0, 0, torch.float32, "none", [], ""
        )
        return product

    def _on_cuda(self, rows: Tensor) -> Tensor:
        scales, codes = self.input_scale, rows
        if scales is None:  # the norm is one kernel, and the largest of magnitudes two
            scales = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True, dtype=torch.float32)
            scales = scales.div_(LEVELS).clamp_(SMALLEST)
            codes = (rows / scales).round_()
        else:
            codes = (rows / scales).round_().clamp_(-LEVELS, LEVELS)
        codes = codes.to(torch.int8)
        if missing := -len(rows) % MULTIPLE:  # which the product has no code for on all shapes
            codes = functional.pad(codes, (0, 0, 0, missing))
        return self._scaled(torch._int_mm(codes, self.kept.T)[: len(rows)] * scales, rows.dtype)

    def _scaled(self, sums: Tensor, dtype: torch.dtype) -> Tensor:
        """Sums of codes times the scales of the weight, and the bias, in a format: one kernel on a GPU."""
        outputs = sums.new_empty(sums.shape, dtype=dtype)
        if self.bias is None:
            return torch.mul(sums, self.weight_scale.T, out=outputs)
        return torch.addcmul(self.bias.detach(), sums, self.weight_scale.T, out=outputs)

    def _by_blocks(self, rows: Tensor) -> Tensor:
        """Numbers in the place of codes, a block at a time; on a GPU all at once, which is fewer kernels."""
        outputs, codes = rows.new_empty(len(rows), self.out_features), self.codes()
        step = self.out_features if rows.device.type == "cuda" else BLOCK_ROWS
        early = rows.dtype == torch.float16  # in which sums of codes would overflow
        for first in range(0, self.out_features, step):
            part = slice(first, first + step)
            weight = dequantize(codes[part], self.weight_scale[part]) if early else codes[part]
            outputs[:, part] = functional.linear(rows, weight.to(rows.dtype))
        if not early:
            return self._scaled(outputs, rows.dtype)
        return outputs if self.bias is None else outputs.add_(self.bias.detach())


class Int8Output(Int8Linear):
    """One that is read too: a Mamba casts what it hands to its output to the format of that weight.

    So what is seen as `weight` is an empty tensor of `dtype`. The codes are a parameter of that name all the same.
    """

    dtype: torch.dtype

    @classmethod
    def turn(cls, layer: Any, dtype: torch.dtype) -> None:
        """Make such a one of an `Int8Linear`, in place."""
        layer.__class__ = cls
        layer.dtype = dtype

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # what the class above has as an attribute
        """Of the format that inputs are to have."""
        return torch.empty(0, dtype=self.dtype)


def input_scale(largest: Tensor) -> Tensor:
    """The scale (1,) of all inputs of a layer, by the largest magnitude in each channel of them (in,)."""
    return largest.amax().div(LEVELS).clamp(min=SMALLEST).reshape(1)


def rounded(rows: Tensor, input_scale: Tensor | None) -> Tensor:
    """Inputs (…, n) of a layer as its codes keep them, for any device: with one scale, or one for each row."""
    scales = input_scale if input_scale is not None else _scales_of(rows, LEVELS)
    return (rows / scales).round_().clamp_(-LEVELS, LEVELS).mul_(scales)


def _scales_of(rows: Tensor, levels: int) -> Tensor:
    """One scale for each row (…, n), by its largest number: (…, 1) in fp32."""
    largest = torch.maximum(rows.amax(-1, keepdim=True), -rows.amin(-1, keepdim=True))
    return largest.float().div_(levels).clamp_(SMALLEST)


def _unsigned(rows: Tensor, scales: Tensor, levels: int) -> Tensor:
    """Codes from 1 to 2 · levels + 1, of which levels + 1 is 0, of fp32 rows (n, k) by their scales (n, 1).

    Adding one half and cutting the fraction off rounds.
    """
    factors, codes = scales.reciprocal(), torch.empty(rows.shape, dtype=torch.uint8)
    step = max(CHUNK // rows.shape[1], 1)
    scratch = rows.new_empty(min(step, len(rows)), rows.shape[1])
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        scaled = torch.mul(part, factors[first : first + step], out=scratch[: len(part)])
        codes[first : first + step] = scaled.add_(levels + 1.5).clamp_(1, 2 * levels + 1.5)
    return codes


class Int8Embedding(nn.Module):
    """A table of vectors kept in codes, with a scale for each of them. It answers in numbers of `dtype`.

    Vectors are multiplied by `factor`, as in BART's tables.
    """

    weight_scale: Tensor

    def __init__(
        self, codes: Tensor, scales: Tensor, dtype: torch.dtype, *, factor: float = 1.0, shared: bool = False
    ) -> None:
        super().__init__()
        self.factor = factor
        self.padding_idx: int | None = None  # transformers would fill the vector there, which has its codes
        self.num_embeddings, self.embedding_dim = codes.shape
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.register_buffer("weight_scale", scales, persistent=not shared)
        self.dtype = dtype

    def codes(self) -> Tensor:
        """The codes (rows, width)."""
        return self.weight.data

    def forward(self, ids: Tensor) -> Tensor:
        """The vectors (…, width) of `ids` (…)."""
        codes, scales = functional.embedding(ids, self.weight), functional.embedding(ids, self.weight_scale)
        return (codes * scales * self.factor).to(self.dtype)


class Int8Weight(nn.Module):
    """Parametrization of any other weight by its codes: whatever reads it sees numbers, made at each reading."""

    scale: Tensor

    def __init__(self, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scales)

    def forward(self, codes: Tensor) -> Tensor:
        """The fp32 weight."""
        return dequantize(codes, self.scale)


INT8 = (Int8Linear, Int8Embedding)


def arithmetic_of(model: nn.Module) -> str | None:
    """How the linear layers of a model in 8 bits compute where they are, in words; None where it has none."""
    layer = next((module for module in model.modules() if isinstance(module, Int8Linear)), None)
    return None if layer is None else arithmetic(layer.weight_scale.device, layer.activations)


def is_plain(module: nn.Module) -> bool:
    """Whether a module is a linear layer or a table and nothing more, so that one of ours can take its place.

    Tables that scale their vectors (`embed_scale`) are; those that turn their input into other positions are not.
    """
    scaled = isinstance(module, nn.Embedding) and hasattr(module, "embed_scale")
    return type(module) in (nn.Linear, nn.Embedding) or scaled


def replacement(module: nn.Module, codes: Tensor, scales: Tensor, *, shared: bool = False) -> nn.Module | None:
    """What computes in a module's place with codes; None for a module that is no linear layer and no table."""
    if isinstance(module, nn.Linear):
        return Int8Linear(codes, scales, module.bias, shared=shared)
    if isinstance(module, nn.Embedding):
        factor = float(getattr(module, "embed_scale", 1.0))
        return Int8Embedding(codes, scales, module.weight.dtype, factor=factor, shared=shared)
    return None


def put(model: nn.Module, name: str, codes: Tensor, scales: Tensor, *, shared: bool = False) -> None:
    """Keep the weight `name` of a model in codes; `shared` where it is that of another layer.

    A linear layer or a table is replaced. For any other module the codes stand in the weight's place, and the scales
    beside them, until `compute`.
    """
    parent, _, own = name.rpartition(".")
    module = model.get_submodule(parent)
    replaced = replacement(module, codes, scales, shared=shared)
    if replaced is not None:
        above, _, child = parent.rpartition(".")
        setattr(model.get_submodule(above), child, replaced)
    else:
        setattr(module, own, nn.Parameter(codes, requires_grad=False))
        module.register_buffer(f"{own}_scale", scales)


def compute(model: nn.Module, name: str) -> None:
    """Let a module that was not replaced compute with the weight `name` that its codes and scales stand for."""
    parent, _, own = name.rpartition(".")
    module: Any = model.get_submodule(parent)
    if isinstance(module, INT8):
        return
    scales = getattr(module, f"{own}_scale")
    delattr(module, f"{own}_scale")
    # unsafe: what the module reads is of another format than what is kept.
    parametrize.register_parametrization(module, own, Int8Weight(scales), unsafe=True)
