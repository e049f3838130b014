"""QLoRA: a checkpoint is quantized, and an adapter trained on it (Dettmers et al. 2023, arXiv 2305.14314).

It is two runs of two methods. The packed base is a checkpoint of its own, made once: any number of adapters stand on it
by `lora DIR-base`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compresskit import console
from compresskit.checkpoint.jobs import differences
from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.outputs import check_apart, check_folder
from compresskit.checkpoint.store import Workspace, sha256_weights, weight_files
from compresskit.errors import UsageError
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, default_output, with_data
from compresskit.methods.needed import require_packages
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.reading import read_by
from compresskit.methods.registry import method_named
from compresskit.methods.run import (
    check_effects,
    check_teacher,
    describe,
    examine_first,
    plan,
    require_kind,
    run,
    trained_teacher,
)
from compresskit.models.builtin import scratch
from compresskit.models.source import Source
from compresskit.training.arguments import Evaluator
from compresskit.training.plan import Plan
from compresskit.training.session import processes_of


def run_qlora(adapter: Job, bits: int, evaluator: Evaluator | None = None) -> Path:
    """Pack the base of a LoRA job in 4 or 8 `bits`, unless that is done, and run the job on it; the adapter's folder.

    Raises what `run` raises, and UsageError where another base stands in the way.
    """
    adapter, source = _examined(adapter, bits)
    base = _base(adapter)
    is_made = _is_made(base, adapter, source, bits)
    if adapter.teacher is not None:
        teacher = trained_teacher(adapter, source)
        assert teacher is not None
        adapter = _taught(adapter, str(teacher.path))
    processes = processes_of(adapter.training)
    if is_made:
        console.info(f"{base} is made already")
    elif processes.is_main_process:
        run(_packing(adapter, bits, base))
    processes.wait_for_everyone()
    return run(_on(base, adapter), evaluator)


def plan_qlora(adapter: Job, bits: int) -> list[Plan]:
    """What `run_qlora` would do, without doing it; the base is packed in a temporary folder."""
    adapter, source = _examined(adapter, bits)
    base = _base(adapter)
    note = f"{'stands on' if _is_made(base, adapter, source, bits) else 'packs first, to'} {base}"
    packed = run(_packing(adapter, bits, scratch() / f"base-{bits}bit"))
    first = []
    if adapter.teacher is not None:  # which is yet to be trained, and takes no memory of the adapter's run
        first = plan(adapter.teacher)
        adapter = replace(adapter, distillation=Distillation())
    # The places were checked, and an interrupted run names another base than this one.
    adapter = replace(adapter, options=replace(adapter.training, resume=False, overwrite=True))
    return [*first, *(replace(each, notes=(*each.notes, note)) for each in plan(_on(packed, adapter)))]


def _base(adapter: Job) -> Path:
    """Where the packed base of a job lies."""
    return Path(f"{adapter.options.target}-base")


def _examined(adapter: Job, bits: int) -> tuple[Job, Source]:
    """The job with its own output and data, and what it starts from.

    Raises UsageError and InputError for what can be told before anything is written.
    """
    require_packages(adapter, bits)
    options = with_data(adapter.training)
    name = f"qlora-{bits}bit-{adapter.config.rank}{'-distill' if adapter.distillation.distill else ''}"
    output = options.output or default_output(options.model, name)
    if adapter.config.init == "pissa":
        raise UsageError("--init pissa changes the weights below, and qlora packs those; leave it out")
    adapter = replace(adapter, options=replace(options, output=output))
    check_effects(method_named("lora"), adapter)
    source = options.source
    require_kind(method_named("quantize"), source)
    _check_places(adapter, source, bits)
    examine_first([_packing(adapter, bits, _base(adapter)), adapter], source)
    return adapter, source


def _check_places(adapter: Job, source: Source, bits: int) -> None:
    """UsageError where the adapter, its packed base or its teacher may not be written, or would be over what is read.

    An output that is full may be a finished run's, where it is to be resumed.
    """
    read, options = list(read_by(adapter)), adapter.training
    if options.resume:
        check_apart(options.target, read)
    else:
        check_folder(options.target, read, overwrite=options.overwrite)
    workspace = Workspace(options.target)
    workspace.check(read)
    if not options.resume:  # else the run itself looks at what is there, on the base that is packed for it
        workspace.check_job({}, resume=False, overwrite=options.overwrite)
    if not _is_made(_base(adapter), adapter, source, bits):
        check_folder(_base(adapter), read, overwrite=True)
    check_teacher(adapter)


def _packing(adapter: Job, bits: int, base: Path) -> Job:
    options = QuantizeOptions(
        model=adapter.options.model, output=base, overwrite=True, revision=adapter.options.revision
    )
    return Job("quantize", options, QuantizeConfig(bits=bits, backend="bitsandbytes"))


def _is_made(base: Path, adapter: Job, source: Source, bits: int) -> bool:
    """Whether the packed base is there; UsageError where another one is that must not be overwritten."""
    if not base.exists():
        return False
    mend = "give another --output"
    manifest, wanted = read_manifest(base), describe(_packing(adapter, bits, base))
    if manifest is None or not manifest.steps or manifest.base is None:
        raise UsageError(f"{base} is in the way (it is not one of compresskit); {mend}")
    if manifest.base.sha256 != sha256_weights(source.path):
        other = "it was packed from other weights"
    elif not weight_files(base):
        other = "its weights are gone"
    else:
        other = differences({**manifest.steps[-1].config, "checkpoint": adapter.options.model}, wanted)
    if other and not adapter.options.overwrite:
        raise UsageError(f"{base} is in the way ({other}); {mend}, or --overwrite")
    return not other


def _on(base: Path, adapter: Job) -> Job:
    return replace(adapter, options=replace(adapter.training, model=str(base), revision=None))


def _taught(adapter: Job, teacher: str) -> Job:
    """The job with a teacher that was trained for it."""
    given = replace(adapter.distillation, teacher=teacher, teacher_epochs=None, teacher_lr=None)
    return replace(adapter, distillation=given)
