"""Measure checkpoints side by side, each in a fresh process, and put their rows into one report."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import compresskit
from compresskit import console
from compresskit.checkpoint.manifest import package_versions
from compresskit.checkpoint.outputs import check_file
from compresskit.checkpoint.store import sha256_file
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.data.shots import check_shown
from compresskit.errors import CompresskitError, InputError, MissingError, RunFailed, UsageError
from compresskit.evaluate import machine
from compresskit.evaluate.answer_files import null_odds_of
from compresskit.evaluate.answers import check_size, read_answers
from compresskit.evaluate.blind_record import check_none_blind
from compresskit.evaluate.cache import Cache, entry_key
from compresskit.evaluate.compare import compared, flips
from compresskit.evaluate.explained import bytes_explained
from compresskit.evaluate.mean import folded, with_means
from compresskit.evaluate.measure import disk_bytes
from compresskit.evaluate.measurement import PREDICTIONS_FILE, Measurement, Outcome
from compresskit.evaluate.nothing import answering_nothing, as_figures
from compresskit.evaluate.overlap import with_overlap
from compresskit.evaluate.process import measure_in_process
from compresskit.evaluate.reading import read_by
from compresskit.evaluate.refs import same, unique_names, with_baseline
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.runs import Layout, Runs, check_names, meant
from compresskit.evaluate.same import with_same
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.shard import Shard
from compresskit.evaluate.slice import SliceName
from compresskit.evaluate.slices import with_slices
from compresskit.evaluate.slicing import divided, kept_keys
from compresskit.evaluate.turns import Plan, in_turns
from compresskit.models.kinds import fingerprint
from compresskit.text import counted


@dataclass(frozen=True, slots=True)
class Extras:
    """What an evaluation does beyond its report.

    `use_cache`: an unchanged checkpoint is not measured again. `predictions` is a folder for one `NAME.json` a
    checkpoint. `flips` is how many questions that flip against the baseline a row tells, of those won and of those
    lost. `slices` are asked for beside those that every row has. `overlap`: training data are looked through.
    `turns` is what is measured in turns, for the ratios to the baseline. `runs` are checkpoints that make a row
    together, the mean of theirs. `blind`: the data are a blind set, whose record is kept by who asks, and of which
    nothing goes to the cache.
    """

    use_cache: bool = True
    predictions: Path | None = None
    flips: int = 0
    slices: tuple[SliceName, ...] = ()
    overlap: bool = True
    turns: Plan | None = None
    runs: tuple[Runs, ...] = ()
    blind: bool = False


@dataclass(frozen=True, slots=True)
class _Data:
    """The questions of an evaluation: `asked` of `whole`, those on which null thresholds are tuned, and examples.

    The workers open their files, so it has to be kept until the last one is done.
    """

    whole: ExampleSet
    asked: ExampleSet
    tuning: ExampleSet | None
    shown: ExampleSet | None

    @property
    def hashes(self) -> list[str]:
        """The SHA-256 of all that was read."""
        return [data.info.sha256 for data in (self.whole, self.tuning, self.shown) if data is not None]

    def described(self, seed: int) -> Dataset:
        """What the report says of the questions; `seed` is that of their draw, where they are drawn."""
        info, number = self.asked.info, len(self.whole)
        drawn = (number, seed) if len(self.asked) < number else (None, None)
        return Dataset(info.path, info.sha256, info.questions, info.unanswerable, *drawn)


@dataclass(frozen=True, slots=True)
class _Result:
    """A checkpoint's outcome, the folder with its answers, where it has any, and the cache's entry of both.

    `kept` tells that they come from there.
    """

    outcome: Outcome
    folder: Path
    entry: Path | None = None
    kept: bool = False

    def answers(self) -> Mapping[str, str] | None:
        """The answers by question; None where the checkpoint has none."""
        return read_answers(self.folder / PREDICTIONS_FILE) if len(self.outcome.question_em) else None


def evaluate(
    checkpoints: Sequence[str],
    data_ref: str,
    settings: EvalSettings,
    baseline: str | None = None,
    names: Sequence[str] | None = None,
    extras: Extras | None = None,
) -> Report:
    """Measure every one of `checkpoints` (alias, Hub id, folder, file of answers) on `data_ref`; return the report.

    `baseline` is the checkpoint the others are compared with, or the name of several runs; where it is not among them
    it becomes the first row (see `compared`). A checkpoint that cannot be scored, or whose process crashes (a signal,
    out of memory), is a row with `error`; the others go on. `names` are those of the rows, in place of names made from
    the references.

    Raises UsageError where there is no checkpoint, or a slice is asked for that no question is in, and whatever
    `CompresskitError` the data raises, or the baseline where its files cannot be read: then nothing is measured.
    """
    extras, load = extras or Extras(), {"before": machine.load()}
    bases = meant(baseline, extras.runs)
    refs = with_baseline([*checkpoints, *(ref for each in extras.runs for ref in each.refs)], next(iter(bases), None))
    if not refs or not all(refs):
        raise UsageError("no checkpoint to evaluate; name at least one alias, Hub id or folder")
    check_none_blind(None if extras.blind else data_ref, settings)
    settings, names = settings.for_data(data_ref), names or unique_names(refs)
    check_names(names, extras.runs)
    targets = {} if extras.predictions is None else _answers_files(extras.predictions, names)
    read = list(read_by(refs, data_ref, settings)) if targets else []
    for path in targets.values():
        check_file(path, read, flag="--predictions", makes_folder=True)
    data = _read(data_ref, settings, extras.slices)
    divisions = divided(data.asked, extras.slices)
    nothing = answering_nothing(data.asked, settings.normalize)
    dataset = replace(data.described(settings.seed), nothing=as_figures(nothing))
    with temporary_folder() as folder:
        measurements = _measurements(refs, names, data, settings, folder)
        is_base = {each.ref: any(same(each.ref, base) for base in bases) for each in measurements}
        results = _results(measurements, is_base, data, dataset, extras)
        _tell_too_long([result.outcome for result in results], settings, data_ref)
        rows = [
            _row(each, result, targets.get(each.name), is_baseline=is_base[each.ref])
            for each, result in zip(measurements, results, strict=True)
        ]
        rows, outcomes, layout = with_means(rows, [result.outcome for result in results], extras.runs)
        rows = with_same(compared(rows, outcomes, nothing, layout), outcomes)
        rows = with_slices(rows, outcomes, divisions, layout)
        rows = with_overlap(rows, data.asked) if extras.overlap else rows
        if extras.flips:
            rows = list(_with_flips(rows, results, data.asked, extras.flips, layout))
        if extras.turns is not None:
            rows[: len(results)], during = in_turns(rows[: len(results)], measurements, extras.turns)
            load |= {"during": during} if during else {}
        rows = folded(rows, layout)
    load["after"] = machine.load()
    device = next(({**row.device, "load": load} for row in rows if row.device), {})
    return Report(created=_now(), versions=_versions(), device=device, dataset=dataset, rows=tuple(rows))


def _results(
    measurements: Sequence[Measurement], is_base: Mapping[str, bool], data: _Data, dataset: Dataset, extras: Extras
) -> list[_Result]:
    """What becomes of each checkpoint, in their order; `is_base` tells by its reference whether it is the baseline.

    The baseline goes first: without it the others, which may take their time, are compared with nothing. Raises its
    error where it cannot be read.
    """
    cache, found = Cache(), dict[str, _Result]()
    for each in sorted(measurements, key=lambda each: not is_base[each.ref]):
        found[each.ref] = result = _measure(each, data.hashes, dataset, extras, cache)
        if is_base[each.ref]:
            _require_read(each, result.outcome)
        if result.outcome.error is not None and len(measurements) > 1:
            console.warn(f"{each.name} cannot be scored, as the report will say")
    return [found[each.ref] for each in measurements]


@dataclass(frozen=True, slots=True)
class Known:
    """The questions of an evaluation, and what is known of its baseline before any model is run.

    Without `outcome`, `why_not` says in words why there is none.
    """

    asked: ExampleSet
    outcome: Outcome | None = None
    why_not: str | None = None


def known(
    baseline: str | None,
    data_ref: str,
    settings: EvalSettings,
    slices: Sequence[SliceName] = (),
    *,
    use_cache: bool = True,
) -> Known:
    """Read the questions of `data_ref`, and find out what `baseline` scores on them without running a model.

    Of the columns of the data those are kept that `slices` need. A file of answers is scored, any other checkpoint
    looked for in the cache. Raises what the data raises, and what a file of answers does that cannot be scored.
    """
    check_none_blind(data_ref, settings)
    settings = settings.for_data(data_ref)
    data = _read(data_ref, settings, slices)
    if baseline is None:
        return Known(data.asked)
    with temporary_folder() as folder:
        (measurement,) = _measurements([baseline], [baseline], data, settings, folder)
        if Path(baseline).is_file():
            extras = Extras(use_cache)
            result = _measure(measurement, data.hashes, data.described(settings.seed), extras, Cache())
            _require_read(measurement, result.outcome)
            return Known(data.asked, result.outcome)
        if not Path(baseline).is_dir():  # the Hub is not asked for a model that nobody runs
            return Known(data.asked, None, f"there is no folder {baseline} here")
        try:
            key = entry_key(_checkpoint_hash(baseline), data.hashes, settings)
        except CompresskitError as error:
            return Known(data.asked, None, str(error))
        found = Cache().fetch(key, measurement.folder) if use_cache else None
        return Known(data.asked, found, None if found is not None else f"{baseline} was not measured so before")


def _require_read(baseline: Measurement, outcome: Outcome) -> None:
    """The error of a baseline that cannot be read, or that needs what this machine lacks; what crashed is a row."""
    for kind in (InputError, MissingError):
        if outcome.error is not None and outcome.error_code == kind.exit_code:
            told = outcome.error if outcome.error.startswith(baseline.ref) else f"{baseline.ref}: {outcome.error}"
            raise kind(f"the baseline cannot be scored, and nothing else was measured: {told}")


def _tell_too_long(outcomes: Sequence[Outcome], settings: EvalSettings, data_ref: str) -> None:
    """Warn of gold answers that are too long to be given, once for all checkpoints: of the most by any tokenizer."""
    if count := max(outcome.too_long for outcome in outcomes):
        from compresskit.models.tasks.lengths import told_too_long

        console.warn(told_too_long(count, settings.max_answer_length, data_ref))


def _read(data_ref: str, settings: EvalSettings, slices: Sequence[SliceName] = ()) -> _Data:
    """Read the questions: all or, where the settings set a limit, whole paragraphs; those to tune on, and examples."""
    whole = load_data(data_ref, "eval", keep=kept_keys(slices))
    asked = whole if settings.limit is None else whole.sample_paragraphs(settings.limit, settings.seed)
    shown = None if settings.shots_data is None else load_data(settings.shots_data, "train")
    if shown is not None:
        check_shown(shown)
        _check_apart(whole, shown, f"--shots-data {settings.shots_data}", "show examples of other questions")
    if settings.tune_data is None:
        return _Data(whole, asked, None, shown)
    tuning = load_data(settings.tune_data, "eval")
    _check_apart(whole, tuning, f"--tune-data {settings.tune_data}", "tune the null threshold on other questions")
    return _Data(whole, asked, tuning, shown)


def _check_apart(whole: ExampleSet, others: ExampleSet, name: str, mend: str) -> None:
    """UsageError where others share questions with those that are scored."""
    known = {(each.question, each.context) for each in whole}
    shared = sum((each.question, each.context) in known for each in others)
    if shared:
        raise UsageError(f"{name} shares {counted(shared, 'question')} with the evaluation data; {mend}")


def _measurements(
    refs: Sequence[str], names: Sequence[str], data: _Data, settings: EvalSettings, folder: Path
) -> list[Measurement]:
    """What is to be measured, each with a folder of its own in `folder`."""
    questions = data.asked.files()
    tuning, shown = (None if each is None else each.files() for each in (data.tuning, data.shown))
    quiet, verbose = console.is_quiet(), console.is_verbose()
    found = []
    for index, (ref, name) in enumerate(zip(refs, names, strict=True)):
        own = folder / str(index)
        own.mkdir()
        found.append(Measurement(ref, name, questions, settings, own, index, tuning, shown, quiet, verbose))
    return found


def _measure(
    measurement: Measurement, data_hashes: Sequence[str], dataset: Dataset, extras: Extras, cache: Cache
) -> _Result:
    """What is known of a checkpoint, from the cache, or else from a process of its own."""
    settings, folder = measurement.settings, measurement.folder
    try:
        checkpoint = _checkpoint_hash(measurement.ref)
    except CompresskitError as error:
        return _Result(Outcome.of(error), folder)
    key = entry_key(checkpoint, data_hashes, settings)
    shard = Shard.from_environment()
    # All processes of a launcher measure together or none does; what one finds in its cache another may not.
    # What a task of the harness does is not known by its name.
    may_be_known = extras.use_cache and shard.world == 1 and not settings.harness
    if may_be_known and (known := cache.fetch(key, folder)) is not None:
        console.info(f"{measurement.name}: unchanged since {_when(known)}, not run again (--no-cache runs it)")
        return _Result(known, folder, cache.folder / key, kept=True)
    outcome = measure_in_process(measurement)
    if outcome.row is None:
        return _Result(outcome, folder)
    row = replace(outcome.row, sha256=checkpoint, created=_now(), versions=_versions(), settings=settings.to_dict())
    outcome = replace(outcome, row=row)
    return _Result(outcome, folder, None if shard.rank or extras.blind else cache.keep(key, outcome, folder, dataset))


def _checkpoint_hash(ref: str) -> str:
    """A hash of all that a checkpoint consists of; InputError where it cannot be read."""
    try:
        # A file of answers stands for itself; whatever else there is becomes known by its files.
        if not Path(ref).is_file():
            return fingerprint(ref)
        files = [path for path in (Path(ref), null_odds_of(Path(ref))) if path is not None]
        for path in files:
            check_size(path)
        hashes = [sha256_file(path) for path in files]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    except OSError as error:  # a name too long, a file that may not be read, a disk that fails
        reason = error.strerror or type(error).__name__
        raise InputError(f"{ref}: cannot be read ({reason}); restore it") from error


def _row(measurement: Measurement, result: _Result, target: Path | None, *, is_baseline: bool) -> Row:
    """The row under this evaluation's name, with its answers in the file `target` where the user wants them."""
    name, ref, outcome = measurement.name, measurement.ref, result.outcome
    if outcome.row is None:
        row = Row(name, ref, "-", "-", False, error=outcome.error, error_code=outcome.error_code)
        return replace(row, baseline=is_baseline)
    row = replace(outcome.row, name=name, path=ref, baseline=is_baseline, kept=result.kept)
    if Path(ref).is_dir():  # a kept row does not know of files that came since and are not needed to run it
        row = replace(row, disk_bytes=disk_bytes(Path(ref)), bytes_explained=bytes_explained(Path(ref)))
    answers = result.folder / PREDICTIONS_FILE
    if not answers.is_file() or Shard.from_environment().rank:  # a language model has none
        return row
    if target is not None:
        return replace(row, predictions=os.path.abspath(_copied(answers, target)))
    return row if result.entry is None else replace(row, predictions=os.path.abspath(result.entry / PREDICTIONS_FILE))


