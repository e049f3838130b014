"""The process that measures one checkpoint: `python -m compresskit.evaluate.worker`, a `Measurement` on stdin.

It is fresh, so that its memory and its timings are the checkpoint's own, and so that a crash takes only one
row along.
"""

from __future__ import annotations

import _thread
import importlib
import os
import signal
import statistics
import sys
import threading
import time
from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit import console
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.match import normalizer
from compresskit.data.shots import drawn
from compresskit.errors import EXIT_INTERRUPTED, EXIT_OK, CompresskitError, InputError, RunFailed, of_system
from compresskit.evaluate import measure
from compresskit.evaluate.answer_files import read_predictions
from compresskit.evaluate.answers import AnswersWriter
from compresskit.evaluate.collect import collect_answers, largest
from compresskit.evaluate.explained import bytes_explained
from compresskit.evaluate.measurement import PREDICTIONS_FILE, Measurement, Outcome
from compresskit.evaluate.metrics import PERPLEXITY, Metrics
from compresskit.evaluate.predict import Questions, answers
from compresskit.evaluate.row import Row
from compresskit.evaluate.same import AnswersDigest
from compresskit.evaluate.score import Score, Scorer, score
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.shard import Group, Shard
from compresskit.text import one_line

# For which a step of the computation may go on, until Python has a say again.
_SECONDS_TO_END = 5.0

if TYPE_CHECKING:
    from compresskit.models.answering import AnswerOptions
    from compresskit.models.loaded import LoadedModel


def main() -> int:
    """Run the measurement on stdin, leave its outcome in the folder it names, and return the exit code.

    It is one line; where the input ends after it or before, whoever started this has ended, and so does this.
    """
    try:
        line = sys.stdin.readline()
        if not line.endswith("\n"):
            return EXIT_INTERRUPTED
        _end_with_input()
        return _measured(Measurement.from_json(line))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _end_with_input() -> None:
    """Let a thread raise KeyboardInterrupt here where stdin ends, and end the process where that does not do."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        _thread.interrupt_main()
        time.sleep(_SECONDS_TO_END)
        os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # else it may be ignored
    threading.Thread(target=watch, daemon=True).start()


def _measured(measurement: Measurement) -> int:
    """Leave the outcome of a measurement in the folder it names, and return the exit code."""
    console.configure(quiet=measurement.quiet, verbose=measurement.verbose)
    try:
        outcome = run(measurement)
    except CompresskitError as error:
        outcome = Outcome.of(error)
    except Exception as error:
        outcome = outcome_of(error, measurement)
    try:
        outcome.write(measurement.folder)
    except OSError:  # of which the other process tells: it finds none
        return RunFailed.exit_code
    return outcome.error_code or EXIT_OK


def run(measurement: Measurement) -> Outcome:
    """Answer and time every question, and return the checkpoint's row; a file of answers is only scored."""
    examples = ExampleSet.opened(measurement.questions)
    if Path(measurement.ref).is_file():
        return score_answers(measurement, examples)
    import torch

    # With it come transformers and its models. They are imported here, so that the load time is the checkpoint's alone.
    importlib.import_module("compresskit.models.families")
    torch.manual_seed(measurement.settings.seed)
    shard = Shard.from_environment()
    if torch.cuda.is_available():
        # More processes than GPUs share them.
        torch.cuda.set_device(shard.local_rank % torch.cuda.device_count())
    with Group(shard, measurement.index) as group:
        loaded, costs = load_checkpoint(measurement)
        return measure_checkpoint(measurement, loaded, examples, group, costs)


def load_checkpoint(measurement: Measurement) -> tuple[LoadedModel, dict[str, float | None]]:
    """The checkpoint, and what loading it took, by the keys of a row; memory of the libraries alone comes first."""
    from compresskit.models.device import resolve_device
    from compresskit.models.registry import load as load_model
    from compresskit.models.registry import require_head

    settings, device = measurement.settings, resolve_device(measurement.settings.device)
    library = measure.library_bytes(device)
    with measure.PeakMemory(device) as memory:
        start = time.perf_counter()
        loaded = load_model(measurement.ref, device=settings.device, dtype=settings.dtype)
        measure.synchronize(loaded.device)
        seconds = time.perf_counter() - start
    costs = {"load_s": seconds, "load_memory_bytes": memory.bytes, "library_memory_bytes": library}
    return require_head(loaded), costs


