"""Bring a checkpoint to the Hub: look at everything, write the card, and put all files there in one commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit import console
from compresskit.checkpoint.reading import read_bytes
from compresskit.errors import InputError, UsageError
from compresskit.models.source import Source, check_own_files
from compresskit.publish.files import README, Files, files_of
from compresskit.publish.hub import api, asking, check_base
from compresskit.publish.options import PushOptions
from compresskit.publish.origin import origin_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from compresskit.evaluate.row import Report
    from compresskit.publish.card import Subject

_WEIGHTS = (".safetensors", ".onnx", ".onnx_data", ".onnx.data")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to be pushed: the `files` without the card, and the `card`."""

    subject: Subject
    files: Files
    card: str


def packed(options: PushOptions) -> Parcel:
    """Look at a checkpoint, and write its card; nothing is sent.

    Raises InputError for a folder that is none or is damaged, and a report that is of other files; UsageError for an
    overlay whose base is a folder.
    """
    from compresskit.models.kinds import kind_of
    from compresskit.publish.card import Subject, card

    source = _source(options.checkpoint)
    kind = kind_of(source)
    check_own_files(source, every=True)
    origin = origin_of(source, kind, options.base_ref, options.license)
    family = source.manifest.family if source.manifest is not None else _family(source)
    subject = Subject(options.repo, source, kind, family, origin, _packages(source, kind.packages(source.path)))
    if options.report is not None:
        subject = replace(subject, measured=_measured(options.report, options.row, source))
    return Parcel(subject, files_of(source, origin), card(subject))


def _source(ref: str) -> Source:
    if not os.path.isdir(ref):
        raise InputError(f"there is no folder {ref}; give the folder of a checkpoint")
    return Source(ref, Path(ref))


def _family(source: Source) -> str:
    """The family of a checkpoint of another tool, by its configuration, or by that of the base of PEFT's adapter."""
    from compresskit.models.families import family_of
    from compresskit.models.kinds import base_source

    while (base := base_source(source)) is not None:
        source = base
    return family_of(source).name


def _packages(source: Source, own: tuple[str, ...]) -> tuple[str, ...]:
    """The modules that open it: those of its kind, and of an adapter's base that bitsandbytes packed."""
    steps = source.manifest.steps if source.manifest is not None else ()
    on_packed = any(step.method.startswith("quantize/bnb") for step in steps)
    return own or (("bitsandbytes",) if on_packed else ())


def _measured(path: Path, name: str | None, source: Source) -> Report:
    """The report with the checkpoint's row; InputError where it has none, or one of other files."""
    from compresskit.evaluate.combine import read_report
    from compresskit.models.kinds import fingerprint
    from compresskit.publish.card import measured_row

    report = read_report(path)
    own = os.path.realpath(source.path)
    rows = [each for row in report.rows for each in row.runs or (row,)]  # a mean is of no checkpoint
    found = [row for row in rows if (os.path.realpath(row.path) == own if name is None else row.name == name)]
    if not found:
        known = ", ".join(row.name for row in rows)
        raise InputError(f"{path} has no row of {name or source.path}; name one with --row ({known})")
    row = found[0]
    if row.error is not None:
        raise InputError(f"{path}: {row.name} was not scored ({row.error}); measure it again")
    if row.sha256 is not None and row.sha256 != fingerprint(source.ref):
        raise InputError(f"{path}: {row.name} was measured on other files than {source.path} holds; measure it again")
    return measured_row(report, row)


def push(options: PushOptions, parcel: Parcel) -> str:
    """Put a parcel on the Hub, in one commit that is there as a whole or not at all; its address.

    Raises what `hub.asking` raises, and UsageError where a README.md or other weights are in the way.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # it is documented there

    if console.is_quiet():
        disable_progress_bars()
    own = parcel.subject.source.path / README
    if options.readme is None and own.is_file():
        raise UsageError(_readme_in_the_way(str(own)))
    client = api()
    origin = parcel.subject.origin
    if origin.moved and origin.stands_on is not None and origin.sha256 is not None:
        check_base(client, origin.stands_on, origin.revision, origin.sha256)
    there = _there(client, options)
    _check_way(there, options, parcel.files)
    operations = [CommitOperationAdd(name, each) for name, each in sorted(parcel.files.items())]
    readme = _readme(options, own, parcel.card, README in there)
    operations += [] if readme is None else [CommitOperationAdd(README, readme)]
    with asking(options.repo):
        client.create_repo(options.repo, private=options.private or None, exist_ok=True)
        if options.revision is not None:
            client.create_branch(options.repo, branch=options.revision, exist_ok=True)
        message = options.message or f"{parcel.subject.kind.name} checkpoint, by compresskit"
        done = client.create_commit(options.repo, operations, commit_message=message, revision=options.revision)
    return str(done.commit_url)


def _there(client: HfApi, options: PushOptions) -> Sequence[str]:
    """The files that the model has on the Hub; none where there is no such model, or no such branch.

    Raises UsageError where it is public and was to be private.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    with asking(options.repo):
        try:
            known = client.model_info(options.repo)
            names = client.list_repo_files(options.repo, revision=options.revision)
        except RevisionNotFoundError:
            names = []
        except RepositoryNotFoundError as error:
            if getattr(error.response, "status_code", 404) == 401:
                raise
            return []
    if options.private and not known.private:
        raise UsageError(f"{options.repo} is there, and public; leave --private out, or change it on its page")
    return names


def _check_way(there: Sequence[str], options: PushOptions, files: Files) -> None:
    """UsageError where the model on the Hub holds what would stand beside, or be lost."""
    others = [name for name in there if name.endswith(_WEIGHTS) and name not in files and "/" not in name]
    if others:
        raise UsageError(
            f"{options.repo} holds {others[0]}, which this checkpoint has not; delete it there, or push to another name"
        )
    if options.readme is None and README in there:
        raise UsageError(_readme_in_the_way(f"{README} of {options.repo}"))


def _readme_in_the_way(which: str) -> str:
    return f"{which} is there; --readme keep leaves it as it is, --readme new puts the card in its place on the Hub"


def _readme(options: PushOptions, own: Path, card: str, is_there: bool) -> bytes | None:
    """What README.md becomes on the Hub; None where that of the Hub stays."""
    if options.readme == "keep":
        if own.is_file():
            return read_bytes(own)
        if is_there:
            return None
    return card.encode()
