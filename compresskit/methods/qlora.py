"""QLoRA: a checkpoint is quantized, and an adapter trained on it (Dettmers et al. 2023, arXiv 2305.14314).

It is two runs of two methods. The packed base is a checkpoint of its own, made once: any number of adapters stand on it
by `lora DIR-base`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compresskit import console
from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.store import differences, sha256_weights
from compresskit.errors import UsageError
from compresskit.methods.job import Job, default_output, with_data
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.registry import METHODS
from compresskit.methods.run import check_effects, describe, examine_first, plan, require_kind, run, trained_teacher
from compresskit.models.builtin import scratch
from compresskit.models.source import Source, resolve
from compresskit.training.arguments import Evaluator
from compresskit.training.plan import Plan
from compresskit.training.session import processes_of


def run_qlora(adapter: Job, bits: int, evaluator: Evaluator | None = None) -> Path:
    """Pack the base of a LoRA job in 4 or 8 `bits`, unless that is done, and run the job on it; the adapter's folder.

    Raises what `run` raises, and UsageError where another base stands in the way.
    """
    adapter, source = _examined(adapter, bits)
    base = Path(f"{adapter.options.target}-base")
    if adapter.teacher is not None:
        teacher = trained_teacher(adapter, source)
        assert teacher is not None
        adapter = _taught(adapter, str(teacher.path))
    processes = processes_of(adapter.training)
    if processes.is_main_process and not _is_made(base, adapter, source, bits):
        run(_packing(adapter, bits, base))
    processes.wait_for_everyone()
    return run(_on(base, adapter), evaluator)


def plan_qlora(adapter: Job, bits: int) -> list[Plan]:
    """What `run_qlora` would do, without doing it; the base is packed in a temporary folder."""
    adapter, _ = _examined(adapter, bits)
    base = run(_packing(adapter, bits, scratch() / f"base-{bits}bit"))
    first = []
    if adapter.teacher is not None:
        first = plan(adapter.teacher)
        adapter = _taught(adapter, adapter.options.model)
    return [*first, *plan(_on(base, adapter))]


def _examined(adapter: Job, bits: int) -> tuple[Job, Source]:
    """The job with its own output and data, and what it starts from.

    Raises UsageError and InputError for what can be told before anything is written.
    """
    options = with_data(adapter.training)
    output = options.output or default_output(options.model, f"qlora-{bits}bit")
    adapter = replace(adapter, options=replace(options, output=output))
    check_effects(METHODS["lora"], adapter)
    source = resolve(options.model)
    require_kind(METHODS["quantize"], source)
    examine_first([METHODS["quantize"], METHODS["lora"]], adapter, source)
    return adapter, source


def _packing(adapter: Job, bits: int, base: Path) -> Job:
    options = QuantizeOptions(model=adapter.options.model, output=base, overwrite=True)
    return Job("quantize", options, QuantizeConfig(bits=bits, backend="bitsandbytes"))


def _is_made(base: Path, adapter: Job, source: Source, bits: int) -> bool:
    """Whether the packed base is there; UsageError where another one is that must not be overwritten."""
    if not base.exists():
        return False
    manifest, wanted = read_manifest(base), describe(_packing(adapter, bits, base))
    if manifest is None or not manifest.steps or manifest.base is None:
        other = "it is not one of compresskit"
    elif manifest.base.sha256 != sha256_weights(source.path):
        other = "it was packed from other weights"
    else:
        other = differences({**manifest.steps[-1].config, "checkpoint": adapter.options.model}, wanted)
    if not other:
        console.info(f"{base} is made already")
    elif not adapter.options.overwrite:
        raise UsageError(f"{base} is in the way ({other}); give another --output, or --overwrite")
    return not other


def _on(base: Path, adapter: Job) -> Job:
    return replace(adapter, options=replace(adapter.training, model=str(base)))


def _taught(adapter: Job, teacher: str) -> Job:
    """The job with a teacher that was trained for it."""
    given = replace(adapter.distillation, teacher=teacher, teacher_epochs=None, teacher_lr=None)
    return replace(adapter, distillation=given)
