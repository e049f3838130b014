"""What lies in a checkpoint's folder: configuration, tokenizer, weights; and what is wrong where one does not open."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from compresskit import console, packages
from compresskit.checkpoint.reading import read_text
from compresskit.checkpoint.store import indexed_names, read_json, read_safetensors_metadata, weight_files
from compresskit.errors import CompresskitError, InputError, MissingError, is_panic

# Loading reads files: it asks no Hub, and runs (or offers to run) no code that a checkpoint brings along.
NOTHING_FOREIGN: Mapping[str, bool] = {"local_files_only": True, "trust_remote_code": False}

MOST_PARTS = 100_000
"""Layers, heads, labels or experts of a model, of which its configuration may make lists."""

# Weights that nobody here reads: what they are, by their file names.
FOREIGN_WEIGHTS: Mapping[str, str] = {
    "*.gguf": "GGUF weights of llama.cpp; give the checkpoint that they were made from",
    **dict.fromkeys(
        ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt"),
        "pickled weights, which can run any code; convert them where you trust them: open the folder with "
        "from_pretrained and write it with save_pretrained",
    ),
    "*.h5": "TensorFlow weights; convert them with transformers 4: from_pretrained(…, from_tf=True), save_pretrained",
    "*.ckpt.index": "TensorFlow weights; convert them with the script of transformers 4 for their model",
    "*.msgpack": "Flax weights; convert them with transformers 4: from_pretrained(…, from_flax=True), save_pretrained",
}


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a checkpoint; InputError where there is none, or transformers cannot read it."""
    if not os.path.lexists(folder / "config.json"):
        raise InputError(f"{folder} is not a checkpoint: it has no config.json{_instead(folder)}")
    _check_not_mamba_ssm(folder)
    if (folder / "generation_config.json").is_file():
        # Transformers writes whatever stands there into what a method leaves.
        read_json(folder / "generation_config.json")
    with opening(f"{folder}/config.json cannot be read", "it is damaged, or of a model that this transformers lacks"):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, **NOTHING_FOREIGN)
    config.return_dict = True  # a model's outputs are asked for by their names
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0  # the same result in pieces, which no text of another length divides into
    if getattr(config, "transformers_weights", None) is not None:
        # Transformers would open the file that stands there, which may lie below the folder and is in no hash.
        raise InputError(
            f"{folder}/config.json names its weights (transformers_weights); call them model.safetensors and remove it"
        )
    return config


def _raw(path: Path) -> dict[str, Any]:
    """The values of a configuration; none where it is no JSON object, of which transformers tells.

    Raises InputError where it cannot be read, names code of the Hub, or has so many layers, labels or the like that
    their list would fill the memory: transformers makes it while it reads.
    """
    try:
        found = json.loads(read_text(path))  # in which there may be infinities, such as a Mamba's limits
    except (ValueError, RecursionError):
        return {}
    values = found if isinstance(found, dict) else {}
    parts = (values, *(part for part in values.values() if isinstance(part, dict)))
    for key, value in ((key, value) for part in parts for key, value in part.items()):
        if key.endswith("_implementation") and "/" in str(value):
            # The package `kernels`, where it is installed, would fetch that from the Hub and run it.
            raise InputError(f"{path} names code of the Hub ({key} {str(value)!r}), which never runs; take that out")
        counts = key.startswith("num_") or "layer" in key
        if counts and isinstance(value, int | float) and value > MOST_PARTS:
            raise InputError(f"{path} says {key} {value:g}, and no model has more than {MOST_PARTS:,}; copy it again")
    return values


def _check_not_mamba_ssm(folder: Path) -> None:
    """InputError for a checkpoint in the format of the package mamba-ssm, or a configuration that cannot be read."""
    if _is_mamba_ssm(_raw(folder / "config.json")):
        raise InputError(
            f"{folder} is in mamba-ssm's own format, which transformers does not open; the Hub has such models "
            "converted (state-spaces/mamba-130m as state-spaces/mamba-130m-hf), and docs/reference/mamba.md tells how "
            "to convert others"
        )


