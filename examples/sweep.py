"""A sweep: one model at several sparsities, measured side by side, as a table and as a data frame.

    python examples/sweep.py

Started again it goes on where it was: `resume` keeps a checkpoint that is finished, and takes up one that is not. An
unchanged checkpoint is not measured again either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compresskit as ck

SPARSITIES = (0.5, 0.7, 0.9)


def main(
    folder: Path = Path("runs/sweep"), steps: int = 400, sparsities: Sequence[float] = SPARSITIES, limit: int = 300
) -> ck.Report:
    """Train a dense model, prune it at each sparsity with it as the teacher, and compare."""
    common: dict[str, Any] = {"train_data": "demo", "max_steps": steps, "max_train_samples": 32 * steps, "resume": True}

    with ck.progress():  # without it, calls are silent
        # demo/bert and demo data need no network; any other model and data stand here as well.
        dense = ck.train("demo/bert", output=folder / "dense", lr=2e-3, **common)
        masks = [
            ck.prune(dense, sparsity=each, distill=True, teacher=dense, output=folder / f"smp-{each:g}", **common)
            for each in sparsities
        ]
        report = ck.evaluate([dense, *masks], data="demo", baseline=dense, gates=["em>=base-2"], limit=limit)

    print(report)  # in a notebook, the last line of a cell shows it as a table: report

    frame = report.to_pandas()[["em", "delta_em", "deploy_bytes", "disk_bytes", "latency_ms_p50"]]
    frame["sparsity"] = [0.0, *sparsities]
    print(frame)

    # The sparsest one that holds every gate.
    held = [row for row in report if all(gate.passed for gate in report.gates if gate.row == row.name)]
    print("smallest that holds:", min(held, key=lambda row: row.disk_bytes or 0).name)
    report.save(folder / "sweep.html")
    return report


if __name__ == "__main__":
    main()
