"""Checkpoints that answer questions: opened once, asked many times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from compresskit.api.checkpoint import Reference
from compresskit.api.described import of_options
from compresskit.api.surroundings import as_found
from compresskit.api.values import of_torch, reference, values_of
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.asking import Answer, Shown, asked_as
from compresskit.models.answering import AnswerOptions
from compresskit.options import Known, options_of
from compresskit.recipe.verbs import made

if TYPE_CHECKING:
    from typing import Unpack

    import torch
    from transformers import PreTrainedTokenizerFast

    from compresskit.api.keywords import AnswerKeywords
    from compresskit.data.examples import Example
    from compresskit.models.loaded import LoadedModel

Device: TypeAlias = "Literal['auto', 'cpu', 'cuda'] | torch.device"
Dtype: TypeAlias = "Literal['float32', 'bfloat16', 'float16'] | torch.dtype"
Question: TypeAlias = tuple[str, str] | Mapping[str, str]
"""A question and its passage: a pair, or an object with the keys `question`, `context` and, where it has one, `id`."""


def answer_options() -> Mapping[str, Known]:
    """The options of `predict`, by the names of their fields."""
    return {name: each for kind in (AnswerOptions, Shown) for name, each in options_of(kind).items()}


class Reader:
    """A checkpoint in memory, which answers questions; `ck.load` opens one.

    `model` is what the ecosystem's own loader gives (transformers, PEFT), or a reader of ONNX graphs, and `tokenizer`
    is its tokenizer: both can be used as such.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @property
    def model(self) -> Any:
        """The model."""
        return self._loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer."""
        return self._loaded.tokenizer

    @property
    def ref(self) -> str:
        """What the checkpoint was named by."""
        return self._loaded.ref

    @property
    def family(self) -> str:
        """Which models it is of: encoder, seq2seq, causal or lstm."""
        return str(self._loaded.family.name)

    @property
    def kind(self) -> str:
        """How it is stored: full, mask, adapter, quantized or onnx."""
        return self._loaded.kind.name

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._loaded.device

    @of_options(answer_options)
    def predict(self, question: str, context: str, **options: Unpack[AnswerKeywords]) -> Answer:
        """Answer one question about one passage; an empty `text` means that the passage does not tell.

        Raises UsageError for an option that cannot be or has no effect, InputError where a text is empty, RunFailed
        where a logit is not a number.
        """
        (answer,) = self.predict_many([(question, context)], **options)
        return answer

    @of_options(answer_options)
    def predict_many(self, questions: Iterable[Question], **options: Unpack[AnswerKeywords]) -> list[Answer]:
        """Answer many questions in batches, in their order. Raises as `predict`.

        Example:
            >>> reader.predict_many([("Who?", "Anna sings."), {"id": "q7", "question": "Who?", "context": "Ben runs."}])
        """
        from compresskit.evaluate.predict import predictions

        values = values_of("predict", answer_options(), options)
        examples = [_example(number, each) for number, each in enumerate(questions)]
        with as_found(computes=True):
            asked = made(AnswerOptions, values)
            how = asked_as(self._loaded, asked, made(Shown, values))
            return [Answer.of(each, asked.n_best) for each in predictions(self._loaded, examples, how)]

    def __repr__(self) -> str:
        return f"Reader({self.ref!r}: {self.kind}, {self.family}, on {self.device})"


def load(ref: Reference, *, device: Device = "auto", dtype: Dtype = "float32") -> Reader:
    """Open a checkpoint of any kind, in evaluation mode, to answer questions with it.

    `ref` is a folder, an alias, a Hub id or a `Checkpoint`. `device` is auto (a GPU where there is one), cpu or cuda;
    which of several GPUs CUDA_VISIBLE_DEVICES tells. `dtype` is that of the weights, float32, bfloat16 or float16, but
    for those that are stored quantized and for ONNX, which brings its own. Both may be objects of torch.

    Raises UsageError for an unknown name, InputError for a folder that is no checkpoint, is damaged or has no trained
    head, MissingError where the Hub, the GPU or a package is not there.

    Example:
        >>> reader = ck.load("runs/half")
        >>> reader.predict("Who sings?", "Anna sings in the choir.").text
        'Anna'
    """
    name = reference(ref, "ref")
    device = of_torch(device)
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"device {device!r} is not one of auto, cpu, cuda; of several GPUs CUDA_VISIBLE_DEVICES names one"
        )
    with as_found(computes=True):
        from compresskit.models.registry import load as opened
        from compresskit.models.registry import require_head

        return Reader(require_head(opened(name, device=device, dtype=_checked(of_torch(dtype)))))


def _checked(dtype: str) -> str:
    from compresskit.models.device import resolve_dtype

    resolve_dtype(dtype)
    return dtype


@of_options(answer_options)
def predict(
    ref: Reference, question: str, context: str, *, device: Device = "auto", **options: Unpack[AnswerKeywords]
) -> Answer:
    """Open a checkpoint, and answer one question about one passage. For several, `ck.load` it once.

    Raises what `ck.load` and `Reader.predict` raise.
    """
    return load(ref, device=device).predict(question, context, **options)


def _example(number: int, asked: Question) -> Example:
    """A question as data has it; UsageError where it is none, InputError where a text of it is empty."""
    from compresskit.data.examples import Example

    parts = asked if isinstance(asked, Mapping) else _pair(asked, number)
    try:
        question, context = parts["question"], parts["context"]
    except KeyError as error:
        raise UsageError(f"question {number} has no {error.args[0]}; give question and context") from error
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str):
            raise UsageError(f"the {name} of question {number} is {type(text).__name__}; give a text")
        if not text.strip():
            raise InputError(f"the {name} is empty; give one that says something")
    return Example(str(parts.get("id", number)), "", question, context, (), True, number)


def _pair(asked: Any, number: int) -> Mapping[str, str]:
    if isinstance(asked, str) or not isinstance(asked, Iterable) or len(pair := tuple(asked)) != 2:
        raise UsageError(f"question {number} is not a pair of question and context; give (question, context)")
    return dict(zip(("question", "context"), pair, strict=True))
