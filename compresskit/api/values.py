"""Keywords of a call as the values of options: what was given, checked, in the types that the dataclasses take."""

from __future__ import annotations

import numbers
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compresskit.errors import UsageError
from compresskit.options import Known, fault, nearest_or_all, shown

ELSEWHERE: Mapping[str, str] = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulate",
    "warmup_ratio": "lr_warmup",
    "warmup_steps": "lr_warmup",
    "optim": "optimizer",
    "bf16": "dtype",
    "torch_dtype": "dtype",
    "report_to": "log",
    "output_dir": "output",
    "overwrite_output_dir": "overwrite",
    "resume_from_checkpoint": "resume",
    "train_dataset": "train_data",
    "eval_dataset": "eval_data",
    "max_seq_length": "max_length",
    "doc_stride": "stride",
    "n_best_size": "n_best",
    "top_k": "n_best",
    "num_beams": "beams",
    "null_score_diff_threshold": "null_threshold",
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "init_lora_weights": "init",
    "load_in_4bit": "bits",
    "load_in_8bit": "bits",
}
"""What transformers, PEFT and the scripts for SQuAD call a keyword, and what it is called here."""


class KeywordError(UsageError, TypeError):
    """A call has a keyword that its function does not take; the message names the nearest that it does."""


def values_of(call: str, known: Mapping[str, Known], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the options `known` that were given as `keywords` of `ck.<call>`; what is None was not.

    Raises KeywordError for an unknown keyword, UsageError for a value that cannot be, naming the keyword.
    """
    for name in keywords:
        if name not in known:
            own = ELSEWHERE.get(name)
            mend = f"here it is {own}" if own in known else nearest_or_all(name, known)
            raise KeywordError(f"ck.{call} takes no keyword {name}; {mend}")
    return {name: _value(known[name], value) for name, value in keywords.items() if value is not None}


def reference(value: object, name: str = "model") -> str:
    """What the command line would be given for a checkpoint or for data: a text, a path, a `Checkpoint`.

    Raises UsageError for anything else.
    """
    ref = getattr(value, "ref", None)
    if isinstance(ref, str):
        return ref
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise UsageError(f"{name} is {type(value).__name__}; give a name, a path or a Checkpoint")
    return value


def of_torch(value: Any) -> Any:
    """The name of a dtype or a device of torch; anything else as it is."""
    torch = sys.modules.get("torch")  # who has such an object has imported it
    is_torchs = torch is not None and isinstance(value, (torch.dtype, torch.device))
    return str(value).removeprefix("torch.") if is_torchs else value


def _value(known: Known, value: Any) -> Any:
    """The value of one option, as its dataclass takes it; UsageError where it cannot be."""
    if known.is_list:
        entries = [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable) else value
        made: Any = tuple(_entry(known, entry) for entry in entries)
    else:
        made = _entry(known, value)
    if (problem := fault(known, made)) is not None:
        is_number = known.kind in (int, float, bool) and not known.is_list
        told = repr(made) if is_number and isinstance(made, str) else shown(made)  # '8' is not 8
        raise UsageError(f"{known.name} {told} {problem}")
    return made


def _entry(known: Known, value: Any) -> Any:
    value = of_torch(value)
    if known.option.parse is not None and isinstance(value, str | os.PathLike):
        try:
            return known.option.parse(os.fspath(value))
        except ValueError as error:
            mend = known.option.hint or f"give {known.option.metavar}"
            raise UsageError(f"{known.name} {shown(value)} cannot be read; {mend}") from error
    if known.kind is Path and isinstance(value, str | os.PathLike):
        return Path(value)
    if known.kind is str and (isinstance(value, os.PathLike) or hasattr(value, "ref")):
        return reference(value, known.name)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):  # of numpy too, as sweeps have them
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value