def score_answers(measurement: Measurement, examples: Questions) -> Outcome:
    """The row of a file of answers: its score, and nothing of what only a model has."""
    path, threshold = Path(measurement.ref), measurement.settings.null_threshold
    if threshold == "auto":
        raise InputError(
            f"{path}: answers in a file are to these questions alone, none to those of --tune-data; leave the file out"
        )
    found = read_predictions(path, threshold)
    result, metrics = (
        score(examples, found, normalizer(measurement.settings.normalize)),
        Metrics(measurement.settings.metrics),
    )
    with AnswersWriter(measurement.folder / PREDICTIONS_FILE) as writer:
        for example in examples:
            writer.add(example.id, found[example.id].text)
            metrics.add(example, found[example.id])
    row = Row(
        measurement.name,
        measurement.ref,
        "-",
        "predictions",
        False,
        disk_bytes=path.stat().st_size,
        metrics=metrics.result(),
    )
    return _outcome(row, result)


def measure_checkpoint(
    measurement: Measurement, loaded: LoadedModel, examples: ExampleSet, group: Group, costs: Mapping[str, float | None]
) -> Outcome:
    """The row of a loaded checkpoint, and its score with the questions one by one.

    `costs` are those of loading, by the keys of the row. The answers are left in the folder of the measurement.
    """
    from compresskit.models.digest import weights_digest
    from compresskit.models.int8 import arithmetic_of
    from compresskit.models.tasks.lengths import too_long

    settings = measurement.settings
    options = asked_options(measurement)
    if measurement.tuning is not None:
        threshold = tune_threshold(loaded, ExampleSet.opened(measurement.tuning), options, group, settings.normalize)
        options = replace(options, null_threshold=threshold)
    metrics, scorer = Metrics(settings.metrics), Scorer(normalizer(settings.normalize))
    with measure.PeakMemory(loaded.device) as memory, AnswersWriter(measurement.folder / PREDICTIONS_FILE) as writer:
        # The processes that share the questions have one machine's latency, measured while the others wait.
        latency = None if group.shard.rank else time_single_questions(loaded, examples, options, settings)
        if settings.warmup_questions:
            # The first full batch pays for what later ones find ready: kernels chosen, memory pools grown.
            first = range(min(options.batch_size, len(examples)))
            list(answers(loaded, [examples[index] for index in first], options))
        windows, said = array("i"), AnswersDigest()
        sinks = (
            scorer.add,
            lambda example, prediction: writer.add(example.id, prediction.text),
            metrics.add,
            said.add,
            lambda _, prediction: windows.append(prediction.windows or 0),
        )
        rates = [collect_answers(group, loaded, examples, options, sinks, measurement.name)]
        again = f"{measurement.name} again"
        rates += [collect_answers(group, loaded, examples, options, (), again) for _ in range(settings.repeat - 1)]
    figures = metrics.result()
    if PERPLEXITY in figures:
        figures[PERPLEXITY] = loaded.task.perplexity(loaded, examples, options)
    if settings.harness and loaded.task.prompt is not None:
        from compresskit.evaluate.harness import harness

        figures |= harness(loaded.model, loaded.tokenizer, loaded.family.name, settings.max_length, settings)
    row = Row(
        name=measurement.name,
        path=measurement.ref,
        family=loaded.family.name,
        method=loaded.method,
        baseline=False,
        null_threshold=options.null_threshold,
        peak_memory_kind=None if memory.bytes is None else memory.kind,
        questions_per_s=statistics.median(rates),
        questions_per_s_range=(min(rates), max(rates)) if len(rates) > 1 else None,
        metrics=figures,
        arithmetic=arithmetic_of(loaded.model),
        device=measure.describe_device(loaded.device),
    )
    measured: dict[str, Any] = {
        **costs,
        "peak_memory_bytes": memory.bytes,
        "reserved_memory_bytes": memory.reserved,
        "process_memory_bytes": memory.process,
        "latency_ms_p50": None if latency is None else latency.p50_ms,
        "latency_ms_p95": None if latency is None else latency.p95_ms,
    }
    outcome = _outcome(with_sizes(replace(row, **largest(group, measured)), loaded), scorer.result())
    return replace(
        outcome,
        windows=windows.tolist(),
        too_long=too_long(loaded.tokenizer, examples, settings.max_answer_length),
        weights_digest=weights_digest(loaded.model),
        answers_digest=said.result(),
    )


