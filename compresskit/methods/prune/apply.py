"""`prune`: learn which weights of a checkpoint may go, and leave an overlay of masks on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from compresskit import console
from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.mask import Mask, shannon_bits
from compresskit.checkpoint.store import differences, sha256_weights
from compresskit.errors import InputError, UsageError
from compresskit.methods import train
from compresskit.methods.distill import (
    DistillConfig,
    DistilledFeatures,
    Texts,
    check_teacher,
    distilled,
    open_logits,
    same_tokens,
    teacher_logits,
)
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masked import check_block, original_name, original_weight
from compresskit.methods.prune.masker import Masker
from compresskit.models.device import DTYPES
from compresskit.models.family import Batch, LoadedModel, TrainableModel
from compresskit.models.overlay import save_overlay
from compresskit.models.registry import family_of, load_source
from compresskit.models.source import Source, base_of, resolve
from compresskit.training.engine import Engine, Objective, ParameterGroup, compute_dtype
from compresskit.training.options import Score, TrainingOptions
from compresskit.training.plan import NUMBER_BYTES, WEIGHT, Plan, make_plan
from compresskit.training.session import (
    Session,
    check_length,
    claimed,
    finish,
    is_complete,
    load_for_training,
    prepare,
    starting_point,
)


@dataclass(frozen=True, slots=True)
class Teaching:
    """Where a student's guidance comes from.

    `distill` is None without distillation; `teacher` is a checkpoint, None where one is trained first;
    `teacher_options` are the settings of that training.
    """

    distill: DistillConfig | None = None
    teacher: str | None = None
    teacher_options: TrainingOptions | None = None


def apply(options: TrainingOptions, config: PruneConfig, teaching: Teaching, score: Score | None = None) -> Path:
    """Prune `options.model`; the folder of the overlay (kind `mask`) on it.

    A model with random weights has nothing to prune, so then the base is the teacher. Raises the package's errors for
    bad input, a taken output, and a run that fails.
    """
    job = {**options.describe(), **asdict(config), **_describe(teaching)}
    if is_complete(options, job):
        console.info(f"{options.output} is complete already")
        return options.output
    source = starting_point(options)
    _require_plain(source)
    if teaching.teacher_options is not None:
        _check_student(options, source, config)
    with claimed(options, job) as (workspace, work):
        teacher = _teacher(options, source, teaching)
        base = _base(source, teacher)
        _require_plain(base)
        session = prepare(options, base, workspace, work)
        _prune(session, config, teaching, teacher, job, score)
    return options.output


def plan(options: TrainingOptions, config: PruneConfig, teaching: Teaching) -> list[Plan]:
    """What `apply` would do, without doing it: the plan of a teacher's training, if one is needed, and its own."""
    source = starting_point(options)
    _require_trained(source, teaching)
    _require_plain(_base(source, resolve(teaching.teacher) if teaching.teacher is not None else None))
    loaded = load_for_training(source, on_cpu=True)
    masker = Masker(maskable(loaded, config), config)
    groups = parameter_groups(loaded, masker, config, options, head_learns=False)
    trainable = sum(parameter.numel() for group in groups for parameter in group["params"])
    masked = sum(original_weight(module, name).numel() for name, module in masker.modules.items())
    scores = sum(score.numel() for score in masker.scores())
    number = NUMBER_BYTES[compute_dtype(options)]
    # The masked copy that a layer multiplies with and its gradient, the weight in another dtype of computation than its
    # own, and the sigmoids that the penalty keeps.
    copies = masked * number * (2 + (number != WEIGHT)) + WEIGHT * scores * config.regularized
    kept = round(masked * (1 - config.sparsity))
    grid = masked // (config.block[0] * config.block[1])
    size = shannon_bits(round(grid * (1 - config.sparsity)), grid) / 8 + WEIGHT * kept * config.learns_weights
    notes = [f"writes {options.output}: masks over {masked:,} weights, of which {kept:,} remain"]
    if teaching.teacher is not None:
        notes.append(f"teacher: {teaching.teacher}")
    own = make_plan(options, loaded, trainable=trainable, copies=copies, checkpoint_bytes=round(size), notes=notes)
    if teaching.teacher_options is None:
        return [own]
    return [train.plan(teaching.teacher_options), own]


