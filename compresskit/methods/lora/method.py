"""`lora`: low-rank adapters learn, the weights below them stay; the result is an adapter on a base."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLora
from peft import get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from compresskit import console
from compresskit.checkpoint.manifest import KindName
from compresskit.checkpoint.store import read_json, save_tensors, write_json
from compresskit.errors import InputError, RunFailed, UsageError
from compresskit.methods.experts import check_experts
from compresskit.methods.job import Job, default_output
from compresskit.methods.lora.config import DEFAULTS, LoraConfig
from compresskit.methods.lora.learning import learning
from compresskit.methods.lora.targets import adaptable, chosen, in_a_mamba, shortened, told
from compresskit.methods.method import Attached, Footprint
from compresskit.methods.train import weight_groups
from compresskit.models.blocks import is_linear_layer
from compresskit.models.defaults import TrainingDefaults, is_built_in
from compresskit.models.kinds.adapter import CONFIG, WEIGHTS
from compresskit.models.kinds.bnb import compute_in, follow_autocast, keep_in_place
from compresskit.models.kinds.packed import method_of
from compresskit.models.kinds.weight_adapter import PARTS, is_linear, put_on, save_adapter
from compresskit.models.loaded import LoadedModel, TrainableModel
from compresskit.models.mamba import is_mamba
from compresskit.models.mamba.adapters import (
    NAME,
    PEFT_OPENS,
    adapter_tensors,
    checked_targets,
    put_adapters,
    save_adapters,
)
from compresskit.models.source import ALIASES, Source
from compresskit.options import refuse
from compresskit.training.arguments import TrainingOptions
from compresskit.training.optimizers import ParameterGroup
from compresskit.training.plan import WEIGHT

# What PEFT calls what a family does.
TASKS: Mapping[str, str] = {"encoder": "QUESTION_ANS", "seq2seq": "SEQ_2_SEQ_LM", "causal": "CAUSAL_LM"}
# B starts as zeros, so A has no gradient before B has moved; and the first step of a warm-up moves nothing.
STEPS_TO_MOVE = 3


class LoraMethod:
    """Adapters of chosen weights; a head that answers is trained and saved along."""

    name = "lora"
    Config = LoraConfig
    accepts: frozenset[KindName] = frozenset({"full", "quantized"})
    trains = True
    defaults: TrainingDefaults | None = DEFAULTS

    def leaves(self, config: LoraConfig) -> KindName:
        """An adapter on what it was given."""
        return "adapter"

    def title(self, config: LoraConfig) -> str:
        """`lora`, or `lora/dora`."""
        return "lora/dora" if config.dora else self.name

    def output(self, job: Job) -> Path:
        """The rank: `runs/<model>-lora-8`, `runs/<model>-lora-8-distill`."""
        return default_output(
            job.options.model, f"lora-{job.config.rank}{'-distill' if job.distillation.distill else ''}"
        )

    def check(self, job: Job) -> None:
        """A teacher takes part in the loss alone; random weights have to be trained whole."""
        if is_built_in(job.options.model):
            raise UsageError(f"{job.options.model} has random weights: there is nothing to adapt yet; train it first")
        if not job.distillation.distill:
            refuse(job.distillation, ("teacher",), "without --distill")

    def prepare_base(self, source: Source, teacher: Source | None) -> Source:
        """The checkpoint that was asked for, whatever its teacher."""
        return source

    def examine(self, asked: Job, loaded: TrainableModel) -> None:
        """UsageError for a target that matches nothing, and for an option that these weights cannot have.

        Raises InputError for weights that another package than bitsandbytes has packed.
        """
        packed_by = getattr(loaded.model, "quantization_method", None)
        if packed_by not in (None, "bitsandbytes"):
            raise InputError(
                f"{loaded.ref} is quantized by {method_of(loaded.model.config)}, on which no adapter is trained here; "
                "pack what it came from with compresskit quantize --backend bitsandbytes"
            )
        if packed_by is not None and asked.config.init == "pissa":
            raise UsageError(
                f"--init pissa changes the weights below, and those of {loaded.ref} are packed; leave it out"
            )
        config = asked.config.for_family(loaded.family.name)
        if is_mamba(loaded.model):
            _check_mamba(loaded, config)
            return
        check_experts(loaded, self.name, needed=False)
        modules, rank = chosen(loaded, config.targets), config.rank
        narrow = [name for name, m in modules.items() if is_linear_layer(m) and rank > min(m.weight.shape)]
        if narrow and asked.config.init == "pissa":
            raise UsageError(f"--rank {rank} is more than {narrow[0]} has with --init pissa; lower it")
        if not is_linear(loaded.family.weights(loaded.model)):
            refuse(asked.config, ("dropout", "dora"), f"with {loaded.ref}, whose weights are adapted directly")
            if asked.config.init != "default":
                raise UsageError(f"--init {asked.config.init} has no effect with {loaded.ref}; leave it out")

    def prepare(self, asked: Job, loaded: TrainableModel, teacher: LoadedModel | None) -> Mapping[str, Any]:
        """Which adapters they are: PEFT's, or those that only compresskit opens."""
        plain = is_linear(loaded.family.weights(loaded.model))
        if is_mamba(loaded.model):
            targets = in_a_mamba(loaded.model, asked.config.for_family(loaded.family.name).targets)
            plain = PEFT_OPENS.issuperset(targets)
        return {"adapter": "peft" if plain else "weights"}

    def attach(self, loaded: TrainableModel, config: LoraConfig, dtype: torch.dtype) -> Attached:
        """Adapters in the modules or over the weights of the model."""
        if loaded.kind.name == "quantized":
            keep_in_place(loaded.model)
            compute_in(loaded.model, dtype)
            follow_autocast(loaded.model)
        if is_mamba(loaded.model):
            return MambaAdapters(loaded, config)
        modules = learning(loaded, chosen(loaded, config.targets))
        console.info(f"adapters on {told(adaptable(loaded), modules)}")
        if is_linear(loaded.family.weights(loaded.model)):
            return PeftAdapters(loaded, config, modules)
        return WeightAdapters(loaded, config, modules)