def answer_options(settings: EvalSettings) -> AnswerOptions:
    """How questions are answered; a null threshold that is yet to be tuned is 0."""
    from compresskit.models.answering import AnswerOptions

    return AnswerOptions(
        max_length=settings.max_length,
        stride=settings.stride,
        batch_size=settings.batch_size,
        max_answer_length=settings.max_answer_length,
        prompt_template=settings.prompt_template,
        beams=settings.beams,
        length_penalty=settings.length_penalty,
        null_threshold=0.0 if settings.null_threshold == "auto" else settings.null_threshold,
    )


def asked_options(measurement: Measurement) -> AnswerOptions:
    """How the questions of a measurement are answered, with the examples that are shown before each."""
    settings, options = measurement.settings, answer_options(measurement.settings)
    if measurement.shown is None:
        return options
    return replace(
        options, shots=tuple(drawn(ExampleSet.opened(measurement.shown), settings.shots or 0, settings.seed))
    )


def with_sizes(row: Row, loaded: LoadedModel) -> Row:
    """`row` with what the checkpoint holds: parameters and bytes, and how it came to be."""
    counts = loaded.kind.stored(loaded)
    needed = loaded.files
    return replace(
        row,
        params_total=counts.total,
        params_nonzero=counts.nonzero,
        params_trainable=_trained_parameters(loaded),
        disk_bytes=None if loaded.path is None else measure.disk_bytes(loaded.path),
        bytes_explained=None if loaded.path is None else bytes_explained(loaded.path),
        deploy_bytes=measure.deploy_bytes(needed) or None,
        zstd_bytes=measure.zstd_bytes(needed) or None,
        manifest=None if loaded.manifest is None else loaded.manifest.to_dict(),
    )


def _outcome(row: Row, result: Score) -> Outcome:
    row = replace(
        row,
        em=result.em,
        f1=result.f1,
        has_ans_em=result.has_ans_em,
        has_ans_f1=result.has_ans_f1,
        no_ans_em=result.no_ans_em,
        best_em=result.best_em,
        best_null_threshold=result.best_em_threshold,
    )
    return Outcome(
        row=row,
        question_em=result.question_em.tolist(),
        question_f1=result.question_f1.tolist(),
        paragraph=result.paragraph.tolist(),
    )


def _trained_parameters(loaded: LoadedModel) -> int | None:
    """How many parameters the checkpoint's last method trained, as its manifest says; None without a manifest."""
    steps = loaded.manifest.steps if loaded.manifest is not None else ()
    found = steps[-1].metrics.get("params_trainable") if steps else None
    return int(found) if found is not None else None


def tune_threshold(
    loaded: LoadedModel, examples: ExampleSet, options: AnswerOptions, group: Group, normalize: str = "squad"
) -> float:
    """The null threshold at which the checkpoint's EM on `examples` is best.

    Raises InputError for a checkpoint whose answers carry no null score.
    """
    scorer = Scorer(normalizer(normalize))
    collect_answers(group, loaded, examples, options, (scorer.add,), "tune the null threshold")
    threshold = scorer.result().best_em_threshold
    if threshold is None:
        raise InputError(f"{loaded.ref} gives no null score to tune; give a number as --null-threshold")
    return threshold


def time_single_questions(
    loaded: LoadedModel, examples: Questions, options: AnswerOptions, settings: EvalSettings
) -> measure.Latency | None:
    """Time questions spread evenly over `examples`, one at a time; None where there is none to time."""
    count = min(settings.latency_questions, len(examples))
    if count == 0:
        return None
    chosen = spread_over(examples, count)
    single = replace(options, batch_size=1)
    return measure.latency(
        lambda example: list(answers(loaded, [example], single)),
        chosen,
        settings.warmup_questions,
        loaded.device,
        settings.repeat,
    )


def spread_over(examples: Questions, count: int) -> list[Example]:
    """So many of the questions, spread evenly over all of them."""
    return [examples[index * len(examples) // count] for index in range(count)]


def outcome_of(error: Exception, measurement: Measurement) -> Outcome:
    """The outcome where something else than this package has failed: it costs a row, not the evaluation."""
    if measurement.verbose:
        console.traceback(error)
    known = of_system(error) if isinstance(error, OSError) else None
    return Outcome.of(known) if known is not None else Outcome(error=_reason(error), error_code=RunFailed.exit_code)


def _reason(error: Exception) -> str:
    """What happened in one line with its mend; running out of memory is called so whoever noticed it."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory; give a smaller --batch-size"
    text = one_line(str(error))
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{what}; run it alone with -v for the traceback, or leave it out"


if __name__ == "__main__":
    raise SystemExit(main())
