"""A report with something of everything: a baseline, gains and losses, a row without figures, gates, flips, lineage."""

from dataclasses import replace
from typing import Any

from compresskit.evaluate.gate import gated, parse
from compresskit.evaluate.row import Dataset, Flip, Report, Row

CONTEXT = "The Seine runs through Paris. It reaches the sea at Le Havre."
LOST = Flip("q-lost", "Which river runs through Paris?", CONTEXT, ("The Seine", "Seine"), "Seine", "Le Havre", False)
WON = Flip("q-won", "Who dug the Seine?", CONTEXT, (), "Paris", "", True)

MANIFEST: dict[str, Any] = {
    "schema": "compresskit.checkpoint/1",
    "family": "encoder",
    "kind": "mask",
    "base": {"ref": "hub/base-model", "revision": None, "sha256": "b" * 64},
    "steps": [
        {
            "method": "prune/smp",
            "config": {
                "method": "smp",
                "lr": 3e-05,
                "epochs": 9.0,
                "block": [32, 32],
                "distill": {"temperature": 2.0, "weight": 0.9},
                "structured": False,
                "teacher_training": None,
            },
            "seed": 42,
            "data": {"path": "train.json.gz", "sha256": "d" * 64, "questions": 28235, "unanswerable": 9277},
            "wall_time_s": 439.81,
            "metrics": {"train_loss": 43.790815, "head": "teacher"},
            "versions": {"torch": "2.13.0"},
        }
    ],
    "created": "2026-11-22T00:25:01+00:00",
}

DENSE = Row(
    name="dense",
    path="runs/dense",
    family="encoder",
    method="train",
    baseline=True,
    em=73.85,
    em_ci95=(72.1, 75.4),
    f1=76.7,
    has_ans_em=71.5,
    has_ans_f1=77.25,
    no_ans_em=76.19,
    null_threshold=0.25,
    best_em=74.01,
    best_null_threshold=-1.5,
    delta_em=0.0,
    delta_f1=0.0,
    params_total=22_565_376,
    params_nonzero=22_565_376,
    params_trainable=22_565_376,
    disk_bytes=90_300_000,
    deploy_bytes=90_300_000,
    peak_memory_bytes=612_000_000,
    peak_memory_kind="rss",
    latency_ms_p50=8.312,
    latency_ms_p95=12.94,
    questions_per_s=313.2,
    questions_per_s_range=(301.5, 320.25),
    sha256="a" * 64,
    created="2026-11-22T01:00:00+00:00",
    predictions="predictions/dense.json",
)
PRUNED = replace(
    DENSE,
    name="pruned-0.9",
    path="runs/pruned",
    method="prune/smp",
    baseline=False,
    em=71.02,
    em_ci95=(69.3, 72.6),
    f1=74.5,
    delta_em=-2.83,
    delta_em_ci95=(-3.91, -1.77),
    p_value=0.00123,
    delta_f1=-2.2,
    delta_f1_ci95=(-3.1, -1.25),
    questions_won=31,
    questions_lost=117,
    params_nonzero=5_641_344,
    disk_bytes=1_300_000,
    deploy_bytes=91_600_000,
    latency_ms_p50=8.475,
    sha256="c" * 64,
    manifest=MANIFEST,
    flips=(LOST, WON),
)
INT8 = Row(
    name="int8",
    path="runs/int8",
    family="encoder",
    method="quantize/onnx",
    baseline=False,
    em=72.4,
    f1=75.9,
    delta_em=-1.45,
    disk_bytes=23_100_000,
    deploy_bytes=23_100_000,
    zstd_bytes=19_400_000,
    load_s=0.75,
    load_memory_bytes=211_000_000,
    reserved_memory_bytes=645_000_000,
    process_memory_bytes=887_000_000,
    latency_ms_p50=4.25,
    metrics={"bleu": 33.25},
    device={"kind": "cuda", "name": "GPU of this row"},
    versions={"torch": "2.13.0+cu130"},
)
PREDICTED = Row("predictions", "answers.json", "-", "-", False, em=50.0, f1=55.5, delta_em=-23.85)
BROKEN = Row("broken", "runs/broken", "-", "-", False, error="its process was ended by SIGKILL", error_code=5)

ROWS = (DENSE, PRUNED, INT8, PREDICTED, BROKEN)
RULES = ("em>=base-2", "size<=0.5x", "latency<=9ms")
REPORT = gated(
    Report(
        "2026-11-22T01:44:29+00:00",
        {"python": "3.11.7", "torch": "2.13.0+cpu"},
        {"kind": "cpu", "name": "Some CPU", "threads": 2},
        Dataset("data/eval.json.gz", "e" * 64, 2003, 700, 4761, 20),
        ROWS,
    ),
    [parse(rule) for rule in RULES],
)
