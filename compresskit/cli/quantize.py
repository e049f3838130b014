"""`compresskit quantize`: keep weights in fewer bits."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import PlanFlag, convert
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions


@with_flags()
def quantize(options: QuantizeOptions, config: QuantizeConfig, plan: PlanFlag = False) -> None:
    """Keep weights in 8 or 4 bits: int8 by default, of nearly all of them, in memory too; nothing is trained."""
    from compresskit.methods.job import Job
    from compresskit.recipe.work import Work

    convert(Work(Job("quantize", options, config)), plan=plan)
