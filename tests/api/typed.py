"""Calls as a type checker sees them: mypy accepts what is right here, and each `type: ignore` is of a misuse.

An ignore without a mistake is an error to mypy too (`warn_unused_ignores`), so that this file is a test. Nothing of it
is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torch

import compresskit as ck
from compresskit.methods.run import Outline
from compresskit.training.plan import Plan


def typical_calls() -> None:
    dense = ck.train("bert", train_data=Path("train.json"), epochs=2, lr=3e-5, output="runs/dense")
    assert_type(dense, ck.Checkpoint)
    half = ck.prune(dense, sparsity=0.5, block="32x32", distill=True, teacher=dense, eval_data="dev.json")
    ck.lora(half, rank=8, targets=["query", "value"], seed=1)
    ck.qlora(Path("runs/dense"), bits=4)
    ck.export(ck.merge(half), onnx=True)
    small = ck.quantize(dense, bits=8, backend="torch")
    report = ck.evaluate([dense, half, small], data="dev.json", baseline=dense, gates=["em>=base-1"], limit=100)
    assert_type(report, ck.Report)
    ck.evaluate(runs={"half": [half, "runs/half-2"]}, data="dev.json", baseline=dense)
    assert_type(report["half"], ck.Row)
    assert_type(report["half"].em, float | None)
    assert_type(report[1:], tuple[ck.Row, ...])
    assert_type([gate.passed for gate in report.gates], list[bool])
    assert_type(dense.evaluate("dev.json", baseline="runs/other"), ck.Report)
    ck.train("bert", device=torch.device("cpu"), dtype=torch.bfloat16)
    ck.load(half, device=torch.device("cpu"), dtype=torch.bfloat16)
    reader = ck.load(half, device="cpu", dtype="bfloat16")
    assert_type(reader.predict("Who?", "Anna.", n_best=3), ck.Answer)
    assert_type(reader.predict_many([("Who?", "Anna."), {"question": "Who?", "context": "Ben."}]), list[ck.Answer])
    assert_type(ck.predict(small, "Who?", "Anna.").start, int | None)
    assert_type(ck.plan("prune", dense, sparsity=0.9), list[Plan])
    assert_type(ck.plan("quantize", dense, bits=4), Outline)
    assert_type(ck.run_recipe("demo", {"max-steps": 2}).report, ck.Report | None)
    assert_type(dense.manifest, ck.Manifest | None)


def misuse(dense: ck.Checkpoint, report: ck.Report) -> None:
    ck.prune(dense, sparcity=0.5)  # type: ignore[call-arg]
    ck.prune(dense, sparsity="half")  # type: ignore[arg-type]
    ck.prune(dense, method="smq")  # type: ignore[arg-type]
    ck.lora(dense, sparsity=0.5)  # type: ignore[call-arg]
    ck.train(dense, epochs="3")  # type: ignore[arg-type]
    ck.train()  # type: ignore[call-arg]
    ck.quantize(dense, bits=3)  # type: ignore[arg-type]
    ck.evaluate(dense, format="json")  # type: ignore[call-arg]
    ck.evaluate([dense], gates=[70])  # type: ignore[list-item]
    ck.load(dense, device="gpu")  # type: ignore[arg-type]
    ck.predict(dense, "Who?")  # type: ignore[call-arg]
    ck.plan("prun", dense)  # type: ignore[call-overload]
    report["half"].exact_match  # type: ignore[attr-defined]  # noqa: B018
    dense.kind = "mask"  # type: ignore[misc]
    ck.prunes  # type: ignore[attr-defined]  # noqa: B018
