"""`compresskit train`: fine-tune the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compresskit.cli import options as flags
from compresskit.cli.architecture import chosen, with_architecture


@with_architecture
def train(
    model: flags.Model,
    architecture: Mapping[str, Any],
    output: flags.Output = None,
    train_data: flags.TrainData = None,
    eval_data: flags.EvalData = None,
    epochs: flags.Epochs = None,
    max_steps: flags.MaxSteps = None,
    max_train_samples: flags.MaxTrainSamples = None,
    negatives: flags.Negatives = 0.0,
    batch_size: flags.BatchSize = 32,
    accumulate: flags.Accumulate = 1,
    lr: flags.LearningRate = None,
    max_length: flags.MaxLength = flags.DEFAULT_MAX_LENGTH,
    stride: flags.Stride = flags.DEFAULT_STRIDE,
    seed: flags.Seed = 42,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    save_steps: flags.SaveSteps = 500,
    resume: flags.Resume = False,
    overwrite: flags.Overwrite = False,
    plan: flags.Plan = False,
) -> None:
    """Fine-tune the whole model: the baseline of a table, and the teacher of a student."""
    given = dict(locals())
    from compresskit.cli import settings
    from compresskit.methods import train as method

    built = chosen(model, architecture)
    lr, epochs = settings.fine_tuning(model, built, lr, epochs)
    output = output or flags.default_output(model, "train")
    options = settings.training_options(given, output=output, lr=lr, epochs=epochs, architecture=built)
    if plan:
        settings.show_plans([method.plan(options)])
        return
    score = settings.scorer(eval_data, device=device, max_length=max_length, stride=stride)
    settings.show_score(method.apply(options, score))
