"""Tasks of lm-evaluation-harness, asked of a language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compresskit import packages
from compresskit.checkpoint.reading import read_text
from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.evaluate.metrics import PERPLEXITY
from compresskit.evaluate.settings import EvalSettings
from compresskit.models.answering import GENERATING
from compresskit.models.kinds import base_source
from compresskit.models.source import resolve
from compresskit.options import refuse


def check_language_figures(checkpoints: Sequence[str], settings: EvalSettings) -> None:
    """Refuse figures and options of language models where none of the checkpoints is one.

    Raises UsageError where perplexity or tasks are asked for, or it is said how texts are written, and no checkpoint
    writes text; MissingError where lm-evaluation-harness is needed and not installed.
    """
    asked = settings.harness or PERPLEXITY in settings.metrics
    generating = (*GENERATING, "shots")
    if not asked and all(getattr(settings, name) is None for name in generating):
        return
    if not any(_may_be_language_model(ref) for ref in checkpoints):
        refuse(settings, generating, "where none of the checkpoints writes its answers")
        flag = "--harness" if settings.harness else f"--metrics {PERPLEXITY}"
        raise UsageError(f"{flag} has no effect: none of the checkpoints is a language model; leave it out")
    if settings.harness:
        packages.require("lm_eval", what="--harness")


def _may_be_language_model(ref: str) -> bool:
    """Whether a checkpoint is a language model, or cannot be opened, of which its row will tell."""
    from compresskit.models.families import family_of

    if Path(ref).is_file():
        return False
    try:
        source = resolve(ref)
        while (base := base_source(source)) is not None:
            source = base
        return family_of(source).task.prompt is not None
    except CompresskitError:
        return True


def _task_name(file: Path) -> str:
    """What a task's YAML file calls it; InputError where there is no such file, or it names no task."""
    text = read_text(file, "--harness takes a task's YAML file, or a name")
    # Not by a YAML reader: these files have tags of their own, which stand for functions.
    found = re.search(r"^task:\s*[\"']?([^\s\"'#]+)", text, re.MULTILINE)
    if found is None:
        raise InputError(f"--harness {file}: names no task; write one as `task: NAME`")
    return found[1]


def harness(model: Any, tokenizer: Any, backend: str, limit: int, settings: EvalSettings) -> dict[str, float | None]:
    """The figures of lm-evaluation-harness as `task/metric`; as they come, most of them 0-1.

    A task of `settings.harness` is a name that the harness knows, or the path of a task's YAML file. `backend` is how
    it asks a model of transformers (`causal`, `seq2seq`), `limit` the longest input in tokens, `settings.limit` the
    number of examples of each task. Raises InputError where the harness does not know a task.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = settings.harness
    files = [Path(task) for task in tasks if task.endswith((".yaml", ".yml"))]
    manager = TaskManager(include_path=[str(file.parent) for file in files] or None)
    names = [_task_name(Path(task)) if Path(task) in files else task for task in tasks]
    if unknown := [name for name in names if not manager.match_tasks([name])]:
        raise InputError(f"lm-evaluation-harness knows no task {unknown[0]!r}; `lm_eval ls tasks` has the list")
    asked = HFLM(
        pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=settings.batch_size, max_length=limit
    )
    found = simple_evaluate(
        model=asked, tasks=names, limit=settings.limit, task_manager=manager, log_samples=False, bootstrap_iters=0
    )
    results = found["results"] if found else {}
    return {
        f"{task}/{metric.removesuffix(',none')}": float(value)
        for task, figures in sorted(results.items())
        for metric, value in figures.items()
        if isinstance(value, int | float) and not metric.startswith(("alias", "sample_len")) and "_stderr" not in metric
    }
