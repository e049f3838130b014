"""The process of one checkpoint that is measured in turns: `python -m compresskit.evaluate.turn`.

It reads a `Measurement` on stdin, loads the checkpoint, and writes a line of JSON: what loading it and answering a
batch took. Then each line that it reads asks for one round, and is answered by one line. Where it fails, the line is
an `error`. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import TextIO

from compresskit import console
from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import EXIT_INTERRUPTED, EXIT_OK, CompresskitError
from compresskit.evaluate import measure
from compresskit.evaluate.measurement import Measurement, Outcome
from compresskit.evaluate.predict import answers
from compresskit.evaluate.turns import FREE
from compresskit.evaluate.worker import asked_options, load_checkpoint, outcome_of, spread_over, time_single_questions
from compresskit.importing import watched


def main() -> int:
    """Answer what is asked on stdin until it ends, and return the exit code."""
    answer = _own_stdout()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return EXIT_INTERRUPTED
    measurement = Measurement.from_json(line)
    console.configure(quiet=True, verbose=measurement.verbose)
    try:
        turn = Turn(measurement)
        _say(answer, turn.costs)
        for asked in sys.stdin:
            _say(answer, turn.round(**json.loads(asked)))
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except CompresskitError as error:
        outcome = Outcome.of(error)
    except Exception as error:
        outcome = outcome_of(error, measurement)
    _say(answer, {"error": outcome.error})
    return outcome.error_code or EXIT_OK


def _own_stdout() -> TextIO:
    """Our standard output as a file of our own; whatever else is printed goes to stderr from now on."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _say(file: TextIO, value: object) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more, and stdin ends too
        file.write(json.dumps(value) + "\n")
        file.flush()


class Turn:
    """A loaded checkpoint that is warm, and measured once more whenever that is asked.

    `costs` are what loading it and answering a batch of the questions with the longest contexts took, by the keys of a
    row; None where that was not measured.
    """

    def __init__(self, measurement: Measurement) -> None:
        importlib.import_module("compresskit.models.families")  # see `worker.run`
        import torch

        self._settings = measurement.settings
        torch.manual_seed(self._settings.seed)
        self._examples = ExampleSet.opened(measurement.questions)
        self._loaded, self.costs = load_checkpoint(measurement)
        self._options = asked_options(measurement)
        self._is_warm = not self._settings.warmup_questions
        with measure.PeakMemory(self._loaded.device) as memory:
            list(answers(self._loaded, self._longest(), self._options))
        self.costs |= {
            "peak_memory_bytes": memory.bytes,
            "reserved_memory_bytes": memory.reserved,
            "process_memory_bytes": memory.process,
        }
        if self._loaded.device.type == "cuda":
            self.costs[FREE] = torch.cuda.mem_get_info(self._loaded.device)[0]

    def _longest(self) -> list[Example]:
        def length(index: int) -> int:
            return len(self._examples[index].context)

        indices = heapq.nlargest(self._options.batch_size, range(len(self._examples)), key=length)
        return [self._examples[index] for index in indices]

    def round(self, singles: int, together: int) -> dict[str, float]:
        """One round: so many questions one at a time, and so many in batches; what is 0 is not measured."""
        found: dict[str, float] = {}
        single = replace(self._settings, latency_questions=singles, repeat=1)
        if (latency := time_single_questions(self._loaded, self._examples, self._options, single)) is not None:
            found |= {"latency_ms_p50": latency.p50_ms, "latency_ms_p95": latency.p95_ms}
        if chosen := spread_over(self._examples, min(together, len(self._examples))):
            if not self._is_warm:  # the first time pays for what later ones find ready, as in `worker`
                list(answers(self._loaded, chosen, self._options))
                self._is_warm = True
            measure.synchronize(self._loaded.device)
            start = time.perf_counter()
            list(answers(self._loaded, chosen, self._options))
            measure.synchronize(self._loaded.device)
            found["questions_per_s"] = len(chosen) / (time.perf_counter() - start)
        return found


if __name__ == "__main__":
    with watched(told=False):
        raise SystemExit(main())
