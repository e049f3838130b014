"""Distillation as it is asked for: whether, from which teacher, and how much. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from compresskit.options import check, option, refuse

DISTILLATION = "Distillation"
TEMPERATURE, WEIGHT = 2.0, 0.9


@dataclass(frozen=True, slots=True)
class Distillation:
    """Whether a student learns from a teacher, and from which; None stands for "not given".

    `distill` adds the teacher to the loss. `teacher` is a fine-tuned checkpoint; with `distill` and without it, one is
    trained first, for `teacher_epochs` at `teacher_lr`. `temperature` softens both distributions, `distill_weight` is
    the part of the teacher in the loss.
    """

    distill: bool = option(False, "Learn from a teacher's answers too.", panel=DISTILLATION)
    teacher: str | None = option(
        None,
        "A fine-tuned checkpoint, of another family and another tokenizer if you like; prune takes the head of a like "
        "one.",
        metavar="CKPT",
        shown="with --distill one is trained first",
        panel=DISTILLATION,
    )
    temperature: float | None = option(
        None, "Softens both distributions.", metavar="T", above=0, shown=f"{TEMPERATURE:g}", panel=DISTILLATION
    )
    distill_weight: float | None = option(
        None,
        "Weight of the teacher in the loss; the labels get the rest.",
        metavar="W",
        least=0,
        most=1,
        shown=f"{WEIGHT:g}",
        panel=DISTILLATION,
    )
    teacher_epochs: float | None = option(
        None, "Epochs of a teacher that is trained first.", metavar="N", above=0, panel=DISTILLATION
    )
    teacher_lr: float | None = option(
        None, "Learning rate of a teacher that is trained first.", metavar="RATE", above=0, panel=DISTILLATION
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.distill:
            refuse(self, ("temperature", "distill_weight"), "without --distill")
        if not self.trains_teacher:
            why = "where no teacher is trained first (that takes --distill without --teacher)"
            refuse(self, ("teacher_epochs", "teacher_lr"), why)

    @property
    def trains_teacher(self) -> bool:
        """Whether a teacher is needed and none is given."""
        return self.distill and self.teacher is None

    @property
    def softening(self) -> dict[str, float] | None:
        """Temperature and weight of the teacher in the loss; None without distillation."""
        if not self.distill:
            return None
        weight = WEIGHT if self.distill_weight is None else self.distill_weight
        return {"temperature": self.temperature or TEMPERATURE, "weight": weight}
