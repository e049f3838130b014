"""What a training has counted up to one of its states, so that a resumed one tells the figures of the whole run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from compresskit.checkpoint.store import read_json, write_json

FILE = "so_far.json"


@dataclass(frozen=True, slots=True)
class SoFar:
    """The figures of a training up to a state.

    `seconds` are those of its steps. `logged_loss` is the sum of the losses of all steps up to `logged_step`, the last
    that the log tells of; `later_loss` that of the steps after it. `logged_penalty` and `later_penalty` are the sums of
    the penalties in them, the latter of so many steps. `peak_memory_bytes` is None on a CPU.
    """

    seconds: float = 0.0
    logged_step: int = 0
    logged_loss: float = 0.0
    later_loss: float = 0.0
    peak_memory_bytes: int | None = None
    logged_penalty: float = 0.0
    later_penalty: float = 0.0
    later_penalty_steps: int = 0

    def write(self, state: Path) -> None:
        """Write the figures into the folder of a state that is not sealed yet."""
        write_json(state / FILE, asdict(self))

    @classmethod
    def read(cls, state: Path) -> SoFar:
        """The figures in the folder of a state, which the seal has vouched for; InputError where there are none."""
        return cls(**read_json(state / FILE))
