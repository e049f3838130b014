"""What a step was made from, found again: base, teacher and data, each told by the hash that the manifest holds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from compresskit.checkpoint.manifest import Base, Step
from compresskit.checkpoint.store import sha256_weights
from compresskit.data import Split
from compresskit.data.load import load as load_data
from compresskit.errors import CompresskitError, InputError, MissingError, UsageError
from compresskit.models.source import Source, resolve


def base_again(checkpoint: Path, base: Base, named: str, given: str | None, mend: str) -> tuple[str, str | None]:
    """The checkpoint with the weights of a `base`: its reference, and of a model of the Hub its revision.

    It is the `given` one, or the one that was `named` then, or lies where the manifest of `checkpoint` says. Raises
    InputError, with the `mend`, where none is there that has these weights.
    """
    if given is not None:
        source = resolve(given)
        if (found := sha256_weights(source.path)) != base.sha256:
            raise InputError(f"--base {given} has weights sha256 {found}, and it was made from {base.sha256}; {mend}")
        return given, source.revision
    if base.revision is not None:
        return base.ref, _on_the_hub(base, mend)
    beside = os.path.normpath(checkpoint / base.ref)
    other = ""
    for ref in dict.fromkeys((named, beside)):
        if os.path.isdir(ref):
            if (found := sha256_weights(Path(ref))) == base.sha256:
                return ref, None
            other = other or f"{ref} has weights sha256 {found}, and it was made from {base.sha256}"
    raise InputError(f"{other or f'there is no {beside}, which it was made from'}; {mend}")


def _on_the_hub(base: Base, mend: str) -> str | None:
    """The revision of a base of the Hub, once its weights are those of then."""
    try:
        found = sha256_weights(resolve(base.ref, base.revision).path)
    except (InputError, MissingError) as error:
        raise type(error)(f"{str(error).partition(';')[0]}; {mend}") from error
    if found != base.sha256:
        raise InputError(f"{base.ref} has weights sha256 {found}, and it was made from {base.sha256}; {mend}")
    return base.revision


def history_again(named: str, given: str | None, steps: Sequence[Step]) -> str:
    """The checkpoint of which a manifest holds no hash, told by the `steps` that made it.

    Raises InputError, with the mend, where it is not there, or has another history.
    """
    ref = given or named
    mend = "give what it was made from as --base PATH"
    try:
        source = resolve(ref)
    except CompresskitError as error:
        raise type(error)(f"{str(error).partition(';')[0]}; {mend}") from error
    if source.manifest is None or list(source.manifest.steps) != list(steps):
        raise InputError(f"{ref} did not come to be by the steps that its manifest tells of; {mend}")
    return ref


def check_built(source: Source, base: Base | None) -> None:
    """InputError where a model that this version builds has other random weights than the one of then."""
    if base is None or base.ref != source.ref:
        return
    if (found := sha256_weights(source.path)) != base.sha256:
        raise InputError(
            f"{source.ref} is built with weights sha256 {found} here, and had {base.sha256} then; "
            "take the package versions that the manifest names"
        )


def teacher_again(step: Step, given: str | None) -> str:
    """The teacher of a step, whose weights are those of then. Raises InputError, with the mend, where it is not."""
    named, wanted = given or str(step.config["teacher"]), step.metrics.get("teacher_sha256")
    mend = "give it as --teacher PATH"
    try:
        found = sha256_weights(resolve(named).path)
    except CompresskitError as error:
        raise type(error)(f"the teacher: {str(error).partition(';')[0]}; {mend}") from error
    if wanted is not None and found != wanted:
        raise InputError(f"the teacher {named} has weights sha256 {found}, and taught with {wanted}; {mend}")
    return named


class Data:
    """Data sets as steps read them, found by their hashes: those `given` on the command line first.

    Raises InputError where one that is given is read by none of the steps.
    """

    def __init__(self, given: Sequence[str], steps: Sequence[Step]) -> None:
        self._given = {_hash(ref, "train"): ref for ref in given}
        read = [(step.data.sha256, step.data.path) for step in steps if step.data is not None]
        if given and not read:
            raise UsageError(f"--train-data {given[0]} has no effect where nothing is read; leave it out")
        for digest, ref in self._given.items():
            if digest not in dict(read):
                told = " and ".join(f"{path} with {known}" for known, path in dict.fromkeys(read))
                raise InputError(f"--train-data {ref} has sha256 {digest}, and was read then: {told}")

    def again(self, step: Step) -> str | None:
        """The data of a step; None where it read none. Raises InputError, with the mend, where they are not there."""
        if step.data is None:
            return None
        if (known := self._given.get(step.data.sha256)) is not None:
            return known
        return found_again(step.data.path, step.data.sha256, "train", "--train-data")


def found_again(ref: str, wanted: str | None, split: Split, flag: str) -> str:
    """The reference of a data set that has the hash of then, where that is known.

    Raises InputError, with the mend, where it is not there, or has another.
    """
    mend = f"give the data of then as {flag} PATH"
    try:
        found = _hash(ref, split)
    except (InputError, MissingError) as error:
        raise type(error)(f"{str(error).partition(';')[0]}; {mend}") from error
    if wanted is not None and found != wanted:
        raise InputError(f"{shlex.quote(ref)} has sha256 {found} now, and had {wanted} then; {mend}")
    return ref


def _hash(ref: str, split: Split) -> str:
    return load_data(ref, split).info.sha256
