"""`prune`: learn which weights of a checkpoint may go, and leave an overlay of masks on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.checkpoint.manifest import KindName
from compresskit.checkpoint.mask import Mask, shannon_bits
from compresskit.errors import InputError, UsageError
from compresskit.methods.experts import check_experts
from compresskit.methods.job import Job, default_output
from compresskit.methods.method import Attached, Footprint
from compresskit.methods.prune.config import DEFAULTS, PruneConfig
from compresskit.methods.prune.head import set_head
from compresskit.methods.prune.masked import check_block, original_name, original_weight, own_name
from compresskit.methods.prune.masker import Masker
from compresskit.methods.train import weight_groups
from compresskit.models.defaults import TrainingDefaults
from compresskit.models.device import resolve_device
from compresskit.models.families import family_of
from compresskit.models.kinds.overlay import save_overlay
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.source import Source
from compresskit.options import refuse
from compresskit.training.arguments import TrainingOptions
from compresskit.training.optimizers import ParameterGroup
from compresskit.training.plan import WEIGHT


class PruneMethod:
    """Masks over weights; with some methods the weights learn too."""

    name = "prune"
    Config = PruneConfig
    accepts: frozenset[KindName] = frozenset({"full"})
    trains = True
    defaults: TrainingDefaults | None = DEFAULTS

    def leaves(self, config: PruneConfig) -> KindName:
        """A mask over what it was given."""
        return "mask"

    def title(self, config: PruneConfig) -> str:
        """`prune/smp` and the like."""
        return f"{self.name}/{config.method}"

    def output(self, job: Job) -> Path:
        """Method and sparsity: `runs/<model>-smp-0.5`, `runs/<model>-smp-0.5-distill`."""
        name = f"{job.config.method}-{job.config.sparsity:g}{'-distill' if job.distillation.distill else ''}"
        return default_output(job.options.model, name)

    def check(self, job: Job) -> None:
        """Every option may have an effect."""

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The checkpoint itself, or where its weights are random the teacher, which was trained from them.

        Raises UsageError where there is nothing to prune: random weights, and no teacher that could take their place.
        """
        if not source.untrained:
            return source
        if teacher is None:
            raise UsageError(f"{source.ref} has random weights: nothing to prune yet; fine-tune it, or add --distill")
        if family_of(teacher).name != family_of(source).name:
            raise UsageError(
                f"{source.ref} has random weights: nothing to prune yet; train it, and prune that with this teacher"
            )
        return teacher

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """UsageError for a block that does not divide what is masked, and for `--lr` where nothing learns at it.

        Raises InputError where masks would not reach most of the weights: where those are of experts, or of
        convolutions in the place of linear layers (SqueezeBERT).
        """
        check_experts(loaded, self.name, needed=True)
        modules = maskable(loaded, asked.config)
        if not modules:
            raise InputError(
                f"{loaded.ref} has no linear layers in its blocks, and masks are over those; "
                "take a model of another type"
            )
        for name, module in modules.items():
            check_block(name, module, asked.config.block)
        _refuse_lr(asked, loaded)

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Choose the head. Raises UsageError for a learning rate at which nothing learns then."""
        head = set_head(loaded, teacher)
        _refuse_lr(asked, loaded)
        return {"head": head}

    def attach(self, loaded: TrainableModel, config: PruneConfig, dtype: torch.dtype) -> Attached:
        """Masks over what is maskable."""
        return Masks(loaded, config, dtype)


def _refuse_lr(asked: Job, loaded: TrainableModel) -> None:
    """UsageError where `--lr` was given, but scores alone learn."""
    if not asked.config.learns_weights and not loaded.missing_head:
        refuse(
            asked.options, ("lr",), f"with --method {asked.config.method} where the head is there: only scores learn"
        )


class Masks(Attached):
    """The masks of a model, and what learns under and beside them."""

    def __init__(self, loaded: TrainableModel, config: PruneConfig, dtype: torch.dtype) -> None:
        self.loaded = loaded
        self.config = config
        modules = maskable(loaded, config)
        others = {name: sharing(loaded.model, module, own_name(name)) for name, module in modules.items()}
        self.masker = Masker(modules, config, dtype)
        # A weight that several modules read, such as T5's embeddings, is under one mask in all of them.
        self.tied = [(module, own_name(name), self.masker.masks[name]) for name in others for module in others[name]]
        for module, own, mask in self.tied:
            parametrize.register_parametrization(module, own, mask, unsafe=True)
        self.masks: Mapping[str, Mask] = {}

    def groups(self, options: TrainingOptions) -> list[ParameterGroup]:
        """The scores, with the methods that learn weights those too, and a head that nobody gave.

        Everything else is frozen. Scores have their own learning rate and no weight decay.
        """
        model, family = self.loaded.model, self.loaded.family
        learning = family.head(model) if self.loaded.missing_head else set()
        if self.config.learns_weights:
            learning |= {original_name(name) for name in self.masker.modules} | family.alongside(model)
        scores = {id(parameter) for parameter in self.masker.scores()}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in learning or id(parameter) in scores)
        weights = (p for p in model.parameters() if p.requires_grad and id(p) not in scores)
        groups = weight_groups(weights, options)
        if scores:
            groups.append({"params": self.masker.scores(), "lr": self.config.scores_at, "weight_decay": 0.0})
        return groups

    def added(self) -> Sequence[nn.Parameter]:
        """The scores."""
        return self.masker.scores()

    def step(self, done: float) -> Tensor | None:
        """Mask for this step; the penalty on the scores."""
        return self.masker.step(done)

    def comparable(self, done: float) -> bool:
        """Once the schedule has reached the sparsity: before, more weights remain, and more is answered right."""
        return self.masker.schedule.progress(done) == 1.0

    def as_finished(self) -> AbstractContextManager[None]:
        """The exact target."""
        return self.masker.at_target()

    def fields(self) -> Mapping[str, float]:
        """Remaining weights."""
        return self.masker.fields()

    def choices(self, options: TrainingOptions) -> Mapping[str, str]:
        """How thresholds are found on a GPU; a CPU ranks every score."""
        if self.config.method == "soft-movement" or resolve_device(options.device).type == "cpu":
            return {}
        return {"thresholds": "read from a sample of every matrix in each step; what is saved is counted exactly"}

    def footprint(self, number: int) -> Footprint:
        """Copies of the masked weights, and the masks near their Shannon bound.

        In memory: the masked copy that a layer multiplies with, which lasts until the next step; of frozen weights, one
        in the computation's dtype where that is another. On disk: the masks, and the kept weights where they learn.
        """
        masked, grid = self._masked(), self._masked() // (self.config.block[0] * self.config.block[1])
        frozen = not self.config.learns_weights and number != WEIGHT
        kept = round(masked * (1 - self.config.sparsity))
        bits = shannon_bits(round(grid * (1 - self.config.sparsity)), grid)
        return Footprint(masked * number * (1 + frozen), round(bits / 8 + WEIGHT * kept * self.config.learns_weights))

    def summary(self) -> str:
        """How many weights are under masks, and how many of them remain."""
        masked = self._masked()
        return f"masks over {masked:,} weights, of which {round(masked * (1 - self.config.sparsity)):,} remain"

    def finish(self) -> Mapping[str, Any]:
        """Leave the exact target applied to the weights."""
        self.masks = self.masker.final_masks()
        for module, own, _ in self.tied:
            parametrize.remove_parametrizations(module, own, leave_parametrized=False)
        self.masker.remove(self.masks)
        return {"sparsity": 100 * reached(self.masks)}

    def save(self, folder: Path) -> None:
        """The overlay: masks, head, and with the methods that learn weights all that learned."""
        model, family = self.loaded.model, self.loaded.family
        names = family.head(model)
        if self.config.learns_weights:
            names = names | set(self.masks) | family.alongside(model)
        parameters = dict(model.named_parameters())
        save_overlay(folder, self.masks, {name: parameters[name] for name in sorted(names)})
        model.config.save_pretrained(folder)

    def _masked(self) -> int:
        return sum(original_weight(module, name).numel() for name, module in self.masker.modules.items())


def maskable(loaded: TrainableModel, config: PruneConfig) -> Mapping[str, nn.Module]:
    """What the run masks: by the name of each parameter, the module that holds it."""
    found = dict(loaded.family.weights(loaded.model))
    if config.mask_embeddings:
        words: nn.Module = loaded.model.get_input_embeddings()
        found[next(f"{name}.weight" for name, module in loaded.model.named_modules() if module is words)] = words
    return found


def sharing(model: nn.Module, module: nn.Module, own: str) -> list[nn.Module]:
    """The other modules that hold the parameter `own` of a module too, under the same name."""
    weight = module.get_parameter(own)
    others = (each for each in model.modules() if each is not module)
    return [each for each in others if dict(each.named_parameters(recurse=False)).get(own) is weight]


def reached(masks: Mapping[str, Mask]) -> float:
    """Fraction of the weights under the masks that is removed."""
    return 1.0 - sum(mask.ones for mask in masks.values()) / sum(mask.size for mask in masks.values())
