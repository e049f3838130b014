"""`compresskit data convert`: a data set written anew, clean."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass
from pathlib import Path

from compresskit.cli.flags import with_flags
from compresskit.data import Split
from compresskit.data.mending import BadData
from compresskit.errors import UsageError
from compresskit.options import check, like, option, refuse
from compresskit.text import counted
from compresskit.training.arguments import TrainingOptions


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What is read, and where it is written."""

    data: str = option(
        MISSING, "A file of questions, a folder, a Hub data set id, or demo.", metavar="IN", argument=True
    )
    output: Path = option(
        MISSING,
        "SQuAD 2.0 JSON, plain or packed, or Parquet: a name that ends in .json, .json.gz or .parquet.",
        metavar="OUT",
        argument=True,
    )
    split: Split | None = option(None, "Which split, where IN has several.", shown="train")
    bad_data: BadData = like(TrainingOptions, "bad_data", panel=None)
    overwrite: bool = option(False, "Replace OUT.")

    def __post_init__(self) -> None:
        check(self)
        from compresskit.data.load import has_splits

        if not has_splits(self.data):
            refuse(self, ("split",), "with a file, which is read as a whole")

    def check_output(self) -> None:
        """UsageError where OUT is there and is to stay, is read, or cannot be written."""
        from compresskit.checkpoint.outputs import check_file
        from compresskit.data.convert import check_ending
        from compresskit.data.load import local_files

        check_ending(self.output)
        check_file(self.output, local_files(self.data), flag="OUT")
        if os.path.exists(self.output) and not self.overwrite:
            raise UsageError(f"OUT {self.output} is there already; pass --overwrite, or choose another name")


@with_flags()
def convert_data(options: ConvertOptions) -> None:
    """Write a data set as clean SQuAD 2.0 JSON or as Parquet: in one form, with an id everywhere and offsets mended."""
    from compresskit import console
    from compresskit.data.convert import convert
    from compresskit.data.load import load

    options.check_output()
    examples = load(options.data, options.split or "train", options.bad_data, to_learn=True)
    convert(examples, options.output)
    console.info(f"{options.output} holds {counted(len(examples), 'question')}")
