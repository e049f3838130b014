"""A training step of full fine-tuning, LoRA and QLoRA: our engine beside PEFT's published loop.

    python -m benchmarks.lora_step [--shape base] [--batch-size 16] [--length 512] [--steps 30] [--rounds 3]

The model is a T5 with random weights of T5-base's or a smaller shape, on made-up prompts of one length with targets of
16 tokens. PEFT's loop is that of its documentation: transformers' Trainer on `get_peft_model`, over a base that
transformers has quantized and `prepare_model_for_kbit_training` has prepared; without gradient checkpointing, as ours.
Both compute in bf16 on a GPU, fp32 on a CPU, with AdamW. The ways take turns in one process, round by round; the first
steps of each are not counted. Memory is the peak that tensors take.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.machine import headline
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.lora.method import LoraMethod
from compresskit.methods.penalties import with_penalties
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.methods.quantize.method import Packed
from compresskit.methods.teaching import supervised
from compresskit.methods.train import WholeModel
from compresskit.models.device import DTYPES, resolve_device
from compresskit.models.kinds.bnb import move
from compresskit.models.kinds.full import FullKind
from compresskit.models.kinds.quantized import QuantizedKind
from compresskit.models.loaded import TrainableModel
from compresskit.models.seq2seq import Seq2SeqFamily
from compresskit.models.tasks.target_features import TargetCollator
from compresskit.training.arguments import TrainingOptions
from compresskit.training.computing import compute_dtype
from compresskit.training.engine import Engine

SHAPES: Mapping[str, Mapping[str, int]] = {
    "base": {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128},
    "tiny": {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 2, "vocab_size": 512},
}
WARM_UP, TARGET = 5, 16
WAYS = ("full", "lora", "qlora, 4 bits", "qlora, 8 bits")


def main() -> None:
    """Time all ways of both in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(headline(resolve_device(given.device)))
    print(f"T5 of {given.shape} shape, batches of {given.batch_size} x {given.length}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        shape: dict[str, Any] = {**SHAPES[given.shape], "decoder_start_token_id": 0}
        T5ForConditionalGeneration(T5Config(**shape)).save_pretrained(folder / "base")
        seconds: dict[tuple[str, str], list[float]] = {}
        memory: dict[tuple[str, str], float] = {}
        for _ in range(given.rounds):
            for way in WAYS:
                for whose, run in (("ours", ours), ("PEFT's loop", theirs)):
                    taken, peak = measured(run, way, given, folder)
                    seconds.setdefault((way, whose), []).append(taken)
                    memory[way, whose] = peak
    print(f"{'way':15} {'whose':12} {'ms/step':>9} {'range':>15} {'GiB':>7} {'time / full':>11}")
    for (way, whose), times in seconds.items():
        low, high = 1e3 * min(times), 1e3 * max(times)
        over = statistics.median(times) / statistics.median(seconds["full", whose])
        typical, span = 1e3 * statistics.median(times), f"{low:.1f} to {high:.1f}"
        print(f"{way:15} {whose:12} {typical:9.1f} {span:>15} {memory[way, whose] / 2**30:7.2f} {over:11.2f}")


class Stopwatch(TrainerCallback):
    """Seconds from the end of the warm-up to the end of the training."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the device at the two ends."""
        if state.global_step in (WARM_UP, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if state.global_step == WARM_UP:
                self.started = time.perf_counter()
            self.ended = time.perf_counter()


Run = Callable[[str, argparse.Namespace, Path, Stopwatch], None]


def measured(run: Run, way: str, given: argparse.Namespace, folder: Path) -> tuple[float, float]:
    """Seconds of a step, and bytes at the peak of the training (0 on a CPU)."""
    watch = Stopwatch()
    run(way, given, folder, watch)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return (watch.ended - watch.started) / given.steps, peak


class Rows(Sequence[dict[str, Any]]):
    """Random prompts of one length, with targets."""

    def __init__(self, count: int, length: int, vocabulary: int) -> None:
        self.lengths = np.full(count, length)
        generator = np.random.default_rng(0)
        self.prompts = generator.integers(1, vocabulary, (count, length))
        self.targets = generator.integers(1, vocabulary, (count, TARGET))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        return {"input_ids": self.prompts[index], "labels": self.targets[index], "index": index}


def rows(given: argparse.Namespace) -> Rows:
    """Enough of them for all steps."""
    steps = given.steps + WARM_UP
    return Rows(given.batch_size * steps, given.length, SHAPES[given.shape]["vocab_size"])


def ours(way: str, given: argparse.Namespace, folder: Path, watch: Stopwatch) -> None:
    """Our method on our engine."""
    device = resolve_device(given.device)
    model = T5ForConditionalGeneration.from_pretrained(folder / "base", dtype=torch.float32)
    kind = QuantizedKind() if "bits" in way else FullKind()
    loaded = TrainableModel(model, None, Seq2SeqFamily(), kind, "t5", None, None)  # type: ignore[arg-type]
    if "bits" in way:
        Packed(loaded, QuantizeConfig(bits=4 if "4" in way else 8, backend="bitsandbytes")).finish()
        move(model, device)
    options = TrainingOptions(
        "t5", folder / "out", max_steps=given.steps + WARM_UP, batch_size=given.batch_size, lr=1e-4
    )
    dtype = DTYPES[compute_dtype(options)]
    attached = WholeModel(loaded) if way == "full" else LoraMethod().attach(loaded, LoraConfig(), dtype)
    data, work = rows(given), folder / "work"
    work.mkdir(exist_ok=True)
    objective = with_penalties(supervised(loaded.task), loaded, attached)
    groups = attached.groups(options)
    engine = Engine(model, data, data.lengths, TargetCollator(0), objective, loaded.task.rows, groups, options, work)
    engine.add_callback(watch)
    engine.fit(resume=False)


def theirs(way: str, given: argparse.Namespace, folder: Path, watch: Stopwatch) -> None:
    """PEFT's loop; "full" is transformers' Trainer alone."""
    on_gpu = resolve_device(given.device).type == "cuda"
    packing: dict[str, Any] = {}
    if "4" in way:
        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        number = torch.bfloat16 if on_gpu else torch.float32
        packing["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=number, **nf4)
    elif "8" in way:
        packing["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder / "base", dtype=torch.float32, **packing)
    if packing:
        prepare: Any = prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=False)
    if way != "full":
        model = get_peft_model(model, PeftLora(r=8, lora_alpha=16, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM"))
    arguments = TrainingArguments(
        output_dir=str(folder / "theirs"),
        per_device_train_batch_size=given.batch_size,
        max_steps=given.steps + WARM_UP,
        learning_rate=1e-4,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10,
        remove_unused_columns=False,
    )
    data: Any = rows(given)
    trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=TargetCollator(0))
    trainer.add_callback(watch)
    trainer.train()


if __name__ == "__main__":
    main()