def _check_mamba(loaded: TrainableModel, config: LoraConfig) -> None:
    """UsageError for an option that adapters of a Mamba cannot have."""
    refuse(config, ("dora",), f"with {loaded.ref}, whose layers' weights are read")
    if config.init != "default":
        raise UsageError(f"--init {config.init} has no effect with {loaded.ref}; leave it out")
    checked_targets(loaded.model, in_a_mamba(loaded.model, config.targets), config.dropout or 0.0)


class Adapters(Attached):
    """What both sorts of adapters share: what learns, and the watch over its gradients."""

    loaded: TrainableModel
    config: LoraConfig

    def watch(self) -> None:
        """Note which tensors of the adapters get a gradient that is not zero."""
        self._steps: set[float] = set()
        self._still = dict(self.tensors())
        self._hooks = []
        for name, parameter in self._still.items():

            def seen(parameter: Tensor, name: str = name) -> None:
                if name in self._still and parameter.grad is not None and bool(parameter.grad.any()):
                    del self._still[name]

            self._hooks.append(parameter.register_post_accumulate_grad_hook(seen))  # type: ignore[no-untyped-call]

    @abstractmethod
    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The adapters' own parameters, by name."""

    def groups(self, options: TrainingOptions) -> list[ParameterGroup]:
        """Adapters and head; everything else is frozen."""
        return weight_groups((p for p in self.loaded.model.parameters() if p.requires_grad), options)

    def added(self) -> Sequence[nn.Parameter]:
        """The adapters."""
        return list(self.tensors().values())

    def step(self, done: float) -> Tensor | None:
        """After the first steps, RunFailed where a tensor of an adapter never had a gradient."""
        if self._hooks and done not in self._steps:
            if len(self._steps) >= STEPS_TO_MOVE:
                self._check_gradients()
            self._steps.add(done)
        return None

    def _check_gradients(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._still:
            raise RunFailed(
                f"{len(self._still)} of {len(self.tensors())} adapter tensors have had no gradient in the first "
                f"{STEPS_TO_MOVE} steps, such as {min(self._still)}: they would not learn; choose other --targets"
            )

    def footprint(self, number: int) -> Footprint:
        """The checkpoint holds what learns, in fp32."""
        return Footprint(0, WEIGHT * sum(p.numel() for p in self.loaded.model.parameters() if p.requires_grad))

    def summary(self) -> str:
        """How many adapters of which rank."""
        return f"{len(self.tensors()) // 2} adapters of rank {self.config.rank}"

    def finish(self) -> Mapping[str, Any]:
        """Rank and number of the adapters."""
        if self._hooks and len(self._steps) >= STEPS_TO_MOVE:
            self._check_gradients()
        return {"rank": self.config.rank}


class PeftAdapters(Adapters):
    """LoRA in linear layers, by PEFT."""

    def __init__(self, loaded: TrainableModel, config: LoraConfig, modules: Mapping[str, nn.Module]) -> None:
        self.loaded, self.config = loaded, config
        # By whole modules, as PEFT adds the head of some models by itself, which may hold several layers.
        names = loaded.family.head(loaded.model)
        head = sorted({name.partition(".")[0] for name in names})
        # For a task of questions PEFT wraps `qa_outputs` too. In BigBird that is a part of the head: it would be twice.
        inner = any(".qa_outputs." in name for name in names)
        self.peft = PeftLora(
            r=config.rank,
            lora_alpha=config.scale,  # type: ignore[arg-type]  # a float will do
            lora_dropout=config.dropout or 0.0,
            target_modules=shortened(loaded.model, modules),
            modules_to_save=head or None,
            use_rslora=config.rslora,
            use_dora=config.dora,
            init_lora_weights=True if config.init == "default" else config.init,
            task_type=None if inner else TASKS[loaded.family.name],
        )
        with warnings.catch_warnings():  # of what transformers will call something in its next version
            warnings.simplefilter("ignore")
            # PEFT puts the adapters into the modules of the model itself; the wrapper is needed to save them.
            self.wrapped: Any = get_peft_model(loaded.model, self.peft)
        placed = {name for name, module in loaded.model.named_modules() if isinstance(module, BaseTunerLayer)}
        if odd := placed ^ modules.keys():
            raise RunFailed(f"PEFT did not put the adapters of {loaded.ref} where --targets says, such as {min(odd)}")
        state = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False) if config.init == "pissa" else {}
        self.starts = {name: t.detach().cpu().clone() for name, t in state.items() if ".lora_" in name}
        # The Trainer takes packed weights where it is told that something learns on them.
        base: Any = loaded.model
        base._hf_peft_config_loaded = loaded.kind.name == "quantized"
        self.watch()

    def tensors(self) -> Mapping[str, nn.Parameter]:
        """A and B of each adapter."""
        named = self.loaded.model.named_parameters()
        return {name: parameter for name, parameter in named if any(f".{part}." in name for part in PARTS)}

    def save(self, folder: Path) -> None:
        """A folder that `PeftModel.from_pretrained` opens."""
        tensors = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        config = self.peft
        if self.config.init == "pissa":
            tensors, config = self._on_whole_weights(tensors)
        save_tensors(folder / WEIGHTS, tensors)
        config.base_model_name_or_path = ALIASES.get(self.loaded.ref, self.loaded.ref)
        config.revision = self.loaded.revision
        config.inference_mode = True
        config.save_pretrained(str(folder))
        # PEFT keeps names in sets, whose order differs from run to run.
        settings = read_json(folder / CONFIG)
        write_json(folder / CONFIG, {key: _in_order(value) for key, value in settings.items()})

    def _on_whole_weights(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], PeftLora]:
        """Adapters of twice the rank that do on W what these do on what PiSSA has left of it.

        It took s · B0 A0 from W, so W + s · (B A - B0 A0) is what was trained; s stays the same.
        """
        doubled = dict(tensors)
        for name, tensor in tensors.items():
            start = self.starts.get(name)
            if start is not None:
                is_a = ".lora_A." in name
                doubled[name] = torch.cat((tensor.detach().cpu(), start if is_a else -start), dim=0 if is_a else 1)
        rank = 2 * self.config.rank
        alpha = self.config.factor * (rank**0.5 if self.config.rslora else rank)
        changes: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "init_lora_weights": True}
        return doubled, replace(self.peft, **changes)


