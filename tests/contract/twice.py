"""Every method with every family, as jobs on tiny models: what is made twice, and what is made again of its manifest.

`python -m tests.contract.twice FOLDER` makes all of it in a folder beside `root`, in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compresskit.checkpoint.manifest import FILE
from compresskit.methods.distillation import Distillation
from compresskit.methods.export.config import ExportConfig, ExportOptions
from compresskit.methods.job import Job, MergeConfig, MergeOptions, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.qlora import run_qlora
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.lstm.variants import LstmOptions
from compresskit.training.arguments import TrainingOptions

ROOT = Path("../root")
"""Where models and data lie, seen from the folder that the checkpoints go to."""

MODELS = ("encoder", "lstm", "seq2seq", "causal", "mamba")


def models(root: Path) -> None:
    """A tiny model of every family, and data, in a folder."""
    from tests.contract import makers
    from tests.contract.test_mamba import checkpoint
    from tests.methods.quantize.test_quantize import wide

    for name in ("encoder", "seq2seq"):
        wide(name, root / name)
    for name in ("lstm", "causal"):
        makers.made(name, root / name)
    checkpoint("mamba", root / "mamba")
    makers.data(root / "data.json")


def training(model: str, output: str, **more: Any) -> TrainingOptions:
    """Three steps on a model of `ROOT`, or on a checkpoint that was made before."""
    known: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "max_length": 48, "stride": 8, "seed": 3}
    known |= {"device": "cpu", "train_data": str(ROOT / "data.json")} | more
    return TrainingOptions(_ref(model), Path(output), **known)


def _ref(model: str) -> str:
    return "lstm" if model == "built" else str(ROOT / model) if model in MODELS else model


def _train(model: str, taught: Distillation | None = None, **more: Any) -> Callable[[str], Job]:
    return lambda name: Job("train", training(model, name, **more), TrainConfig(), taught or Distillation())


def _prune(model: str, taught: Distillation | None = None, options: Any = None, **known: Any) -> Callable[[str], Job]:
    made = options or {}
    return lambda name: Job("prune", training(model, name, **made), PruneConfig(**known), taught or Distillation())


def _lora(model: str, taught: Distillation | None = None, **known: Any) -> Callable[[str], Job]:
    config = {"rank": 2, **known}
    return lambda name: Job("lora", training(model, name), LoraConfig(**config), taught or Distillation())


def _quantize(model: str, **known: Any) -> Callable[[str], Job]:
    return lambda name: Job("quantize", QuantizeOptions(_ref(model), Path(name)), QuantizeConfig(**known))


def _merge(model: str, **known: Any) -> Callable[[str], Job]:
    return lambda name: Job("merge", MergeOptions(model, Path(name)), MergeConfig(**known))


def _export(model: str, **known: Any) -> Callable[[str], Job]:
    return lambda name: Job("export", ExportOptions(_ref(model), Path(name)), ExportConfig(**known))


TEACHER = str(ROOT / "encoder")
TAUGHT = Distillation(distill=True, teacher=TEACHER)
BUILT = LstmOptions.choose(variant="bidaf", hidden_size=6, embedding_dim=5, buckets=3, min_count=1)

CASES: Mapping[str, Callable[[str], Job]] = {
    **{f"train-{model}": _train(model) for model in MODELS},
    "train-built": _train("built", architecture=BUILT),
    "train-distill": _train("encoder", TAUGHT),
    "train-retold": _train("seq2seq", Distillation(distill=True, teacher=TEACHER, distill_weight=0.5)),
    "train-chosen": _train("encoder", eval_steps=1, held_out=0.3, negatives=0.5, max_train_samples=15),
    "train-told": _train("encoder", max_steps=None, epochs=0.5, lr=2e-4, optimizer="adafactor", lr_warmup=0.1),
    **{f"prune-{way}": _prune("encoder", method=way) for way in ("smp", "smp-l", "movement", "soft-movement")},
    "prune-magnitude": _prune("encoder", method="magnitude", block=(1, 2), mask_embeddings=True),
    **{f"prune-{model}": _prune(model) for model in MODELS[1:]},
    "prune-settings": _prune("encoder", sparsity=0.9, score_lr=0.1, penalty=3.0, warmup=0.1, cooldown=0.3),
    "prune-head": _prune("encoder", Distillation(teacher=TEACHER)),
    "prune-taught": _prune("encoder", Distillation(distill=True, temperature=3.0, teacher_lr=1e-3)),
    "prune-built": _prune("built", Distillation(distill=True), {"architecture": BUILT}),
    **{f"lora-{model}": _lora(model) for model in MODELS},
    "lora-dora": _lora("encoder", dora=True, dropout=0.1),
    "lora-pissa": _lora("encoder", init="pissa", alpha=3.0),
    "lora-named": _lora("encoder", Distillation(distill=True), rslora=True, targets=("query", "value")),
    **{f"qlora-{model}": _lora(model) for model in ("encoder", "seq2seq", "mamba")},
    **{f"quantize-{model}": _quantize(model) for model in MODELS},
    "quantize-mask": _quantize("prune-smp"),
    "quantize-calibrated": _quantize("train-encoder", calibrate=5, keep_top=2, seed=4),
    "quantize-static": _quantize("encoder", calibrate=5, static=True, train_data=str(ROOT / "data.json")),
    "quantize-bnb-4": _quantize("encoder", backend="bitsandbytes", bits=4),
    "quantize-bnb-8": _quantize("seq2seq", backend="bitsandbytes"),
    "quantize-graph": _quantize("encoder", backend="onnxruntime"),
    "merge-mask": _merge("prune-movement"),
    "merge-adapter": _merge("lora-seq2seq", dtype="bfloat16"),
    "merge-int8": _merge("quantize-causal"),
    "export-onnx": _export("encoder", onnx=True),
    "export-peft-plain": _export("lora-mamba", peft_plain=True),
}
"""By the name of the output; a case may stand on those before it."""


def make(name: str) -> None:
    """Run a case in the working folder."""
    if name.startswith("qlora"):
        run_qlora(CASES[name](name), 4)
    else:
        run(CASES[name](name))


def unlike(first: Path, second: Path) -> list[str]:
    """The files of two folders that are not the same byte for byte; of a manifest, what differs beside its times.

    Where a base lies is seen from its folder, and so differs from folder to folder.
    """
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir()} - {FILE})
    odd = [name for name in names if _bytes(first / name) != _bytes(second / name)]
    manifests = [json.loads((folder / FILE).read_text()) for folder in (first, second)]
    return odd + [f"{FILE}: {key}" for key in _differing(*manifests)]


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


MAY_DIFFER = ("created", "wall_time_s", "examples_per_s", "ref")


def _differing(then: Any, now: Any, key: str = "") -> Iterator[str]:
    """Where two values of JSON are not the same, their keys in one order too; but for what may differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        if list(then) != list(now):
            yield f"{key}: its keys"
        for name in then.keys() & now.keys() - {*MAY_DIFFER}:
            yield from _differing(then[name], now[name], f"{key}.{name}")
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for index, (one, two) in enumerate(zip(then, now, strict=True)):
            yield from _differing(one, two, f"{key}[{index}]")
    elif then != now:
        yield key


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    for case in CASES:
        make(case)
