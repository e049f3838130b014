"""The model card: what a checkpoint is, what it cost, how it came to be, how it is opened, what it cannot do.

Its head is YAML that the Hub reads (https://huggingface.co/docs/hub/model-cards); huggingface_hub writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compresskit.checkpoint.manifest import Manifest, Step
from compresskit.data.load import local_files
from compresskit.evaluate.report.markdown import render
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.runs import singles
from compresskit.models.kind import Kind
from compresskit.models.source import Source
from compresskit.publish.hub import hub_id
from compresskit.publish.opening import ways
from compresskit.publish.origin import Origin
from compresskit.publish.public import named, public
from compresskit.text import counted

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK = "question-answering"
_LIBRARIES = {"adapter": "peft", "mask": "compresskit", "onnx": "onnx"}
_METRICS = {"exact_match": ("em", "exact match"), "f1": ("f1", "F1")}
_METHODS = {"prune": "pruning", "lora": "lora", "quantize": "quantization", "export": "onnx", "train": "fine-tuning"}
_KINDS = {
    "full": "a whole model",
    "mask": "a mask: which weights of its base are kept, and what it learned beside",
    "adapter": "an adapter: low-rank matrices that are added to the weights of its base",
    "quantized": "a model with its weights in fewer bits",
    "onnx": "an ONNX graph",
}
_LIMITS = {
    "mask": "Zeros that are left in place make neither a step quicker nor memory smaller; what shrinks is the file.",
    "adapter": "It needs its base, with the very weights that it was trained on.",
    "quantized": "Rounded weights answer a little otherwise than those that they were made from; the table tells.",
    "onnx": "A graph answers alone; it is not trained further.",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint that is to become the model `repo` of the Hub; `measured` is its row with what it is compared to.

    `packages` are the modules that open it and are not always installed.
    """

    repo: str
    source: Source
    kind: Kind
    family: str
    origin: Origin
    packages: tuple[str, ...] = ()
    measured: Report | None = None

    @property
    def row(self) -> Row | None:
        """The checkpoint's own row."""
        return None if self.measured is None else self.measured.rows[-1]

    @property
    def steps(self) -> Sequence[Step]:
        """How it came to be, the oldest first; nothing for a checkpoint of another tool."""
        manifest: Manifest | None = self.source.manifest
        return () if manifest is None else manifest.steps


def card(subject: Subject) -> str:
    """The whole README.md."""
    return f"---\n{_head(subject)}\n---\n\n" + "\n\n".join(_parts(subject)) + "\n"


def _head(subject: Subject) -> str:
    from huggingface_hub import ModelCardData

    origin, kind = subject.origin, subject.kind.name
    more: dict[str, Any] = {} if origin.base is None else {"base_model_relation": origin.relation}
    results = list(_results(subject))
    data = ModelCardData(
        base_model=origin.base,
        datasets=list(_data_sets(subject)) or None,
        eval_results=results or None,
        library_name=_LIBRARIES.get(kind, "compresskit" if subject.family == "lstm" else "transformers"),
        license=origin.license,
        metrics=list(_METRICS) if results else None,
        model_name=subject.repo.partition("/")[2] if results else None,
        pipeline_tag=TASK,
        tags=list(_tags(subject)),
        **more,
    )
    return data.to_yaml().strip()


def _tags(subject: Subject) -> Iterator[str]:
    yield "compresskit"
    for method in dict.fromkeys(step.method.partition("/")[0] for step in subject.steps):
        yield _METHODS.get(method, method)
    if any(step.config.get("distill") for step in subject.steps):
        yield "distillation"


def _data_sets(subject: Subject) -> Iterator[str]:
    """The data sets of the Hub that it learned from."""
    refs = dict.fromkeys(step.data.path for step in subject.steps if step.data is not None)
    yield from (ref for ref in refs if not local_files(ref) and hub_id(ref, subject.source.path) == ref)


def _results(subject: Subject) -> Iterator[EvalResult]:
    """The measured metrics, as the Hub's leaderboards take them."""
    from huggingface_hub import EvalResult

    if subject.measured is None or subject.row is None:
        return
    path = subject.measured.dataset.path
    name = named(path)
    for metric, (key, words) in _METRICS.items():
        if (value := subject.row.value(key)) is not None:
            yield EvalResult(
                task_type=TASK,
                task_name="Question answering",
                dataset_type=path if hub_id(path, subject.source.path) == path else "custom",
                dataset_name=name,
                metric_type=metric,
                metric_name=f"{words}, per cent",
                metric_value=round(value, 2),
            )


def _parts(subject: Subject) -> Iterator[str]:
    """Yield the parts of the card's text."""
    origin = subject.origin
    yield f"# {subject.repo.partition('/')[2]}"
    on = "" if origin.base is None else f" Its base is [{origin.base}](https://huggingface.co/{origin.base})."
    yield (
        f"It answers questions from a text; this is {_KINDS[subject.kind.name]}.{on} "
        "Made and measured with compresskit."
    )
    if subject.measured is not None:
        yield "## What it cost"
        yield render(subject.measured)
    yield "## How to open it"
    yield from ways(subject.repo, subject.source, subject.kind.name, subject.family, origin, subject.packages)
    if subject.steps:
        yield "## How it came to be"
        yield from (_step(number, step) for number, step in enumerate(subject.steps, start=1))
    yield "## What it cannot do"
    yield "\n".join(f"- {line}" for line in _limits(subject))
    yield "## Licence"
    yield (
        f"`{origin.license}`."
        if origin.license is not None
        else "Not known: what it was made from names none here. The licences of its base and its data hold."
    )


def _step(number: int, step: Step) -> str:
    """One step: its method, its data, its figures; its options folded away."""
    told = [f"{number}. **{step.method}**"]
    if step.data is not None:
        told.append(
            f"on {named(step.data.path)}, {counted(step.data.questions, 'question')} "
            f"({step.data.unanswerable:,} unanswerable, sha256 `{step.data.sha256[:12]}`)"
        )
    told.append(f"in {step.wall_time_s:,.0f} s, with compresskit {step.versions.get('compresskit', 'unknown')}")
    options = json.dumps(public(step.config), indent=2, ensure_ascii=False)
    folded = ["", "<details><summary>options</summary>", "", "```json", *options.splitlines(), "```", "", "</details>"]
    return "\n".join([", ".join(told), *(f"   {line}".rstrip() for line in folded)])


def _limits(subject: Subject) -> Iterator[str]:
    if (limit := _LIMITS.get(subject.kind.name)) is not None:
        yield limit
    if any(step.data is not None for step in subject.steps):
        yield "It has seen no other kind of text and question than its training data have; measure it on yours."
    if subject.row is None:
        yield "No figures come with it: nobody said how well it answers."
    elif subject.row.beats_nothing is False:
        yield "On the questions above it answers no better than saying nothing at all would."
    yield "It may answer with confidence where the text holds no answer."


def measured_row(report: Report, row: Row) -> Report:
    """The report with a row alone, behind what it was compared with, and the gates on it.

    A run of the baseline was compared with nothing: it stands alone, as the baseline itself does.
    """
    rows = tuple(each for each in report.rows if each.baseline and all(own is not row for own in singles([each])))
    gates = tuple(gate for gate in report.gates if gate.row == row.name)
    data = replace(report.dataset, path=named(report.dataset.path))
    return replace(report, rows=(*rows, row), gates=gates, dataset=data)
