"""What a BiLSTM reader is made of: the settings, and the variants that combine them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from compresskit.errors import UsageError
from compresskit.options import check, option

if TYPE_CHECKING:
    from compresskit.data.examples import ExampleSet

Attention = Literal["additive", "multi-head", "self", "flow"]
Pooling = Literal["flatten", "max"]
RANDOM = "random"


_METAVARS: Mapping[type, str] = {int: "N", float: "X", str: "FILE"}


def _setting(default: Any, help_text: str, *, preset: bool = False, **known: Any) -> Any:
    """An option of a reader; those of a `preset` differ among the variants."""
    metavar = None if known.get("choices") or isinstance(default, bool) else _METAVARS[type(default)]
    return option(default, help_text, metavar=metavar, shown="as --variant says" if preset else str(default), **known)


@dataclass(frozen=True, slots=True)
class LstmOptions:
    """Settings of a BiLSTM reader; docs/reference/lstm.md says what each does.

    `embeddings` is `random` or a vector file, `embedding_dim` the numbers of a word's vector (0: those of the file, 100
    for random ones); `hidden_size` is that of one direction of an LSTM. `l2` weighs the sum of the squares of all
    matrices but the embeddings. `vocabulary` bounds the words that have a vector of their own, `buckets` are shared by
    the others. Raises UsageError where a value is out of its range.
    """

    variant: str = _setting(
        "1", "The preset that the other settings start from.", choices=("1", "2", "3", "4", "bidaf")
    )
    embeddings: str = _setting(
        RANDOM, "random, or a file of word vectors: GloVe text or fastText .vec, plain or packed, or fastText .bin."
    )
    embedding_dim: int = _setting(
        0, "Numbers of a word's vector; 0 is those of the file, 100 where they are random.", least=0
    )
    freeze_embeddings: bool = _setting(False, "Keep the words' vectors as they are.")
    cased: bool = _setting(False, "Tell capital letters from small ones.")
    attention: str = _setting(
        "additive", "How the context looks at the question.", choices=get_args(Attention), preset=True
    )
    residual: bool = _setting(False, "Add what attention finds to what it started from, and normalize.", preset=True)
    pooling: str = _setting(
        "flatten",
        "max: the window's maximum tells of no answer, and without modelling layers stands beside each position.",
        choices=get_args(Pooling),
        preset=True,
    )
    dropout: float = _setting(0.2, "Rate of the activations that training drops.", preset=True, least=0, below=1)
    l2: float = _setting(
        0.0, "Weight of the squares of all matrices but the embeddings in the loss.", preset=True, least=0, below=1e6
    )
    layers: int = _setting(1, "BiLSTM layers that read question and context.", least=1)
    hidden_size: int = _setting(128, "Units of an LSTM in one direction.", preset=True, least=1)
    characters: bool = _setting(False, "Read the words' letters too, by a convolution.", preset=True)
    exact_match: bool = _setting(False, "Tell each word whether question and context both have it.", preset=True)
    highway: int = _setting(0, "Highway layers above the word vectors.", preset=True, least=0)
    modelling_layers: int = _setting(0, "BiLSTM layers above the attention.", preset=True, least=0)
    vocabulary: int = _setting(60_000, "Most words that have a vector of their own.", least=1)
    min_count: int = _setting(2, "Occurrences in the training data that give a word its own vector.", least=1)
    buckets: int = _setting(256, "Vectors that all other words share, by a hash.", least=1)

    def __post_init__(self) -> None:
        check(self)
        if self.attention == "multi-head" and self.hidden_size % 2:
            raise UsageError(
                f"--hidden-size {self.hidden_size} is not even, as the 4 heads of --attention multi-head ask for"
            )
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

    def reads(self) -> list[Path]:
        """The file of word vectors, where there is one."""
        return [] if self.vector_file is None else [self.vector_file]

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
