"""A checkpoint as an object: where it lies, how it came to be, and what can be done with it."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from compresskit.api.surroundings import as_found
from compresskit.text import printable

if TYPE_CHECKING:
    from typing import Unpack

    from compresskit.api.keywords import AnswerKeywords, MeasureKeywords
    from compresskit.api.reading import Device, Dtype, Reader
    from compresskit.api.report import Report
    from compresskit.checkpoint.manifest import Base, KindName, Manifest, Step
    from compresskit.evaluate.asking import Answer
    from compresskit.models.kind import Matrix
    from compresskit.models.source import Source

# What is told of a checkpoint's figures: per cent, but for the loss.
_SHOWN = ("em", "f1", "sparsity", "train_loss")


class Checkpoint:
    """A checkpoint of any kind, by its folder, an alias or a Hub id.

    It stands wherever a model, a teacher or a baseline is asked for, and is a path for whoever takes one. Its manifest
    is read when it is made, its weights only when it is asked something.

    Raises UsageError for an unknown name, InputError for a folder that is no checkpoint or a broken manifest,
    MissingError where the Hub cannot be reached.

    Example:
        >>> half = ck.Checkpoint("runs/half")
        >>> half.kind, half.metrics["sparsity"]
        ('mask', 50.0)
    """

    def __init__(self, ref: str | os.PathLike[str]) -> None:
        from compresskit.models.kinds import kind_of
        from compresskit.models.source import resolve

        with as_found():
            self._source: Source = resolve(os.fspath(ref))
            self._kind: KindName = kind_of(self._source).name
            self._manifest = self._source.manifest
            if self._manifest is None and self._kind == "full" and not os.path.lexists(self.path / "config.json"):
                from compresskit.models.folder import read_config

                read_config(self.path)  # raises, and says what lies there instead

    @property
    def ref(self) -> str:
        """What it was named by: a folder, an alias or a Hub id."""
        return self._source.ref

    @property
    def path(self) -> Path:
        """Its folder; that of the Hub's cache for a model of the Hub."""
        return self._source.path

    @property
    def manifest(self) -> Manifest | None:
        """How it came to be (`compresskit.json`); None for a checkpoint of another tool."""
        return self._manifest

    @property
    def kind(self) -> KindName:
        """How it is stored: full, mask, adapter, quantized or onnx."""
        return self._kind

    @functools.cached_property
    def family(self) -> str:
        """Which models it is of: encoder, seq2seq, causal or lstm. Raises InputError where it is of none."""
        if self.manifest is not None:
            return self.manifest.family
        from compresskit.models.families import family_of

        with as_found():
            return str(family_of(self._source).name)

    @property
    def base(self) -> Base | None:
        """What it stands on or was made from; None where it stands alone."""
        return None if self.manifest is None else self.manifest.base

    @property
    def steps(self) -> Sequence[Step]:
        """What was done to it, the oldest first; none for a checkpoint of another tool."""
        return () if self.manifest is None else self.manifest.steps

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The figures of its last step: `em` and `f1` where it was scored, `sparsity`, `train_loss`, …; per cent."""
        return self.steps[-1].metrics if self.steps else {}

    @property
    def bytes(self) -> int:
        """The bytes of its folder."""
        from compresskit.evaluate.measure import disk_bytes

        with as_found():
            return disk_bytes(self.path)

    def load(self, *, device: Device = "auto", dtype: Dtype = "float32") -> Reader:
        """Open it, to be asked many questions. See `ck.load`."""
        from compresskit.api.reading import load

        return load(self, device=device, dtype=dtype)

    def predict(self, question: str, context: str, **options: Unpack[AnswerKeywords]) -> Answer:
        """Answer one question about one passage. It is opened at the first one, and stays in memory with this object.

        Raises what `ck.predict` raises.
        """
        return self._reader.predict(question, context, **options)

    @functools.cached_property
    def _reader(self) -> Reader:
        return self.load()

    def evaluate(self, data: str | os.PathLike[str], **options: Unpack[MeasureKeywords]) -> Report:
        """Measure it on `data`, beside a `baseline` where one is given. Raises what `ck.evaluate` raises."""
        from compresskit.api.evaluating import evaluate

        return evaluate([self], data=data, **options)

    def __fspath__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and self.path.absolute() == other.path.absolute()

    def __hash__(self) -> int:
        return hash(self.path.absolute())

    def __repr__(self) -> str:
        return f"Checkpoint({self.ref!r}: {self._told})"

    @property
    def _told(self) -> str:
        """Kind, method and figures in a few words."""
        known = [(name, self.metrics.get(name)) for name in _SHOWN]
        figures = [f"{name} {value:.4g}" for name, value in known if isinstance(value, int | float)]
        method = [] if self.manifest is None else [self.manifest.family, self.manifest.method]
        return ", ".join([self.kind, *method, *figures])

    def _repr_html_(self) -> str:
        """A small table for a notebook."""
        lines = [("checkpoint", self.ref), ("kind", self.kind)]
        if self.manifest is not None:
            lines += [("family", self.manifest.family), ("created", self.manifest.created)]
        if self.base is not None:
            lines.append(("stands on" if self.kind in ("mask", "adapter") else "made from", self.base.ref))
        for number, step in enumerate(self.steps, start=1):
            data = "" if step.data is None else f" on {step.data.path} ({step.data.questions:,} questions)"
            lines.append((f"step {number}", f"{step.method}{data}, {step.wall_time_s:.0f} s"))
        lines += [(name, f"{self.metrics[name]:.4g}") for name in _SHOWN if isinstance(self.metrics.get(name), float)]
        cells = (
            f'<tr><th style="text-align:left">{_escaped(name)}</th>'
            f'<td style="text-align:left">{_escaped(text)}</td></tr>'
            for name, text in [*lines, ("bytes", f"{self.bytes:,}")]
        )
        return f"<table>{''.join(cells)}</table>"


Reference: TypeAlias = str | os.PathLike[str] | Checkpoint
"""What names a checkpoint: an alias, a Hub id, a folder, or an object that stands for one."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a checkpoint: the matrices of its repeated blocks, with how many of their weights remain; facts."""

    checkpoint: Checkpoint
    matrices: Sequence[Matrix]
    facts: Mapping[str, str]

    @property
    def remaining(self) -> float | None:
        """The fraction of the matrices' weights that are not zero; None where it cannot be counted."""
        counted = [matrix.remaining for matrix in self.matrices if matrix.remaining is not None]
        if not counted or len(counted) < len(self.matrices):
            return None
        return sum(counted) / sum(matrix.size for matrix in self.matrices)


def inspect(checkpoint: Reference, *, verify: bool = False) -> Inspection:
    """What is in a checkpoint, by its files; no model is built.

    With `verify` every file is compared with the hash that the manifest has of it, those of what it stands on too.
    Raises what `Checkpoint` raises, InputError for a file that is not as it was made.

    Example:
        >>> ck.inspect("runs/half").remaining
        0.5
    """
    from compresskit.models import kinds

    found = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    with as_found():
        kinds.check_here(found._source)
        if verify:
            kinds.verify(found._source)
        contents = kinds.kind_of(found._source).contents(found._source)
    return Inspection(found, contents.matrices, dict(contents.facts))


def _escaped(text: str) -> str:
    return html.escape(printable(text))
