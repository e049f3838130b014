"""`compresskit merge`: make a plain checkpoint of an overlay, or of int8 weights."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import convert
from compresskit.methods.job import MergeConfig, MergeOptions


@with_flags()
def merge(options: MergeOptions, config: MergeConfig) -> None:
    """Fold a mask or an adapter, or unpack int8, into a plain checkpoint that from_pretrained opens; same logits."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    convert(Work(Job("merge", options, config)))