def _answers_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Where the answers of each row go: `NAME.json`, also where the name is that of a file with this ending.

    Where another row has the same name without it, the ending is kept beside ours.
    """
    bare = {name: name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json") or name for name in names}
    own = list(bare.values())
    return {name: folder / f"{each if own.count(each) == 1 else name}.json" for name, each in bare.items()}


def _copied(source: Path, target: Path) -> Path:
    """Copy a file so that it appears whole or not at all; RunFailed where it cannot be written."""
    target = Path(os.path.realpath(target))  # a link stays one, and what it leads to is written
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copyfile(source, half)
            return half.replace(target)
        finally:
            half.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RunFailed(f"{target}: cannot be written ({reason}); free some space, or choose another") from error


def _with_flips(
    rows: Sequence[Row], results: Sequence[_Result], asked: ExampleSet, count: int, layout: Layout
) -> Iterator[Row]:
    """Yield the rows, those of checkpoints that are compared with one other with what flipped between the two."""
    for at, row in enumerate(rows):
        versus = layout.versus.get(at, len(results))
        if max(at, versus) >= len(results):  # of a mean no answer can be told
            yield row
            continue
        own, base = results[at], results[versus]
        answers, base_answers = own.answers(), base.answers()
        is_told = answers is not None and base_answers is not None
        found = flips(own.outcome, base.outcome, answers or {}, base_answers or {}, asked, count) if is_told else ()
        yield replace(row, flips=found)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {**package_versions(), "compresskit": compresskit.__version__}


def _when(outcome: Outcome) -> str:
    return str(outcome.row.created) if outcome.row is not None else "-"
