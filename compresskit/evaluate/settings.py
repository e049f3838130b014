"""How checkpoints are asked and measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from compresskit.data.match import normalizer
from compresskit.errors import UsageError
from compresskit.models.answering import GENERATION, AnswerOptions, WindowOptions
from compresskit.models.prompt import Prompt
from compresskit.options import DATA, MACHINE, check, like, option, refuse
from compresskit.training.arguments import TrainingOptions

TIMING = "Timing"
METRICS = "Figures"

NullThreshold = float | Literal["auto"]


def parse_threshold(text: str) -> NullThreshold:
    """A number, or `auto`; ValueError for anything else."""
    return "auto" if text == "auto" else float(text)


@dataclass(frozen=True, slots=True)
class EvalSettings:
    """How checkpoints are asked and measured.

    `batch_size` in windows of full length; `max_length`, `stride` and `max_answer_length` in tokens;
    `null_threshold` in logits: a question is left unanswered where the null score exceeds the best span's
    by more; "auto" takes the one that suits `tune_data` best, for each checkpoint its own. `limit` asks whole
    paragraphs with so many questions in all, drawn with `seed`. `latency_questions` are timed one by one (with 0
    the latency is not measured), after `warmup_questions` that are not; a batch warms up the timing of batches too,
    unless that is 0. All timing is done `repeat` times. `metrics` are figures beyond EM and F1 (see
    `compresskit.evaluate.metrics`), `harness` tasks of lm-evaluation-harness.

    Raises UsageError where a value cannot be.
    """

    batch_size: int = option(32, "Windows of full length in one batch.", metavar="N", least=1, panel=MACHINE)
    max_length: int = like(WindowOptions, "max_length", help="Tokens of one window.")
    stride: int = like(WindowOptions, "stride", help="Tokens that neighbouring windows share.")
    max_answer_length: int = like(AnswerOptions, "max_answer_length")
    prompt_template: Prompt | None = like(AnswerOptions, "prompt_template")
    beams: int | None = like(AnswerOptions, "beams")
    length_penalty: float | None = like(AnswerOptions, "length_penalty")
    shots: int | None = option(
        None,
        "Show N examples before each question, of --shots-data, drawn with --seed.",
        metavar="N",
        least=0,
        most=8,
        panel=GENERATION,
    )
    shots_data: str | None = option(
        None,
        "Where the examples are from: training data.",
        metavar="DATA",
        shown="the training set of --data",
        panel=GENERATION,
    )
    null_threshold: NullThreshold = option(
        0.0,
        "Unanswerable where null score - score is above this; auto: the best on --tune-data.",
        metavar="T|auto",
        parse=parse_threshold,
        hint="give a number, or auto with --tune-data",
        shown="0",
    )
    tune_data: str | None = option(None, "Other questions, on which --null-threshold auto is chosen.", metavar="DATA")
    limit: int | None = option(
        None, "Ask whole paragraphs with at most N questions, drawn with --seed.", metavar="N", least=1
    )
    device: Literal["auto", "cpu", "cuda"] = like(TrainingOptions, "device")
    dtype: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "Numbers that weights are held in.", panel=MACHINE
    )
    seed: int = like(TrainingOptions, "seed", default=0, help="Seed of --limit, --shots and --rounds.", panel=DATA)
    latency_questions: int = option(
        50, "Time N questions one at a time; 0 measures no latency.", metavar="N", least=0, panel=TIMING
    )
    warmup_questions: int = option(
        5, "Ask N questions before those that are timed.", metavar="N", least=0, panel=TIMING
    )
    repeat: int = option(1, "Do all timing N times.", metavar="N", least=1, panel=TIMING)
    normalize: str = option(
        "squad",
        "How texts are made comparable: squad, as the official script does (for English), or mlqa:LANG, as MLQA's does "
        "for ar, de, en, es, hi, vi, zh.",
        metavar="squad|mlqa:LANG",
        panel=METRICS,
    )
    metrics: tuple[str, ...] = option(
        (),
        "Overlap with the gold answers: bleu, rouge; perplexity of a language model: ppl.",
        metavar="NAME,…",
        panel=METRICS,
    )
    harness: tuple[str, ...] = option(
        (),
        "Tasks of lm-evaluation-harness for a language model: names, or YAML files.",
        metavar="TASK,…",
        panel=METRICS,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.stride >= self.max_length:
            raise UsageError(
                f"--stride {self.stride} does not fit in --max-length {self.max_length}; give a smaller one"
            )
        normalizer(self.normalize)
        if not self.shots:
            refuse(self, ("shots_data",), "without --shots")
        if (self.null_threshold == "auto") != (self.tune_data is not None):
            raise UsageError("--null-threshold auto and --tune-data belong together; give both, or neither")

    def for_data(self, ref: str) -> EvalSettings:
        """The same settings with the data of the examples: where none are given, the training set of the data `ref`.

        Raises UsageError where that has none.
        """
        if not self.shots or self.shots_data is not None:
            return self
        from compresskit.data.load import training_set

        training = training_set(ref)
        if training is None:
            raise UsageError(f"--shots {self.shots} needs --shots-data: the file {ref} has no training data beside it")
        return replace(self, shots_data=training)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        found = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {**found, "prompt_template": None if self.prompt_template is None else self.prompt_template.to_dict()}
