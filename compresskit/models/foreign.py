"""What lies in a checkpoint's files and has no place in its model: what it looks like, and what to do about it.

A library that opens a folder takes the tensors whose names it knows, and drops the others without a word. Then what is
scored is not what was saved: codes without their scales, weights without their mask, a base without its adapter. So
whatever has no place is refused, but for what is known to change no answer (`HARMLESS`). Nothing here needs torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from compresskit.checkpoint.headers import FLOATS, Header, headers_in
from compresskit.checkpoint.reading import read_text
from compresskit.checkpoint.store import read_json
from compresskit.errors import InputError
from compresskit.text import counted


@dataclass(frozen=True, slots=True)
class Trace:
    """Names of tensors that tell of another tool: a pattern, what it looks like, and what to do.

    One that is not `sure` may be the name of a model's own weight: it tells of what has no place alone.
    """

    pattern: re.Pattern[str]
    what: str
    mend: str
    sure: bool = True


_PACKED_MEND = (
    "write it with that tool's own export to transformers, which says in config.json how the weights are packed"
)

TRACES: Sequence[Trace] = (
    Trace(
        re.compile(r"(^|\.)lora_|\.ia3_l$|\.hada_w|\.lokr_w|\.base_layer\.|\.modules_to_save\.|\.original_module\."),
        "an adapter in the modules of its base (PEFT)",
        "save the adapter alone (PeftModel.save_pretrained), or the whole after merge_and_unload()",
    ),
    Trace(
        re.compile(r"(^|\.)_orig_mod\.|^module\.|^(model\.)?base_model\."),
        "a model within a wrapper that was saved along",
        "save the model inside it (model.module, model._orig_mod, model.get_base_model()) with save_pretrained",
    ),
    Trace(
        re.compile(r"(weight|bias)\w*_(orig|mask)$"),
        "a mask beside the weights (torch.nn.utils.prune)",
        "fold it in before saving: prune.remove(module, 'weight')",
    ),
    Trace(
        re.compile(r"\.SCB$|\.weight_format$|quant_state|\.absmax$|\.quant_map$|\.nested_"),
        "weights that bitsandbytes packed",
        "save it with save_pretrained, which writes quantization_config into config.json",
    ),
    Trace(
        re.compile(r"\.(qweight|qzeros|g_idx|scales|codebooks?|weight_packed|weight_shape)$"),
        "weights that a tool such as GPTQ, AWQ or compressed-tensors packed",
        _PACKED_MEND,
    ),
    Trace(
        re.compile(r"step_size|activation_post_process|fake_quant|observer|quantizer\.|_packed_params|\.zero_points?$"),
        "a model that learned or observed the steps of its quantization (QAT, LSQ)",
        "convert it where it was made, and save the weights that it then computes with",
    ),
    Trace(
        re.compile(r"(weight|bias|input|output|act|activation|attn|[qkv])_(scales?|scale_inv|zero_points?|amax)$"),
        "a quantization of another tool",
        _PACKED_MEND,
    ),
    Trace(
        re.compile(r"\.parametrizations\."),
        "weights that are computed from others (torch's parametrizations)",
        "fold them before saving: parametrize.remove_parametrizations(module, 'weight')",
    ),
    Trace(re.compile(r"scales?$|_amax$|_alpha$|\.zp$"), "a quantization of another tool", _PACKED_MEND, sure=False),
    Trace(re.compile(r"_(mask|orig)$"), "a mask beside the weights", "fold it in before saving", sure=False),
)
"""What tells of another tool, the most telling first."""

HARMLESS: Mapping[str, str] = {
    r"(^|\.)(position_ids|token_type_ids|inv_freq|original_inv_freq|relative_position_index|num_batches_tracked)$": (
        "positions and the like, which the model computes by itself"
    ),
    r"(^|\.)rotary_emb\.\w+$|\.masked_bias$|(^|\.)(en|de)coder\.(version|embed_positions\._float_tensor)$": (
        "tables that older versions saved, and the model computes by itself"
    ),
    r"(^|\.)pooler\.": "a summary of the whole text, which neither spans nor written answers are made of",
    r"^cls\.|^(\w+_)?lm_head\.|^(lm_loss|pred_layer|embed_out|vocab_(transform|layer_norm|projector))\.": (
        "the head of the pretraining: masked words, the next word or sentence"
    ),
    r"^(\w+_)?predictions\.|^sop_classifier\.|^decoder\.(bias|weight)$|(^|\.)final_logits_bias$": (
        "the head of the pretraining under other names (ALBERT, ELECTRA, LUKE, ModernBERT, BART)"
    ),
    r"^(\w+_)?(classifier|head)\.|^(score|logits_proj|sequence_summary|summary|v_head)\.": (
        "the head of another task, such as classification"
    ),
    r"^(qa_outputs|start_logits|end_logits|answer_class)\.": "a head for spans, in a model that answers otherwise",
    r"\.EncDecAttention\.relative_attention_bias\.weight$": "left over in the first T5, which never computed with it",
}
"""Names of tensors that have no place in a model and change no answer: a pattern, and why."""
_HARMLESS = [re.compile(pattern) for pattern in HARMLESS]
# A causal mask as older versions saved it, called like a bias: of a shape (1, 1, length, length).
_CAUSAL = re.compile(r"\.(attn|attention|crossattention)\.bias$")

# Formats in which models keep positions, masks and tables of letters; codes of weights have others, or these names.
_COUNTS = frozenset({"I64", "I32", "BOOL", "U8"})
_WEIGHT = re.compile(r"(weight|bias|gamma|beta|kernel)\w*$")

_FORMER_KEY = "compression_config"  # of compressed-tensors, before it was quantization_config
_QUANTIZES = re.compile(r"quantiz|gptq|awq", re.IGNORECASE)
RECIPES: Mapping[str, str] = {
    "smash_config.json": "Pruna",
    "quantize_config.json": "GPTQ's tools",
    "quant_config.json": "AutoAWQ",
    "hf_quant_config.json": "NVIDIA's ModelOpt",
    "quanto_qmap.json": "optimum-quanto",
    "inc_config.json": "Intel's Neural Compressor",
    "nncf_config.json": "NNCF",
    "recipe.y*ml": "SparseML or llm-compressor",
}
"""Files by which other tools say what they do with the weights beside them as they open them; `*` is any text.

