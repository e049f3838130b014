"""The process that measures one checkpoint: ``python -m compresskit.evaluate.worker``, a `Job` on stdin.

It is fresh, so that its memory and its timings are the checkpoint's own, and so that a crash takes only one
row along.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compresskit import console
from compresskit.checkpoint.store import write_text
from compresskit.errors import EXIT_INTERRUPTED, EXIT_OK, CompresskitError, RunFailed
from compresskit.evaluate import measure
from compresskit.evaluate.job import EvalSettings, Job, Outcome
from compresskit.evaluate.predict import Questions, answers, predictions
from compresskit.evaluate.row import Row
from compresskit.evaluate.score import Score, score

if TYPE_CHECKING:
    from compresskit.models.family import AnswerOptions, LoadedModel, Prediction

EXIT_CRASH = 70
"""The checkpoint could not be measured for a reason that is no `CompresskitError` (out of memory, a bug)."""


def main() -> int:
    """Run the job on stdin, leave its outcome in the file it names, and return the exit code."""
    job = Job.from_json(sys.stdin.read())
    console.configure(quiet=job.quiet, verbose=job.verbose)
    try:
        outcome, code = run(job), EXIT_OK
    except CompresskitError as error:
        outcome, code = Outcome(error=str(error), error_class=type(error).__name__), error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        # Whatever a foreign checkpoint raises costs its own row, not the evaluation.
        if job.verbose:
            console.traceback(error)
        outcome, code = Outcome(error=_reason(error)), EXIT_CRASH
    write_text(job.result, outcome.to_json())
    return code


def run(job: Job) -> Outcome:
    """Load the checkpoint, answer and time every question, and return its row."""
    import torch

    from compresskit.data.load import load as load_data
    from compresskit.models.family import AnswerOptions
    from compresskit.models.registry import load as load_model
    from compresskit.models.registry import require_head

    settings = job.settings
    torch.manual_seed(settings.seed)
    examples = load_data(job.data, "eval")
    loaded = require_head(load_model(job.ref, device=settings.device, dtype=settings.dtype))
    options = AnswerOptions(
        max_length=settings.max_length,
        stride=settings.stride,
        batch_size=settings.batch_size,
        max_answer_length=settings.max_answer_length,
        null_threshold=settings.null_threshold,
    )
    row, result = measured(job, loaded, examples, options)
    return Outcome(
        row=row,
        device=measure.describe_device(loaded.device),
        question_em=result.question_em.tolist(),
        paragraph=result.paragraph.tolist(),
    )


def measured(job: Job, loaded: LoadedModel, examples: Questions, options: AnswerOptions) -> tuple[Row, Score]:
    """Return the row of a loaded checkpoint, and its score with the questions one by one.

    Writes its predictions where the job asks for them.
    """
    with measure.PeakMemory(loaded.device) as memory:
        latency = time_single_questions(loaded, examples, options, job.settings)
        if job.settings.warmup_questions:
            # The first full batch pays for what later ones find ready: kernels chosen, memory pools grown.
            first = range(min(options.batch_size, len(examples)))
            list(answers(loaded, [examples[index] for index in first], options))
        measure.synchronize(loaded.device)
        start = time.perf_counter()
        found = {prediction.id: prediction for prediction in predictions(loaded, examples, options, job.name)}
        measure.synchronize(loaded.device)
        seconds = time.perf_counter() - start
    result = score(examples, found)
    if job.predictions is not None:
        write_predictions(job.predictions, found)
    counts = measure.parameters(loaded.model)
    row = Row(
        name=job.name,
        path=job.ref,
        family=loaded.family.name,
        method=loaded.manifest.method if loaded.manifest else "-",
        baseline=False,
        em=result.em,
        f1=result.f1,
        has_ans_em=result.has_ans_em,
        has_ans_f1=result.has_ans_f1,
        no_ans_em=result.no_ans_em,
        best_em=result.best_em,
        best_null_threshold=result.best_em_threshold,
        params_total=counts.total,
        params_nonzero=counts.nonzero,
        params_trainable=_trained_parameters(loaded),
        disk_bytes=None if loaded.path is None else measure.disk_bytes(loaded.path),
        deploy_bytes=measure.deploy_bytes(loaded.deploy_files()) or None,
        peak_memory_bytes=memory.bytes,
        peak_memory_kind=None if memory.bytes is None else memory.kind,
        latency_ms_p50=None if latency is None else latency.p50_ms,
        latency_ms_p95=None if latency is None else latency.p95_ms,
        questions_per_s=len(examples) / seconds,
    )
    return row, result


def _trained_parameters(loaded: LoadedModel) -> int | None:
    """How many parameters the checkpoint's last method trained, as its manifest says; None without a manifest."""
    steps = loaded.manifest.steps if loaded.manifest is not None else ()
    found = steps[-1].metrics.get("params_trainable") if steps else None
    return int(found) if found is not None else None


def time_single_questions(
    loaded: LoadedModel, examples: Questions, options: AnswerOptions, settings: EvalSettings
) -> measure.Latency | None:
    """Time questions spread evenly over ``examples``, one at a time; None where there is none to time."""
    count = min(settings.latency_questions, len(examples))
    if count == 0:
        return None
    chosen = [examples[index * len(examples) // count] for index in range(count)]
    single = replace(options, batch_size=1)
    return measure.latency(
        lambda example: list(answers(loaded, [example], single)),
        chosen,
        settings.warmup_questions,
        loaded.device,
    )


def write_predictions(path: Path, found: Mapping[str, Prediction]) -> None:
    """Write ``{id: text}``, the official format; the text is empty where the question is unanswerable.

    Raises RunFailed where the file cannot be written.
    """
    texts = {question: prediction.text for question, prediction in found.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(texts, ensure_ascii=False) + "\n")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunFailed(f"{path}: cannot be written ({reason}); free some space, or choose another") from error


def _reason(error: Exception) -> str:
    """Return what happened in one line; running out of memory is called so whoever noticed it."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory; give a smaller --batch-size"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    raise SystemExit(main())
