"""A report of fifteen checkpoints, four of them lost, as a long night leaves it: long names, near twins."""

import random
from typing import Any

from compresskit.evaluate.delivery import GateOptions
from compresskit.evaluate.gate import gated, parse_rules
from compresskit.evaluate.ratio import Ratio
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.slice import Slice, Slices
from tests.evaluate.report.samples import LOST, MANIFEST, WON

_CHANCE = random.Random(7)
_VALUES = {
    "question": ("what", "who", "how many", "when", "other"),
    "answerable": ("yes", "no"),
    "windows": ("1", "2", "3 or more"),
}
_DATA = "/home/someone/projects/reading/data/squad_v2.0-dev-cleaned-2026-11.json.gz"


def _slices(em: float, *, is_baseline: bool) -> Slices:
    """Slices around an EM; the second value of the first key stands out."""
    found: dict[str, dict[str, Slice]] = {}
    for key, values in _VALUES.items():
        found[key] = {}
        for number, value in enumerate(values):
            own = min(em + _CHANCE.uniform(-6, 6), 100.0)
            p_value = 1e-5 if key == "question" and number == 1 and em < 65 else 0.3
            pairs: dict[str, Any] = {} if is_baseline else {
                "delta_em": em - 73.9, "delta_em_ci95": (em - 77.0, em - 70.8),
                "delta_f1": em - 73.0, "delta_f1_ci95": (em - 75.0, em - 71.0),
                "p_value": p_value, "p_value_holm": min(10 * p_value, 1.0),
            }  # fmt: skip
            found[key][value] = Slice(400 - 70 * number, own, (own - 3, own + 3), own + 3, (own, own + 6), **pairs)
    return found


def _row(name: str, method: str, em: float, megabytes: float, ms: float, **more: Any) -> Row:
    """A row that was measured in all respects, in turns with the baseline."""
    is_baseline = bool(more.get("baseline", False))
    against: dict[str, Any] = {} if is_baseline else {
        "delta_em": em - 73.85, "delta_em_ci95": (em - 75.0, em - 72.7), "p_value": 0.0123,
        "delta_f1": em - 73.5, "delta_f1_ci95": (em - 74.6, em - 72.4), "questions_won": 61, "questions_lost": 187,
        "latency_ratio": Ratio(ms / 8.3, 0.021, 7), "rate_ratio": Ratio(8.3 / ms, 0.034, 7),
        "memory_ratio": Ratio(0.97, 0.18 if "seed" in name else 0.001, 7), "flips": (LOST, WON),
        "turns": {"latency_ms_p50": [[ms * (1 + 0.01 * number), 8.3] for number in range(7)]},
    }  # fmt: skip
    known: dict[str, Any] = {
        "baseline": False, "em": em, "em_ci95": (em - 1.6, em + 1.6), "f1": em + 3.1, "f1_ci95": (em + 1.5, em + 4.7),
        "has_ans_em": em - 2.0, "has_ans_f1": em + 4.2, "no_ans_em": em + 2.0, "null_threshold": -0.75,
        "best_em": em + 0.4, "best_null_threshold": -1.5, "beats_nothing": em > 50.5,
        "params_total": 109_483_778, "params_nonzero": int(1_094_837 * min(megabytes / 4.38, 100.0)),
        "params_trainable": 590_592, "disk_bytes": int(megabytes * 0.9e6), "deploy_bytes": int(megabytes * 1e6),
        "zstd_bytes": int(megabytes * 0.8e6), "load_s": 0.75, "load_memory_bytes": 811_000_000,
        "peak_memory_bytes": 1_612_000_000, "peak_memory_kind": "cuda", "reserved_memory_bytes": 2_114_000_000,
        "process_memory_bytes": 2_514_000_000, "library_memory_bytes": 514_000_000, "latency_ms_p50": ms,
        "latency_ms_p95": 1.6 * ms, "questions_per_s": 2600 / ms, "questions_per_s_range": (2500 / ms, 2700 / ms),
        "sha256": "c" * 64, "created": "2026-11-22T01:00:00+00:00", "manifest": MANIFEST,
        "slices": _slices(em, is_baseline=is_baseline), "overlap": {"questions": 0, "paragraphs": 0},
    }  # fmt: skip
    return Row(name, f"runs/{name}", method=method, **{"family": "encoder", **known, **against, **more})


def _lost(name: str, error: str, **more: Any) -> Row:
    return Row(name, f"runs/{name}", "-", "-", False, error=error, **more)


ROWS = (
    _row("bert-base-uncased-squad2", "train", 73.85, 438.0, 8.3, baseline=True),
    _row("bert-smp-0.5", "prune/smp", 73.1, 221.4, 8.2),
    _row("bert-smp-0.9-distilled-from-large-seed-1", "prune/smp", 69.4, 58.1, 8.4),
    _row("bert-smp-0.9-distilled-from-large-seed-2", "prune/smp", 69.2, 58.2, 8.5),
    _row("bert-smp-0.9-distilled-from-large-seed-3", "prune/smp", 69.9, 58.0, 8.3, kept=True),
    _lost("bert-2of4", "its process was ended by SIGKILL, as the system does when memory is short", error_code=5),
    _row("lora-r8", "lora", 72.7, 441.2, 8.9, overlap={"questions": 120, "paragraphs": 31}),
    _row("lora-r8-merged", "merge", 72.7, 438.0, 8.3),
    _row("qlora-nf4", "lora → qlora", 71.9, 92.6, 14.8, arithmetic="nf4"),
    _lost(
        "bert-int8-onnxruntime-dynamic-per-channel",
        "/home/someone/projects/reading/runs/bert-int8-onnxruntime-dynamic-per-channel/model.onnx: ends after "
        "12,582,912 of 109,483,778 bytes; copy the file again",
        error_code=3,
        disk_bytes=12_582_912,
    ),
    _row("bert-int8", "quantize/torch", 73.6, 110.3, 4.1),
    _row("structured-0.75", "prune/structured", 61.2, 121.0, 2.6),
    _row("lstm", "train", 50.1, 9.6, 1.2, family="lstm", overlap=None),
    _lost("t5-small-run-3", "CUDA out of memory; give a smaller --batch-size", error_code=5),
    _lost("mamba-130m", "needs the package mamba-ssm; install it with: pip install mamba-ssm", error_code=4),
)
RULES = ("em>=base-2", "size<=0.5x", "latency<=9ms", "latency<=1.1x|+2ms", "f1[question=who]>=60")
REPORT = gated(
    Report(
        "2026-11-22T01:44:29+00:00",
        {"python": "3.12.3", "torch": "2.13.0+cu130", "transformers": "5.1.0"},
        {"kind": "cuda", "name": "NVIDIA H200", "threads": 16, "load": {"before": {"load_average": [9.5], "cpus": 16}}},
        Dataset(_DATA, "e" * 64, 2003, 1001, 11873, 20, nothing={"em": 50.02, "f1": 50.02}),
        ROWS,
    ),
    [*parse_rules(RULES, has_baseline=True), *parse_rules(["f1>=base-3"], has_baseline=True, ci95=True)],
    GateOptions(),
)
"""Gates hold, fail, and cannot be told."""
