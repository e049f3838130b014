"""`compresskit merge`: fold an overlay into a plain checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compresskit.cli import options as flags


def merge(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A mask overlay.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.", show_default="CKPT-merged")
    ] = None,
    overwrite: flags.Overwrite = False,
) -> None:
    """Fold a mask into a plain checkpoint that from_pretrained opens, with the same logits."""
    from compresskit import console
    from compresskit.methods import merge as method

    target = output or Path(checkpoint.rstrip("/") + "-merged")
    method.apply(checkpoint, target, overwrite=overwrite)
    console.info(f"{target} is ready")