A recipe that only prunes has done its work in the weights; of those in `recipe.yaml` such that quantize count alone.
"""


def check_plain(folder: Path) -> None:
    """InputError where the files of a plain checkpoint are not plain weights, by their headers and file names alone.

    That is: names of other tools, codes in the place of floats, the recipe of a tool that does its work on opening.
    """
    found = headers_in(folder)
    traced = [name for name in sorted(found) if (trace := trace_of(name)) is not None and trace.sure]
    if traced:
        raise InputError(_refusal(folder, traced))
    check_formats(folder, {name for name, header in found.items() if _is_code(name, header)})
    if _quantizes_by_former_name(folder):
        raise InputError(
            f"{folder}/config.json tells of a quantization under {_FORMER_KEY}, which transformers no longer reads; "
            "write it anew with the tool that quantized it, or take that entry out to score these weights as they stand"
        )
    if recipe := recipe_in(folder):
        raise InputError(
            f"{folder} holds {recipe}, a recipe of {RECIPES[_recipe_pattern(recipe)]}: that tool changes these weights "
            "as it opens them; save them as it computes with them, or take that file out to score these"
        )


def check_formats(folder: Path, floats: Container[str]) -> None:
    """InputError where one of the tensors that are to be `floats` is stored as codes."""
    for name, header in sorted(headers_in(folder).items()):
        if name in floats and header.dtype not in FLOATS:
            raise InputError(
                f"{folder} holds {name} as {header.dtype}, and config.json does not tell what such codes stand for: it "
                f"looks like a quantization of another tool{_by(folder)}; {_PACKED_MEND}"
            )


def check_places(folder: Path, unexpected: Iterable[str], *, told_otherwise: bool = False) -> None:
    """InputError where one of the tensors for which a model had no place is not known to be harmless.

    Where the caller tells of the folder otherwise, since it lacks tensors, those that look like nothing known are left
    to it.
    """
    names = set(unexpected)
    headers = headers_in(folder) if names else {}
    odd = sorted(name for name in names if not is_harmless(name, headers.get(name)))
    traced = [name for name in odd if trace_of(name) is not None]
    if traced:
        raise InputError(_refusal(folder, traced))
    if odd and not told_otherwise:
        raise InputError(
            f"{folder} holds {counted(len(odd), 'tensor')} that its model has no place for, such as {odd[0]}"
            f"{_by(folder)}; give what it was made from, or save it again without them where they change no answer"
        )


def is_harmless(name: str, header: Header | None = None) -> bool:
    """Whether a tensor without a place is known to change no answer; `header` is what its file tells of it."""
    if header is not None and len(header.shape) == 4 and header.shape[:2] == (1, 1) and _CAUSAL.search(name):
        return True
    return any(pattern.search(name) for pattern in _HARMLESS)


def trace_of(name: str) -> Trace | None:
    """The tool, or the sort of tool, that the name of a tensor tells of; None where it tells of none."""
    return next((trace for trace in TRACES if trace.pattern.search(name)), None)


def recipe_in(folder: Path) -> str | None:
    """The name of another tool's recipe in a folder, where it does more than what is in the weights already."""
    for path in sorted(folder.iterdir()):
        pattern = _recipe_pattern(path.name)
        if pattern and path.is_file() and (path.suffix == ".json" or _QUANTIZES.search(read_text(path))):
            return path.name
    return None


def _quantizes_by_former_name(folder: Path) -> bool:
    """Whether config.json names a quantization where tools once wrote it, and nobody looks now."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else None
    told = config.get(_FORMER_KEY) if isinstance(config, dict) else None
    found = told.get("quantization_config", told) if isinstance(told, dict) else None
    return isinstance(found, dict) and _QUANTIZES.search(json.dumps(found)) is not None


def _recipe_pattern(name: str) -> str:
    return next((pattern for pattern in RECIPES if fnmatch(name, pattern)), "")


def _is_code(name: str, header: Header) -> bool:
    """Whether a tensor holds codes by its format, or by its name that of a weight; a model may have other integers."""
    if header.dtype in FLOATS or is_harmless(name, header):
        return False
    return header.dtype not in _COUNTS or bool(_WEIGHT.search(name))


def _refusal(folder: Path, names: Sequence[str]) -> str:
    """What some telling names look like, and what to do, in a line."""
    trace = trace_of(names[0])
    assert trace is not None
    those = "tensor" if len(names) == 1 else "tensors"
    return (
        f"{folder} holds {len(names):,} {those} that its model has no place for, such as {names[0]}: it looks like "
        f"{trace.what}{_by(folder)}; {trace.mend}"
    )


def _by(folder: Path) -> str:
    recipe = recipe_in(folder)
    return "" if recipe is None else f", by {RECIPES[_recipe_pattern(recipe)]} ({recipe})"
