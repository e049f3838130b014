"""Calibration: questions of the training data, as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compresskit import console
from compresskit.checkpoint.manifest import Data
from compresskit.checkpoint.temporary import temporary_folder
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load as load_data
from compresskit.data.match import Golds
from compresskit.errors import UsageError
from compresskit.methods.quantize.config import QuantizeConfig
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.task import Batch
from compresskit.models.tasks.text_answers import trained_prompt
from compresskit.text import counted

# Tokens of a window at most, and the part of it that neighbours share.
LONGEST, SHARED = 384, 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """The questions, how they are put, and their windows as batches of one."""

    data: Data
    examples: ExampleSet
    options: AnswerOptions
    batches: Sequence[Batch]


def training_data(loaded: LoadedModel, config: QuantizeConfig) -> str:
    """The data set to calibrate with: the given one, else what the checkpoint learned from last.

    Raises UsageError where its manifest tells of none.
    """
    steps = loaded.manifest.steps if loaded.manifest is not None else ()
    known = [config.train_data, *(step.data.path for step in reversed(steps) if step.data is not None)]
    found = next((path for path in known if path is not None), None)
    if found is None:
        raise UsageError(f"{loaded.ref} does not tell what it was trained on; give --train-data")
    return found


def gathered(loaded: TrainableModel, config: QuantizeConfig) -> Calibration:
    """Questions of the training data, as the model reads them. Raises the errors of reading data."""
    assert config.calibrate is not None
    whole = load_data(training_data(loaded, config), "train")
    examples = whole.sample(min(config.calibrate, len(whole)), config.drawn_with)
    longest = min(LONGEST, loaded.family.max_positions(loaded.model.config) or LONGEST)
    prompt = trained_prompt(loaded) if loaded.task.prompt is not None else None
    options = AnswerOptions(longest, longest // SHARED, prompt_template=prompt)
    with temporary_folder() as folder:
        loaded.task.write(loaded.tokenizer, examples, options.windows, folder)
        features = loaded.task.open(folder)
        collate = loaded.task.collator(loaded.tokenizer)
        batches = [collate([features[row]]) for row in range(len(features))]
    info = examples.info
    windows = counted(len(batches), "window")
    console.info(f"calibrating with {counted(len(examples), 'question')} of {info.path}, {windows}")
    return Calibration(
        Data(info.path, info.sha256, info.questions, info.unanswerable, info.counts), examples, options, batches
    )


def exact_matches(loaded: LoadedModel, calibration: Calibration) -> float:
    """Per cent of the questions that the model answers as the gold answers say."""
    answers = loaded.task.answer(loaded, calibration.examples, calibration.options)
    pairs = zip(calibration.examples, answers, strict=True)
    right = [Golds(gold.text for gold in example.answers).score(answer.text)[0] for example, answer in pairs]
    return 100 * sum(right) / len(right)
