"""`compresskit merge`: make a plain checkpoint of an overlay, or of int8 weights."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import show_result
from compresskit.methods.job import MergeOptions


@with_flags()
def merge(options: MergeOptions) -> None:
    """Fold a mask or an adapter, or unpack int8, into a plain checkpoint that from_pretrained opens; same logits."""
    from compresskit.methods.job import Job, MergeConfig
    from compresskit.methods.run import run

    show_result(run(Job("merge", options, MergeConfig())))