def _is_mamba_ssm(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of the package mamba-ssm, which names no type of model.

    Where the folder is called after a type, transformers takes any configuration for one of that type.
    """
    return "model_type" not in config and {"d_model", "n_layer"} <= config.keys()


def _instead(folder: Path) -> str:
    """What a folder without config.json holds in its place, and so what to do."""
    if folder.name == "onnx" and (folder.parent / "config.json").is_file():
        return f"; the folder that it lies in has one: give {folder.parent}"
    inner = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if inner:
        return f"; its folder {inner[0]} has one: give {folder / inner[0]}"
    return _foreign_weights(folder) or "; give the folder that save_pretrained wrote"


def _foreign_weights(folder: Path) -> str:
    return next((f"; it holds {what}" for name, what in FOREIGN_WEIGHTS.items() if any(folder.glob(name))), "")


def read_tokenizer(folder: Path, positions: int | None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a checkpoint, for inputs of at most `positions` tokens (None: as many as it says itself).

    Raises InputError where there is none, or its settings are damaged.
    """
    mend = "copy the files of its base's tokenizer there"
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        read_json(settings)  # transformers keeps whatever stands there, and it is written into what a method leaves
    if not (folder / "tokenizer.json").exists() and any(folder.glob("*.model")):  # transformers would name another
        packages.require("sentencepiece", "google.protobuf", what=f"{folder} has no tokenizer.json, and its *.model")
    # The library in Rust prints by itself, and some faults of a file show only when the tokenizer is used.
    with console.silenced(), opening(f"{folder} holds no tokenizer", mend):
        tokenizer = AutoTokenizer.from_pretrained(folder, **NOTHING_FOREIGN)
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            tokenizer.backend_tokenizer.encode("a", "b")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"{folder} has no fast tokenizer (tokenizer.json); convert it with the tokenizers library")
    # Without any file, transformers makes an empty vocabulary, in which every word is unknown.
    if not has_tokenizer(folder, tokenizer):
        raise InputError(f"{folder} holds no tokenizer (no tokenizer.json, no vocabulary); {mend}")
    if "" in (getattr(tokenizer, name, None) for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES):
        raise InputError(f"{folder} names an empty text as a special token; {mend}")
    if not isinstance(tokenizer.model_max_length, int | float):
        raise InputError(f"{settings} has a model_max_length that is no number; {mend}")
    if positions is not None:
        tokenizer.model_max_length = positions
    return tokenizer


def check_tokenizer(
    folder: Path, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig, *, padding: bool = True
) -> None:
    """InputError where a model of this configuration cannot use the tokenizer: more tokens, or no `padding`.

    A token of padding that the model never reads may be one more than it knows.
    """
    mend = "copy the files of its own tokenizer there"
    known = getattr(config, "vocab_size", None)
    unread = set() if padding else {tokenizer.pad_token} - {tokenizer.eos_token}
    tokens = max((number for token, number in tokenizer.get_vocab().items() if token not in unread), default=-1) + 1
    if known is not None and tokens > known:
        raise InputError(f"{folder} holds the tokenizer of another model ({tokens:,} tokens, {known:,} known); {mend}")
    if padding and tokenizer.pad_token_id is None:
        raise InputError(f"{folder} holds a tokenizer without padding (is tokenizer_config.json not there?); {mend}")


def has_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a folder holds the tokenizer's vocabulary in any of the forms that its class reads."""
    return any((folder / name).is_file() for name in ("tokenizer.json", *tokenizer.vocab_files_names.values()))


def check_weights(folder: Path) -> None:
    """InputError where a folder has no safetensors weights, a part of them is not there, or a file is not whole."""
    files = weight_files(folder)
    for index in sorted(folder.glob("*.safetensors.index.json")):
        lost = sorted(indexed_names(index) - {file.name for file in files})
        if lost:
            raise InputError(f"{folder} lacks {lost[0]}, which {index.name} names; copy or download it again")
    if not files:
        raise InputError(
            f"{folder} holds no safetensors weights{_foreign_weights(folder) or '; convert the checkpoint first'}"
        )
    for file in files:
        read_safetensors_metadata(file)


@contextlib.contextmanager
def opening(what: str, mend: str) -> Iterator[None]:
    """Turn whatever a library says of a foreign or damaged file into an InputError: `what (reason); mend`.

    A missing package is a MissingError; running out of memory, which is not the file's fault, passes as it is.
    """
    try:
        yield
    except (CompresskitError, MemoryError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise MissingError(f"{what}: a package is not here ({first_line(error)}); {packages.mend_of(error)}") from error
    except BaseException as error:  # a file that anybody wrote can make a library raise anything
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise InputError(f"{what} ({first_line(error)}); {mend}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says (two where it ends in a colon), with its class where that would not tell."""
    first, *more = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = f"{first} {more[0]}" if first.endswith(":") and more else first
    if "ignore_mismatched_sizes" in text:
        return "its tensors have other shapes than config.json says"
    return text if isinstance(error, OSError | ValueError) and text else f"{type(error).__name__}: {text}"
