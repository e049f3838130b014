"""What a BiLSTM reader is made of: the settings, and the variants that combine them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from compresskit.errors import UsageError

if TYPE_CHECKING:
    from compresskit.data.examples import ExampleSet

Attention = Literal["additive", "multi-head", "self", "flow"]
Pooling = Literal["flatten", "max"]
RANDOM = "random"


def _flag(default: Any, help_text: str, choices: tuple[str, ...] = (), *, preset: bool = False) -> Any:
    shown = "as --variant says" if preset else str(default)
    return field(default=default, metadata={"help": help_text, "choices": choices, "shown": shown})


@dataclass(frozen=True, slots=True)
class LstmOptions:
    """Settings of a BiLSTM reader; docs/lstm.md says what each does.

    `embeddings` is `random` or a vector file, `embedding_dim` the numbers of a word's vector (0: those of the file, 100
    for random ones); `hidden_size` is that of one direction of an LSTM. `l2` weighs the sum of the squares of all
    matrices but the embeddings. `vocabulary` bounds the words that have a vector of their own, `buckets` are shared by
    the others. Raises UsageError where a value is out of its range.
    """

    lr: ClassVar[float] = 2e-3
    epochs: ClassVar[float] = 8.0

    variant: str = _flag("1", "The preset that the other settings start from.", ("1", "2", "3", "4", "bidaf"))
    embeddings: str = _flag(
        RANDOM, "random, or a file of word vectors: GloVe text or fastText .vec, plain or .gz, or fastText .bin."
    )
    embedding_dim: int = _flag(0, "Numbers of a word's vector; 0 is those of the file, 100 where they are random.")
    freeze_embeddings: bool = _flag(False, "Keep the words' vectors as they are.")
    cased: bool = _flag(False, "Tell capital letters from small ones.")
    attention: str = _flag("additive", "How the context looks at the question.", get_args(Attention), preset=True)
    residual: bool = _flag(False, "Add what attention finds to what it started from, and normalize.", preset=True)
    pooling: str = _flag(
        "flatten",
        "max: the window's maximum tells of no answer, and without modelling layers stands beside each position.",
        get_args(Pooling),
        preset=True,
    )
    dropout: float = _flag(0.2, "Rate of the activations that training drops.", preset=True)
    l2: float = _flag(0.0, "Weight of the squares of all matrices but the embeddings in the loss.", preset=True)
    layers: int = _flag(1, "BiLSTM layers that read question and context.")
    hidden_size: int = _flag(128, "Units of an LSTM in one direction.", preset=True)
    characters: bool = _flag(False, "Read the words' letters too, by a convolution.", preset=True)
    exact_match: bool = _flag(False, "Tell each word whether question and context both have it.", preset=True)
    highway: int = _flag(0, "Highway layers above the word vectors.", preset=True)
    modelling_layers: int = _flag(0, "BiLSTM layers above the attention.", preset=True)
    vocabulary: int = _flag(60_000, "Most words that have a vector of their own.")
    min_count: int = _flag(2, "Occurrences in the training data that give a word its own vector.")
    buckets: int = _flag(256, "Vectors that all other words share, by a hash.")

    def __post_init__(self) -> None:
        for item in fields(self):
            choices = item.metadata["choices"]
            if choices and getattr(self, item.name) not in choices:
                raise UsageError(f"{_name(item.name)} {getattr(self, item.name)!r} is not one of {', '.join(choices)}")
        for name in ("layers", "hidden_size", "vocabulary", "min_count", "buckets"):
            if getattr(self, name) < 1:
                raise UsageError(f"{_name(name)} must be at least 1")
        for name in ("embedding_dim", "highway", "modelling_layers"):
            if getattr(self, name) < 0:
                raise UsageError(f"{_name(name)} must be at least 0")
        if self.attention == "multi-head" and self.hidden_size % 2:
            raise UsageError("--hidden-size must be even with --attention multi-head, which has 4 heads")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout {self.dropout:g} is not in [0, 1)")
        if not 0 <= self.l2 < 1e6:
            raise UsageError(f"--l2 {self.l2:g} must be at least 0 and finite")
        if self.embeddings == RANDOM and self.freeze_embeddings:
            raise UsageError("--freeze-embeddings keeps random vectors random; give a file as --embeddings, or drop it")

    @classmethod
    def choose(cls, **given: Any) -> Self:
        """The preset of `variant` with what was given (not None) in the place of its own settings.

        Raises UsageError for an unknown name or value, and for variants 2 to 4 without a vector file.
        """
        taken = {name: value for name, value in given.items() if value is not None}
        options = cls(**({**_preset(taken.get("variant", "1")), **taken}))
        if options.variant in NEED_VECTORS and "embeddings" not in taken:
            raise UsageError(
                f"--variant {options.variant} stands on {NEED_VECTORS[options.variant]} vectors; give the file as "
                "--embeddings FILE, or say --embeddings random"
            )
        return options

    @property
    def vector_file(self) -> Path | None:
        """The file of word vectors, None where they are random."""
        return None if self.embeddings == RANDOM else Path(self.embeddings)

    def build(self, examples: ExampleSet, seed: int, folder: Path) -> None:
        """Write the untrained reader with its tokenizer; InputError where the vector file is not one."""
        from compresskit.models.lstm.build import build

        build(self, examples, seed, folder)


L2 = 1e-5
_DEEP: Mapping[str, Any] = {"residual": True, "pooling": "max", "dropout": 0.3, "l2": L2}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "1": {"attention": "additive", "pooling": "flatten", "dropout": 0.3},
    "2": {"attention": "additive", "pooling": "flatten", "dropout": 0.3, "l2": L2},
    "3": {"attention": "multi-head", **_DEEP},
    "4": {"attention": "self", **_DEEP},
    "bidaf": {
        "attention": "flow",
        "pooling": "max",
        "characters": True,
        "exact_match": True,
        "highway": 2,
        "modelling_layers": 2,
        "hidden_size": 100,
        "dropout": 0.2,
    },
}
# The variants whose published rows were trained on pretrained vectors, and which.
NEED_VECTORS: Mapping[str, str] = {"2": "GloVe", "3": "fastText", "4": "fastText"}


def _preset(variant: str) -> Mapping[str, Any]:
    if variant not in PRESETS:
        raise UsageError(f"--variant {variant!r} is not one of {', '.join(PRESETS)}")
    return PRESETS[variant]


def _name(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")
