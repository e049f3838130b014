"""The only file that prints: results go to stdout, everything else to stderr.

`configure` is called once by the command line. Under a launcher of several processes (the environment
variable `RANK`, else `LOCAL_RANK`, is not 0) every process but the first prints nothing but errors. The
package rich is imported on first use, so that importing this module costs nothing.

Control characters that others wrote are shown as escapes (`compresskit.text`). Where nobody can read stderr, what goes
there is lost, and the run goes on; a result that cannot be written is an OSError.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback as python_traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from compresskit.text import clock_of, one_line, printable, rate_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# Rich lays a table out for 80 columns where there is no terminal; a table in a file or a log need not be cut.
WIDTH_WITHOUT_TERMINAL = 200

# Plain progress: a line comes 10 s, or 5 % of the time so far, after the last: a long job leaves a short log.
PLAIN_SECONDS = 10.0
PLAIN_SHARE = 0.05

# A variable of the environment: who speaks, where several do on one terminal. No line of theirs is live.
SPEAKER = "COMPRESSKIT_SPEAKER"

Field = str | int | float


@dataclass(frozen=True, slots=True)
class _Settings:
    quiet: bool = False
    verbose: bool = False
    color: bool = True


_settings = _Settings()


_SHOW_WARNING = warnings.showwarning


class Progress(Protocol):
    """What `progress` hands out."""

    def update(self, completed: int, **fields: Field) -> None:
        """Report that `completed` units are done since the start of the whole job, those before a resume included.

        Fields are shown as `name value` after the count: a float with four significant digits, a string as it is (so
        that it can carry a unit: `remaining="50.0 %"`).
        """


def configure(quiet: bool = False, verbose: bool = False, color: bool = True) -> None:
    """Set how this process prints.

    `quiet` leaves out what `info` and `progress` say; results, warnings and errors stay. `verbose` shows tracebacks
    (see `is_verbose`), and what libraries warn of. `color=False` takes away all colours, as does the environment
    variable `NO_COLOR` unless it is empty.
    """
    global _settings
    _settings = _Settings(quiet, verbose, color and not os.environ.get("NO_COLOR"))
    # What is wrong comes as an exception, which ends in one line of ours. Libraries warn of what no user can mend.
    logging.disable(logging.NOTSET if verbose else logging.CRITICAL)
    warnings.showwarning = _SHOW_WARNING if verbose else _hide_warning
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # A name or an answer that the terminal's encoding lacks must not end a run.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def printing(quiet: bool, verbose: bool = False) -> Iterator[None]:
    """Within it this process prints as `configure` would set it; nothing else of the process changes."""
    global _settings
    before, _settings = _settings, _Settings(quiet, verbose, _settings.color)
    try:
        yield
    finally:
        _settings = before


def _hide_warning(*_: Any, **__: Any) -> None:
    """In the place of `warnings.showwarning`: print nothing."""


def _open_streams() -> None:
    """Open the standard streams with which this process was started closed.

    Otherwise the next file that is opened takes their number, and gets whatever a library prints. What is written to
    stderr is then lost; whatever is written to stdout fails, as it must: somebody waits for it.
    """
    streams = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
    for number, (name, mode, use) in enumerate(streams):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, mode)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)  # processes that this one starts have them too
            setattr(sys, name, open(number, use, encoding="utf-8", closefd=False))  # noqa: SIM115


def is_verbose() -> bool:
    """Whether the user asked for tracebacks and details (`-v`)."""
    return _settings.verbose


def is_quiet() -> bool:
    """Whether the user asked for results only (`-q`)."""
    return _settings.quiet


def info(message: str) -> None:
    """Print one line about what is going on to stderr; nothing when quiet."""
    if not _settings.quiet and _is_first_process():
        _line("", "", message)


def warn(message: str) -> None:
    """Print `warning: message` as one line to stderr, also when quiet."""
    if _is_first_process():
        _line("warning: ", "bold yellow", message)


def error(message: str) -> None:
    """Print `error: message` as one line to stderr, in every process."""
    _line("error: ", "bold red", message)


def traceback(exception: BaseException) -> None:
    """Print the traceback of `exception` to stderr."""
    with _stderr() as stream:
        stream.write(printable("".join(python_traceback.format_exception(exception))))


def out(result: RenderableType) -> None:
    """Print a result to stdout.

    A string is written as it is, with a line feed, but for control characters (JSON stays the same JSON). Anything else
    that rich can render (a table) is laid out for the terminal, or for 200 columns where there is none.
    """
    if not _is_first_process():
        return
    if isinstance(result, str):
        sys.stdout.write(printable(result) + "\n")
    else:
        _console(sys.stdout).print(result)


def flush() -> None:
    """Write out what stdout still holds; OSError where the disk is full or the reader has gone."""
    sys.stdout.flush()


def discard() -> None:
    """Throw away what stdout still holds, where it cannot be written.

    The interpreter would fail on it when it ends, with an exit code of its own.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _to_nowhere(sys.stdout)