def _describe(teaching: Teaching) -> dict[str, Any]:
    """The teaching settings as JSON values for the manifest."""
    trained = teaching.teacher_options.describe() if teaching.teacher_options is not None else None
    distill = asdict(teaching.distill) if teaching.distill is not None else None
    return {"distill": distill, "teacher": teaching.teacher, "teacher_training": trained}


def _teacher(options: TrainingOptions, source: Source, teaching: Teaching) -> Source | None:
    """The teacher's checkpoint, trained now where none is given but one is needed."""
    if teaching.teacher is not None:
        return resolve(teaching.teacher)
    _require_trained(source, teaching)
    if teaching.teacher_options is None:
        return None
    settings = teaching.teacher_options
    known = read_manifest(settings.output)
    other = differences(known.steps[-1].config, settings.describe()) if known is not None and known.steps else ""
    if other and not settings.overwrite:
        raise UsageError(
            f"the teacher in {settings.output} was trained with other options ({other}); "
            f"give it as --teacher {settings.output}, or --overwrite to train another"
        )
    if known is None or other:
        console.info(f"no --teacher: fine-tuning {source.ref} first, to {settings.output}")
    return resolve(str(train.apply(replace(settings, resume=True))))


def _base(source: Source, teacher: Source | None) -> Source:
    """What is pruned: the checkpoint itself, or where its weights are random the teacher, which was trained from them.

    Raises UsageError where the teacher is another model than that.
    """
    if not source.untrained or teacher is None:
        return source
    if family_of(teacher).name != family_of(source).name:
        raise UsageError(
            f"{source.ref} has random weights: nothing to prune yet; train it, and prune that with this teacher"
        )
    return teacher


def _require_trained(source: Source, teaching: Teaching) -> None:
    """UsageError where there is nothing to prune: random weights, and no teacher to take the place of the base."""
    if source.untrained and teaching.teacher is None and teaching.teacher_options is None:
        raise UsageError(f"{source.ref} has random weights: nothing to prune yet; fine-tune it, or add --distill")


def _require_plain(source: Source) -> None:
    """InputError where the base to be is itself an overlay: masks lie on a plain checkpoint."""
    manifest = read_manifest(source.path)
    if manifest is not None and manifest.kind != "full":
        raise InputError(
            f"{source.ref} is no plain checkpoint (its kind is {manifest.kind}); "
            f"merge it first: compresskit merge {source.ref}"
        )


def maskable(loaded: TrainableModel, config: PruneConfig) -> Mapping[str, nn.Module]:
    """What the run masks: by the name of each parameter, the module that holds it.

    Raises UsageError where the words' embeddings are asked for, but the model shares them with another layer.
    """
    found = dict(loaded.family.prunable(loaded.model))
    if config.embeddings:
        words: nn.Module = loaded.model.get_input_embeddings()
        names = [f"{name}.weight" for name, module in loaded.model.named_modules() if module is words]
        tied = [name for name, p in loaded.model.named_parameters(remove_duplicate=False) if p is words.weight]
        if len(tied) > 1:
            raise UsageError(f"{loaded.ref} shares its word embeddings with {tied[-1]}; leave --mask-embeddings out")
        found |= dict.fromkeys(names, words)
    return found


def _check_student(options: TrainingOptions, source: Source, config: PruneConfig) -> None:
    """Find what cannot be before hours go into a teacher: UsageError for such a window or block."""
    loaded = load_source(source)
    check_length(options, loaded)
    _check_blocks(loaded, config)


def _check_blocks(loaded: TrainableModel, config: PruneConfig) -> None:
    """UsageError for a block that does not divide what is masked, before a teacher is asked about all the data."""
    for name, module in maskable(loaded, config).items():
        check_block(name, module, config.block)


def _prune(
    session: Session,
    config: PruneConfig,
    teaching: Teaching,
    teacher: Source | None,
    job: Mapping[str, Any],
    score: Score | None,
) -> None:
    options, loaded, features = session.options, session.loaded, session.features
    taught = load_source(teacher) if teacher is not None else None
    if taught is not None:
        check_teacher(taught, loaded)
    _check_blocks(loaded, config)
    head = set_head(loaded, taught)
    objective = train.supervised(loaded.family)
    dataset: Sequence[Any] = features
    if taught is not None and teaching.distill is not None:
        dataset = _with_teacher(session, taught)
        objective = distilled(loaded.family, teaching.distill)
    del taught
    masker = Masker(maskable(loaded, config), config, DTYPES[compute_dtype(options)])
    groups = parameter_groups(loaded, masker, config, options, head_learns=head == "trained")
    figures = Engine(
        loaded.model,
        dataset,
        features.lengths,
        loaded.family.collator(loaded.tokenizer),
        masked_objective(train.regularized(objective, loaded, masker.scores()), masker),
        groups,
        options,
        session.work,
        fields=masker.fields,
    ).fit(resume=options.resume)
    masks = masker.final_masks()
    masker.remove(masks)
    finish(
        session,
        method=f"prune/{config.method}",
        config=job,
        kind="mask",
        base=base_of(session.source, options.output),
        metrics={
            **figures,
            "sparsity": 100 * reached(masks),
            "head": head,
            "teacher_sha256": sha256_weights(teacher.path) if teacher is not None else None,
        },
        save=lambda folder: _save(loaded, masks, config, folder),
        score=score,
    )


