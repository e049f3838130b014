"""The process that makes checkpoints of a recipe beside others: `python -m compresskit.recipe.worker FD`.

FD is a connection to the process that started it, both of them this program: what they send is pickled. First come
the recipe's `Workplace` and whether this process is quiet or verbose, then names of checkpoints; back goes of each
whether it was made (not kept), or the error. Where the connection ends, so does this process.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue

from compresskit import console
from compresskit.errors import EXIT_INTERRUPTED, EXIT_OK, RunFailed, is_panic
from compresskit.importing import watched
from compresskit.recipe.run import make
from compresskit.recipe.state import Workplace

# In which a step of the computation may go on, until Python has a say again.
_SECONDS_TO_END = 8.0


class _Worker:
    """Makes what it is asked for; a thread of its own listens in the meantime."""

    def __init__(self, number: int) -> None:
        self._connection = Connection(number)
        self._asked: SimpleQueue[str | None] = SimpleQueue()
        self._at_work = False

    def main(self) -> int:
        """Make checkpoints until there is nobody to ask for them."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            place, quiet, verbose = self._connection.recv()
            console.configure(quiet=quiet, verbose=verbose)
            threading.Thread(target=self._listen, daemon=True).start()
            while (name := self._asked.get()) is not None:
                answer = answer_of(place, name)
                self._at_work = False
                self._connection.send(answer)
        except (KeyboardInterrupt, EOFError, OSError):
            return EXIT_INTERRUPTED
        return EXIT_OK

    def _listen(self) -> None:
        """Take up what is asked for; at the end interrupt what is being made, and end the process if that goes on."""
        try:
            while True:
                name = self._connection.recv()
                self._at_work = True
                self._asked.put(name)
        except (EOFError, OSError):
            self._asked.put(None)
        if self._at_work:
            # A real signal, which ends a wait for another process too.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(_SECONDS_TO_END)
        os._exit(EXIT_INTERRUPTED)


def answer_of(place: Workplace, name: str) -> bool | Exception:
    """Make a checkpoint of a recipe; whether it was made and not kept, or the error, fit to be sent."""
    checkpoint = next(each for each in place.recipe.checkpoints if each.name == name)
    os.environ[console.SPEAKER] = f"{name}: "
    try:
        return make(place, checkpoint)
    except BaseException as error:
        if is_panic(error):
            return RuntimeError(str(error))
        if isinstance(error, Exception):
            return _sendable(error, name)
        raise


def _sendable(error: Exception, name: str) -> Exception:
    """An error with its traceback, which only `-v` shows, as a note; one that cannot be sent is told in words."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # the classes of libraries fail here in ways of their own
        return RunFailed(f"step {name}: {type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    with watched():
        raise SystemExit(_Worker(int(sys.argv[1])).main())
