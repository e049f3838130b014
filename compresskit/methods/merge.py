"""`merge`: fold an overlay into its base, to a plain checkpoint that every loader opens."""

from __future__ import annotations

import time
from pathlib import Path

from compresskit.checkpoint.manifest import Step
from compresskit.checkpoint.store import staged_folder
from compresskit.errors import InputError
from compresskit.models.registry import load_source
from compresskit.models.source import base_of, resolve

METHOD = "merge"


def apply(ref: str, output: Path, *, overwrite: bool = False) -> Path:
    """Write `ref` (an overlay) as a plain fp32 checkpoint with the same logits; its folder.

    Raises InputError where `ref` is no overlay or its base is missing or another one, UsageError where `output` is
    taken.
    """
    started = time.perf_counter()
    source = resolve(ref)
    with staged_folder(output, overwrite=overwrite) as folder:
        loaded = load_source(source)
        if loaded.manifest is None or loaded.manifest.kind not in ("mask", "adapter"):
            raise InputError(f"{ref} is no overlay; a plain checkpoint needs no merging")
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        step = Step(METHOD, {"checkpoint": ref}, 0, None, time.perf_counter() - started, {})
        loaded.manifest.add(step, kind="full", base=base_of(source, output)).write(folder)
    return output