def _in_order(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


class MambaAdapters(Adapters):
    """LoRA in a Mamba, seen by whatever reads its weights; a folder of PEFT's layout."""

    def __init__(self, loaded: TrainableModel, config: LoraConfig) -> None:
        self.loaded, self.config = loaded, config
        self.adapted = put_adapters(
            loaded.model,
            rank=config.rank,
            alpha=config.scale,
            dropout=config.dropout or 0.0,
            rslora=config.rslora,
            targets=in_a_mamba(loaded.model, config.targets),
        )
        base: Any = loaded.model  # the Trainer takes packed weights where it is told that something learns on them
        base._hf_peft_config_loaded = loaded.kind.name == "quantized"
        names = [name for name in self.tensors() if ".lora_A" in name or "embedding_A" in name]
        layers = Counter(name.partition(".lora_")[0].rpartition(".")[2] for name in names)
        console.info(f"adapters on {', '.join(f'{name} {count}' for name, count in layers.items())}")
        self.watch()

    def tensors(self) -> Mapping[str, nn.Parameter]:
        """A and B of each adapter."""
        return adapter_tensors(self.adapted)

    def save(self, folder: Path) -> None:
        """A folder of PEFT's layout."""
        config = self.adapted.peft_config[NAME]
        config.base_model_name_or_path = ALIASES.get(self.loaded.ref, self.loaded.ref)
        config.revision = self.loaded.revision
        save_adapters(self.adapted, folder)


class WeightAdapters(Adapters):
    """Low-rank terms over weights themselves; a folder of PEFT's layout that compresskit alone opens."""

    def __init__(self, loaded: TrainableModel, config: LoraConfig, modules: Mapping[str, nn.Module]) -> None:
        self.loaded, self.config = loaded, config
        loaded.model.requires_grad_(False)
        self.adapters = {name: put_on(name, module, config.rank, config.factor) for name, module in modules.items()}
        self.head = {name: loaded.model.get_parameter(name) for name in loaded.family.head(loaded.model)}
        for parameter in self.head.values():
            parameter.requires_grad_(True)
        self.watch()

    def tensors(self) -> Mapping[str, nn.Parameter]:
        """A and B of each adapter."""
        return {f"{name}.{part}": getattr(each, part) for name, each in self.adapters.items() for part in PARTS}

    def save(self, folder: Path) -> None:
        """The adapters and the head."""
        settings = {"r": self.config.rank, "lora_alpha": self.config.scale, "use_rslora": self.config.rslora}
        base = ALIASES.get(self.loaded.ref, self.loaded.ref)
        save_adapter(folder, self.adapters, self.head, {**settings, "base_model_name_or_path": base})
