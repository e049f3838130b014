"""What a LoRA run is: rank, scale, dropout, and the weights that are adapted. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from compresskit.errors import UsageError
from compresskit.models.defaults import TrainingDefaults
from compresskit.options import check, option

LORA = "LoRA"
# An adapter starts from nothing and is small, so it takes larger steps than the weights that it stands on.
DEFAULTS = TrainingDefaults(lr=1e-3, epochs=3.0)

DEFAULT_TARGETS = "query-value"
# An encoder's head is new, and its blocks have never read for questions: few matrices would underfit. Language models
# have no common names for queries and values, and a Mamba has none.
BY_FAMILY: Mapping[str, str] = {"encoder": "all-linear", "causal": "linear"}
PRESETS: Mapping[str, str] = {
    "query-value": "the query and value projections of attention",
    "attention": "all projections of attention",
    "linear": "all linear layers of the blocks",
    "all-linear": "all linear layers but the head",
}


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Settings of a LoRA run (Hu et al. 2021, arXiv 2106.09685), as PEFT has them.

    A weight W is computed as W + s · B A, where B A has the `rank`; s is alpha / rank, or alpha / √rank with `rslora`
    (Kalajdzievski 2023, arXiv 2312.03732). `dropout` is that of the adapter's input. `targets` are presets, names of
    modules, or globs over their whole names. `dora` learns the length of the columns apart (Liu et al. 2024, arXiv
    2402.09353). `init` is how A starts; B starts as zeros, but with pissa (Meng et al. 2024, arXiv
    2404.02948): there both start as the main directions of W, which are taken from W. What is saved stands on the whole
    W all the same, as an adapter of twice the rank.

    By default queries and values are adapted: at the same number of parameters, Hu et al. found the two together better
    than any one matrix at a higher rank. With rank 8 that is 0.4 % of T5-base. In an encoder all linear layers are: a
    MiniLM lost 6 to 8 points of EM with queries and values alone, and none with all.
    """

    rank: int = option(8, "Rank of the adapters.", metavar="R", least=1, panel=LORA)
    alpha: float | None = option(
        None,
        "Scale of the adapters; they are multiplied by alpha / rank.",
        metavar="A",
        above=0,
        shown="2 · rank",
        panel=LORA,
    )
    dropout: float | None = option(
        None, "Dropout of the adapters' input.", metavar="P", least=0, below=1, shown="0", panel=LORA
    )
    targets: tuple[str, ...] = option(
        (),
        f"What is adapted: {', '.join(PRESETS)}, names of modules (q, query), or globs over whole names.",
        metavar="NAME,…",
        shown=", ".join((DEFAULT_TARGETS, *(f"{preset} for {family}" for family, preset in BY_FAMILY.items()))),
        panel=LORA,
    )
    rslora: bool = option(False, "Divide alpha by the root of the rank, for high ranks.", panel=LORA)
    dora: bool = option(False, "Learn the length of each column of a weight too (DoRA).", panel=LORA)
    init: Literal["default", "gaussian", "orthogonal", "pissa"] = option(
        "default",
        "How the adapters start; default is Kaiming-uniform for A, zeros for B; pissa takes the main directions of the "
        "weights.",
        panel=LORA,
    )

    def __post_init__(self) -> None:
        names = tuple(name.strip() for text in self.targets for name in text.split(","))
        object.__setattr__(self, "targets", names)
        check(self)
        if self.init == "pissa" and self.dora:
            raise UsageError("--init pissa and --dora exclude each other; leave one of them out")

    @property
    def scale(self) -> float:
        """The alpha of a run whose defaults are filled in."""
        return 2.0 * self.rank if self.alpha is None else self.alpha

    def for_family(self, family: str) -> LoraConfig:
        """The same settings with the targets that a family of models has where none are given."""
        return replace(self, targets=self.targets or (BY_FAMILY.get(family, DEFAULT_TARGETS),))

    @property
    def factor(self) -> float:
        """What B A is multiplied by."""
        return float(self.scale / (self.rank**0.5 if self.rslora else self.rank))

    def describe(self) -> Mapping[str, Any]:
        """All settings as JSON values, as they take effect."""
        return {**asdict(self), "alpha": self.scale, "dropout": self.dropout or 0.0, "targets": list(self.targets)}

    @classmethod
    def described(cls, told: Mapping[str, Any]) -> Self:
        """What `describe` tells so. A dropout of 0 was perhaps not given, and some models cannot have one that is."""
        return cls(**{**told, "targets": tuple(told.get("targets", ())), "dropout": told.get("dropout") or None})