def _to_nowhere(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


@contextmanager
def _stderr() -> Iterator[TextIO]:
    """The stream stderr; from its first failure on (a closed pipe, a full disk), what is written there is lost.

    A run must not end, nor its exit code change, because nobody reads what it tells beside its results.
    """
    try:
        yield sys.stderr
        sys.stderr.flush()
    except OSError:
        with contextlib.suppress(OSError):
            _to_nowhere(sys.stderr)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep off the screen what libraries in C or Rust print by themselves; with `-v` it goes to stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    kept = [os.dup(1), os.dup(2), os.open(os.devnull, os.O_WRONLY)]
    try:
        os.dup2(kept[1] if _settings.verbose else kept[2], 1)
        os.dup2(kept[1] if _settings.verbose else kept[2], 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for number in kept:
            os.close(number)


@contextmanager
def progress(total: int | None, description: str, unit: str = "", before: float = 0.0) -> Iterator[Progress]:
    """Show how far a long job is: a live bar on a terminal, a line now and then elsewhere; not when quiet.

    `total` counts the units of the whole job (None when it is not known), those that an interrupted run has done in
    `before` seconds included: rate and time are those of the whole job. `description` says in a word or two what is
    going on; `unit` is the name of one unit, for the rate (`steps` makes `12.3 steps/s`). What is yielded is told of
    the units done: see `Progress.update`.

    Example:
        >>> with progress(100, "train", unit="steps") as bar:
        ...     bar.update(50, loss=1.234, remaining="75.0 %")
    """
    if _settings.quiet or not _is_first_process():
        yield _NoProgress()
    elif _is_terminal(sys.stderr):
        bar = _rich_progress(unit)
        with bar:
            yield _BarProgress(bar, _task(bar, description, total, before))
    else:
        lines = _LineProgress(total, description, unit, before)
        try:
            yield lines
        finally:
            lines.close()


@contextmanager
def status(message: str) -> Iterator[None]:
    """Say what is going on while nothing can be counted: a live line on a terminal, a plain one elsewhere."""
    if _settings.quiet or not _is_first_process():
        yield
    elif _is_terminal(sys.stderr):
        from rich.text import Text

        with _console(sys.stderr).status(Text(one_line(message))):
            yield
    else:
        info(message)
        yield


class _NoProgress:
    def update(self, completed: int, **fields: Field) -> None:
        pass


class _BarProgress:
    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def update(self, completed: int, **fields: Field) -> None:
        self._bar.update(self._task, completed=completed, fields=_describe(fields))


class _LineProgress:
    def __init__(self, total: int | None, description: str, unit: str, before: float) -> None:
        self._total = total
        self._description = description
        self._unit = unit
        self._printed = time.monotonic()
        self._began = self._printed - before
        self._pending: str | None = None

    def update(self, completed: int, **fields: Field) -> None:
        now = time.monotonic()
        self._pending = self._text(completed, _describe(fields), now - self._began)
        if now - self._printed >= max(PLAIN_SECONDS, PLAIN_SHARE * (now - self._began)):
            self._print(now)

    def close(self) -> None:
        """Print the last state, unless it stands there already."""
        self._print(time.monotonic())

    def _print(self, now: float) -> None:
        if self._pending is not None:
            _line("", "", self._pending)
            self._pending = None
            self._printed = now

    def _text(self, completed: int, fields: str, elapsed: float) -> str:
        parts = [f"{completed}/{self._total} ({completed / self._total:.0%})" if self._total else str(completed)]
        if fields:
            parts.append(fields)
        rate = completed / elapsed if elapsed > 0 else 0.0
        if rate > 0:
            parts.append(rate_of(rate, self._unit))
        parts.append(f"{clock_of(elapsed)} elapsed")
        if rate > 0 and self._total and completed < self._total:
            parts.append(f"{clock_of((self._total - completed) / rate)} left")
        return f"{self._description}: {', '.join(parts)}"


def _task(bar: RichProgress, description: str, total: int | None, before: float) -> TaskID:
    """A new line of a live bar, which began `before` seconds ago."""
    number = bar.add_task(description, total=total, fields="")
    (task,) = bar.tasks
    assert task.start_time is not None
    task.start_time -= before
    return number


def _rich_progress(unit: str) -> RichProgress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else rate_of(speed, unit), no_wrap=True)

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fields]}", markup=False),
        RateColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA", style="progress.remaining"),
        TimeRemainingColumn(),
        console=_console(sys.stderr),
        # rich would send what goes to stdout to the bar's stream: right on one terminal, wrong for `> file`.
        redirect_stdout=_is_terminal(sys.stdout),
    )


def _console(stream: TextIO) -> Console:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

    class PrintableConsole(Console):
        """Rich lets the codes in a text through to the terminal; its own are segments of another sort."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    terminal = _is_terminal(stream)
    width = None if terminal or os.environ.get("COLUMNS") else WIDTH_WITHOUT_TERMINAL
    return PrintableConsole(
        file=stream,
        width=width,
        force_terminal=terminal,
        color_system="auto" if terminal and _settings.color else None,
        highlight=False,
    )


def _line(label: str, style: str, message: str) -> None:
    with _stderr() as stream:
        if not _is_terminal(stream):
            stream.write(f"{os.environ.get(SPEAKER, '')}{label}{one_line(message)}\n")
            return
        from rich.text import Text

        _console(stream).print(Text.assemble((label, style), one_line(message)), soft_wrap=True)


def _describe(fields: dict[str, Field]) -> str:
    shown = ((name, f"{value:.4g}" if isinstance(value, float) else str(value)) for name, value in fields.items())
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get(SPEAKER)


def _is_first_process() -> bool:
    return (os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0") == "0"
