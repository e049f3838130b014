"""Made-up runs: rows and outcomes of checkpoints with seeds, and the report of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compresskit.evaluate.compare import compared
from compresskit.evaluate.mean import folded, with_means
from compresskit.evaluate.measurement import Outcome
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.runs import Runs
from compresskit.evaluate.slices import with_slices
from compresskit.evaluate.slicing import Division

QUESTIONS, PARAGRAPHS = 120, 24
PARAGRAPH = np.arange(QUESTIONS) % PARAGRAPHS
PARITY = Division.of([str(index % 2) for index in range(QUESTIONS)])

Made = tuple[Row, Outcome]


def made(name: str, share: float, seed: int | None = None, *, baseline: bool = False, draw: int = 0) -> Made:
    """A checkpoint with `share` of the questions right; alike within a paragraph, as real ones are."""
    rng = np.random.default_rng([draw, *name.encode()])
    ease = np.random.default_rng(5).normal(0, 0.15, PARAGRAPHS)[PARAGRAPH]
    em = (rng.random(QUESTIONS) < share + ease).astype(float)
    f1 = np.clip(em + rng.random(QUESTIONS) * 0.3, 0, 1)
    manifest = None if seed is None else {"steps": [{"method": "train", "seed": seed}, {"method": "merge", "seed": 0}]}
    row = Row(
        *(name, f"out/{name}", "encoder", "train", baseline),
        em=100 * float(em.mean()),
        f1=100 * float(f1.mean()),
        disk_bytes=1_000_000 + len(name),
        deploy_bytes=2_000_000,
        params_total=100,
        latency_ms_p50=8.0 + share,
        manifest=manifest,
    )
    return row, Outcome(question_em=em.tolist(), question_f1=f1.tolist(), paragraph=PARAGRAPH.tolist())


def rows_of(found: Sequence[Made], *runs: Sequence[str]) -> list[Row]:
    """The rows of a report; each of `runs` is the name of a mean and those of its checkpoints."""
    means = [Runs(name, tuple(f"out/{own}" for own in names)) for name, *names in runs]
    rows, outcomes, layout = with_means([row for row, _ in found], [outcome for _, outcome in found], means)
    rows = compared(rows, outcomes, np.zeros((QUESTIONS, 2)), layout)
    return folded(with_slices(rows, outcomes, {"parity": PARITY}, layout), layout)


def a_report(*, paired: bool = True) -> Report:
    """A baseline and a mask of two seeds each, and a row of one checkpoint."""
    seeds = (42, 43) if paired else (7, 8)
    found = [
        *(made(f"dense-seed{seed}", 0.7, seed, baseline=True) for seed in (42, 43)),
        *(made(f"smp-seed{seed}", share, seed) for seed, share in zip(seeds, (0.58, 0.62), strict=True)),
        made("one", 0.69),
    ]
    names = [row.name for row, _ in found]
    rows = rows_of(found, ["dense", *names[:2]], ["smp", *names[2:4]])
    return Report("2026-01-01T00:00:00+00:00", {}, {}, Dataset("d", "0", QUESTIONS, 0), tuple(rows))
