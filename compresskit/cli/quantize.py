"""`compresskit quantize`: keep weights in fewer bits."""

from __future__ import annotations

from compresskit.cli.flags import with_flags
from compresskit.cli.launch import show_result
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions


@with_flags()
def quantize(options: QuantizeOptions, config: QuantizeConfig) -> None:
    """Keep the weights of linear layers in 4 or 8 bits; the result is asked as it is, and lora adapts it."""
    from compresskit.methods.job import Job
    from compresskit.methods.run import run

    show_result(run(Job("quantize", options, config)))
