"""`compresskit merge`: fold an overlay into a plain checkpoint."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import show_result
from compresskit.methods.job import MergeOptions


@with_flags()
def merge(options: MergeOptions) -> None:
    """Fold a mask or an adapter into a plain checkpoint that from_pretrained opens, with the same logits."""
    from compresskit.methods.job import Job, MergeConfig
    from compresskit.methods.run import run

    show_result(run(Job("merge", options, MergeConfig())))
