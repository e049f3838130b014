"""Scoring on a blind set: once for each checkpoint, recorded before anybody sees the figures.

The cache of evaluations has no part in it: it would keep the answers, and forget who has looked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compresskit import console
from compresskit.data.load import load as load_data
from compresskit.data.overlap import overlap
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.evaluate.blind_record import Book, Entry, check_record, lineage, opened
from compresskit.evaluate.evaluate import Extras, evaluate
from compresskit.evaluate.look import Blind, decisive, mean_blind
from compresskit.evaluate.mean import deviations
from compresskit.evaluate.nothing import answering_nothing, as_figures
from compresskit.evaluate.row import Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.shard import Shard

_FIGURES = ("em", "f1", "has_ans_em", "has_ans_f1", "no_ans_em")


@dataclass(frozen=True, slots=True)
class BlindSet:
    """A blind set that was read, and its record.

    `facts` are what a report says of it: path, hash, counts, what answering nothing scores, and what it shares with
    the data that are looked at.
    """

    ref: str
    record: Path
    settings: EvalSettings
    facts: dict[str, Any]

    @classmethod
    def read(cls, ref: str, record: Path | None, data_ref: str, settings: EvalSettings) -> BlindSet:
        """Read the set `ref` beside the data `data_ref` that are looked at.

        Raises UsageError where both are the same, there is no place for the record, or several processes would look;
        what the data raise; and InputError where the record is damaged.
        """
        if Shard.from_environment().world > 1:
            raise UsageError(f"--blind {ref} is scored by one process; start without a launcher, or leave it out")
        place = check_record(ref, record, [])
        examples, others = load_data(ref, "eval"), load_data(data_ref, "eval")
        info = examples.info
        if info.sha256 == others.info.sha256:
            raise UsageError(f"--blind {ref} is the same as --data {data_ref}; give a set that nobody looks at")
        if not len(examples):
            raise InputError(f"--blind {ref} has no question; give a set that has")
        shared = overlap(examples, others)
        facts = {
            "path": info.path,
            "sha256": info.sha256,
            "questions": info.questions,
            "unanswerable": info.unanswerable,
            "nothing": as_figures(answering_nothing(examples, settings.normalize)),
            "shared": {"questions": shared.questions, "paragraphs": shared.paragraphs},
            "record": str(place),
        }
        with opened(place):  # a damaged one is told before hours of measuring
            pass
        own = replace(settings.for_data(data_ref), limit=None, latency_questions=0, repeat=1, metrics=(), harness=())
        return cls(ref, place, own, facts)

    def looked(self, report: Report) -> Report:
        """The report with each row's figures on the set: recorded ones, or else scored now, and recorded first.

        A row that was not scored has none, nor has a file of answers, which are to other questions.
        """
        rows = [self._looked(row) for row in report.rows]
        with opened(self.record) as book:
            count = book.checkpoints(self.facts["sha256"])
        return replace(
            report, dataset=replace(report.dataset, blind={**self.facts, "checkpoints": count}), rows=tuple(rows)
        )

    def _looked(self, row: Row) -> Row:
        """A row with its figures; of a mean each run is scored, and where one cannot be, the mean is lost too."""
        if row.error is not None:
            return row
        if row.runs is None:
            return self._row(row)
        together = tuple(sorted(run.sha256 for run in row.runs if run.sha256 is not None))
        runs = tuple(self._row(run, together) for run in row.runs)
        lost = next((run for run in runs if run.error is not None), row)
        found = replace(row, runs=runs, sd=deviations(runs), blind=mean_blind([run.blind for run in runs]))
        return replace(found, error=lost.error and f"{lost.name}: {lost.error}", error_code=lost.error_code)

    def _row(self, row: Row, together: tuple[str, ...] = ()) -> Row:
        """A row of one checkpoint with its figures; `together` are the hashes of the runs that it is one of."""
        if row.sha256 is None or Path(row.path).is_file():
            return row
        with opened(self.record) as book:
            known = book.of(row.sha256, self.facts["sha256"])
            if known is not None:
                console.info(f"{row.name}: scored on {self.ref} before, {known[0].scored}; not run again")
                return replace(row, blind=_blind(*known, recorded=True))
            console.info(f"{row.name}: scored on the blind set {self.ref}, once")
            found = self._scored(row)
            if found.error is not None:
                return replace(row, error=f"on the blind set: {found.error}", error_code=found.error_code)
            entry = self._entry(found, book, together)
            book.add(entry)
            return replace(row, blind=_blind(entry, entry.look, recorded=False))

    def _scored(self, row: Row) -> Row:
        extras = Extras(use_cache=False, blind=True)
        report = evaluate([row.path], self.ref, self.settings, names=[row.name], extras=extras)
        (found,) = report.rows
        if report.dataset.sha256 != self.facts["sha256"] or found.sha256 not in (None, row.sha256):
            raise RunFailed(f"{row.path} or {self.ref} changed while it was measured; run it again")
        return found

    def _entry(self, found: Row, book: Book, together: tuple[str, ...]) -> Entry:
        base, steps = lineage(found.manifest)
        figures = {key: value for key in _FIGURES if (value := found.value(key)) is not None}
        if not {"em", "f1"} <= figures.keys() or found.created is None or found.sha256 is None:
            raise RunFailed(f"{found.path} has no EM on {self.ref}; leave --blind out for it")
        entry = Entry(
            scored=found.created,
            data=self.facts["sha256"],
            path=self.facts["path"],
            questions=self.facts["questions"],
            checkpoint=found.sha256,
            name=found.name,
            place=found.path,
            base=base,
            steps=steps,
            look=1,
            figures=figures,
            overlap=found.overlap,
            settings=decisive(found.settings),
            versions=found.versions,
            runs=together,
        )
        return replace(entry, look=book.next_look(entry))


def _blind(entry: Entry, look: int, *, recorded: bool) -> Blind:
    em, f1 = entry.figures["em"], entry.figures["f1"]
    return Blind(em, f1, entry.scored, look, recorded, entry.overlap, entry.settings)
