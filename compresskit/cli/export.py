"""`compresskit export`: a checkpoint in a format that other programs run."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import convert
from compresskit.methods.export.config import ExportConfig, ExportOptions


@with_flags()
def export(options: ExportOptions, config: ExportConfig) -> None:
    """Write a model as ONNX graphs, or a Mamba's adapter for plain PEFT; compared with what it was made from."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    convert(Work(Job("export", options, config)))
