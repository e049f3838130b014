"""Which models read spans here: those that need no more than the tokens of a window, and which of them are padding."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from transformers import MODEL_FOR_QUESTION_ANSWERING_MAPPING, PretrainedConfig, PreTrainedTokenizerFast

from compresskit import console
from compresskit.errors import InputError

# Types of models with a span head that are not read from a window of any length: why not.
UNREADABLE: Mapping[str, str] = {
    "layoutlmv2": "reads pictures of pages beside their text",
    "lxmert": "reads pictures beside a text",
    "mra": "reads windows of certain lengths alone",
    "reformer": "learns from windows of certain lengths alone",
}


def check_readable(config: PretrainedConfig) -> None:
    """InputError where the model of a configuration needs more than a window of text; nothing is loaded."""
    kind = config.model_type
    if kind in UNREADABLE:
        raise InputError(f"a model of type {kind} {UNREADABLE[kind]}, so that it is not taken here; take another one")
    if kind == "xmod" and getattr(config, "default_language", None) is None:
        known = ", ".join(map(str, config.languages))
        raise InputError(
            "a model of type xmod reads one language at a time, and its config.json names none; "
            f"set default_language there to one of its own ({known})"
        )


def check_separators(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> None:
    """InputError where a Longformer, which finds the question by three separators, would not find it."""
    if config.model_type == "longformer" and tokenizer("a", "b")["input_ids"].count(config.sep_token_id) != 3:
        raise InputError(
            "a model of type longformer finds the question by three separators, and its tokenizer does not set them; "
            "copy the files of RoBERTa's tokenizer there, and give its sep_token_id in config.json"
        )


def warn_of_types(folder: str, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> None:
    """Warn where a model tells question and context apart by two types of tokens, and its tokenizer gives one alone.

    Such a model answers far worse, and nothing else tells.
    """
    if (getattr(config, "type_vocab_size", None) or 0) < 2 or not reads_types(config):
        return
    if max(tokenizer("a", "b").get("token_type_ids", [0])) == 0:
        held_back = "token_type_ids" not in tokenizer.init_kwargs.get("model_input_names", ["token_type_ids"])
        mend = (
            "add token_type_ids to model_input_names in tokenizer_config.json"
            if held_back
            else "name the tokenizer of its base as tokenizer_class in tokenizer_config.json, such as BertTokenizer"
        )
        _warn_once(
            f"the model in {folder} knows two types of tokens, for question and context, and its tokenizer gives one; "
            f"if it learned from two, {mend}"
        )


@functools.cache
def _warn_once(message: str) -> None:
    console.warn(message)


def reads_types(config: PretrainedConfig) -> bool:
    """Whether the reader of a configuration tells question and context apart by types of tokens.

    A tokenizer may give types to a model that takes none (Llama), or that knows one alone (RoBERTa).
    """
    reader: Any = MODEL_FOR_QUESTION_ANSWERING_MAPPING[type(config)]
    return (
        "token_type_ids" in inspect.signature(reader.forward).parameters
        and getattr(config, "type_vocab_size", None) != 1
    )
