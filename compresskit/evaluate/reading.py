"""What an evaluation reads of this machine's files, so that nothing is written over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from compresskit.data.load import local_files
from compresskit.evaluate.answer_files import null_odds_of
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.kinds import places
from compresskit.models.source import Source


def read_by(refs: Iterable[str], data_ref: str, settings: EvalSettings) -> Iterator[Path]:
    """The checkpoints and files of answers `refs`, what they stand on, all data, and files of tasks and of a prompt."""
    for ref in refs:
        yield from checkpoint_places(ref)
    for data in (data_ref, settings.tune_data, settings.shots_data):
        yield from local_files(data) if data is not None else ()
    yield from (Path(task) for task in settings.harness)
    if settings.prompt_template is not None and settings.prompt_template.file is not None:
        yield settings.prompt_template.file


def checkpoint_places(ref: str) -> list[Path]:
    """What is read of a checkpoint (a folder, a file of answers); nothing of what is on the Hub, or built in."""
    path = Path(ref)
    if path.is_dir():
        return places(Source(ref, path))
    return [path, *(beside for beside in [null_odds_of(path)] if beside is not None)]