def _with_teacher(session: Session, teacher: LoadedModel) -> DistilledFeatures:
    """The session's features with the teacher's logits, computed by the first process of the run."""
    options = session.options
    if session.is_main:
        dtype = compute_dtype(options)
        texts = None
        if not same_tokens(teacher, session.loaded):
            texts = Texts(session.loaded, session.examples, options.windows)
        logits = teacher_logits(
            teacher, session.features, session.work, device=options.device, dtype=dtype, texts=texts
        )
        PartialState().wait_for_everyone()
        return DistilledFeatures(session.features, logits)
    PartialState().wait_for_everyone()
    return DistilledFeatures(session.features, open_logits(session.work))


@torch.no_grad()
def set_head(loaded: TrainableModel, teacher: LoadedModel | None) -> str:
    """Choose the student's question-answering head, and tell which: `teacher`, `base`, `labels` or `trained`.

    The teacher's where there is one of the same width, else the checkpoint's own, else the label words' embeddings
    where the base has a masked-LM head (arXiv 2210.06210), else one that is trained along.
    """
    if teacher is not None:
        own, theirs = dict(loaded.model.named_parameters()), dict(teacher.model.named_parameters())
        head = loaded.family.head(loaded.model)
        if all(name in theirs and theirs[name].shape == own[name].shape for name in head):
            for name in head:
                own[name].copy_(theirs[name])
            return "teacher"
    if not loaded.missing_head:
        return "base"
    assert loaded.path is not None
    return "labels" if loaded.family.label_head(loaded.path, loaded.model, loaded.tokenizer) else "trained"


def parameter_groups(
    loaded: TrainableModel, masker: Masker, config: PruneConfig, options: TrainingOptions, *, head_learns: bool
) -> list[ParameterGroup]:
    """What learns: the scores, with the methods that learn weights those too, and a head that nobody gave.

    Everything else is frozen. Scores have their own learning rate and no weight decay.
    """
    model, family = loaded.model, loaded.family
    learning = family.head(model) if head_learns else set()
    if config.learns_weights:
        masked = {original_name(name) for name in masker.modules}
        learning |= masked | family.trainable_with_masks(model)
    scores = {id(parameter) for parameter in masker.scores()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning or id(parameter) in scores)
    groups = train.weight_groups(((n, p) for n, p in model.named_parameters() if id(p) not in scores), options)
    if scores:
        groups.append({"params": masker.scores(), "lr": config.score_lr, "weight_decay": 0.0})
    return groups


def masked_objective(objective: Objective, masker: Masker) -> Objective:
    """An objective under the masks of the moment, with the penalty on their scores."""

    def masked(model: nn.Module, batch: Batch, done: float) -> Tensor:
        penalty = masker.step(done) if model.training else None
        loss = objective(model, batch, done)
        return loss if penalty is None else loss + penalty

    return masked


def reached(masks: Mapping[str, Mask]) -> float:
    """Fraction of the weights under the masks that is removed."""
    return 1.0 - sum(mask.ones for mask in masks.values()) / sum(mask.size for mask in masks.values())


def _save(loaded: TrainableModel, masks: Mapping[str, Mask], config: PruneConfig, folder: Path) -> None:
    """Write the overlay: masks, head, and with the methods that learn weights all that learned."""
    names = loaded.family.head(loaded.model)
    if config.learns_weights:
        names = names | set(masks) | loaded.family.trainable_with_masks(loaded.model)
    parameters = dict(loaded.model.named_parameters())
    save_overlay(folder, masks, {name: parameters[name] for name in sorted(names)})
    loaded.model.config.save_pretrained(folder)
