"""The command `compresskit`: the global options, the verbs, and what an error looks like.

A verb is a function of its own module in this package, with `typing.Annotated` options. It imports what is
heavy (torch, transformers) in its body, so that `compresskit --help` stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compresskit import __version__, console
from compresskit.cli.cache import cache
from compresskit.cli.data import data
from compresskit.cli.demo import demo
from compresskit.cli.doctor import doctor
from compresskit.cli.eval import eval_
from compresskit.cli.everywhere import Verb, set_up
from compresskit.cli.export import export
from compresskit.cli.gates import gates
from compresskit.cli.inspect import inspect
from compresskit.cli.interrupts import ended_by_signals
from compresskit.cli.lora import lora
from compresskit.cli.merge import merge
from compresskit.cli.predict import predict
from compresskit.cli.prune import prune
from compresskit.cli.push import push
from compresskit.cli.qlora import qlora
from compresskit.cli.quantize import quantize
from compresskit.cli.recipes import recipes
from compresskit.cli.replay import replay
from compresskit.cli.report import report
from compresskit.cli.run import run
from compresskit.cli.train import train
from compresskit.errors import EXIT_INTERRUPTED, EXIT_OK, RunFailed, UsageError, is_panic, known_as

# The verbs, in the order of the help text. A new one: import its function above, and name it here. One that has verbs
# of its own is a `typer.Typer`.
VERBS: tuple[Callable[..., None] | typer.Typer, ...] = (
    train,
    prune,
    lora,
    qlora,
    quantize,
    eval_,
    report,
    cache,
    gates,
    data,
    predict,
    inspect,
    merge,
    export,
    push,
    run,
    recipes,
    replay,
    demo,
    doctor,
)

EXIT_BROKEN_PIPE = 141  # what a shell reports for a program that the signal SIGPIPE has ended

GLOBAL_OPTIONS = ("--version", "-q", "--quiet", "-v", "--verbose", "--no-color")


class _InOrder(TyperGroup):
    """The verbs in their order; typer would put those that have verbs of their own last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names that the help text and completion show."""
        return verb_names()


app = typer.Typer(
    name="compresskit",
    cls=_InOrder,
    help="Make question-answering checkpoints smaller, and measure what that costs.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line of the words `args` (those of this process when None), and tell the exit code.

    That is 0, the code of the `CompresskitError`, 2 for wrong usage, 5 for any other failure, or 130 when interrupted.
    An error is one line on stderr; `-v` puts the traceback before it.
    """
    words = list(sys.argv[1:] if args is None else args)
    console.configure()
    # Otherwise onnxruntime keeps a device id in the user's home, and sends what it counts to its maker.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Before torch is imported: its threads then sleep while they wait for each other instead of spinning. On two free
    # cores that costs nothing measurable; beside another busy process a step is two to nine times quicker.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with ended_by_signals() as interrupt:
        try:
            return _ended(words)
        except KeyboardInterrupt:
            console.error(interrupt.told())
            console.discard()
            return EXIT_INTERRUPTED


def _ended(words: list[str]) -> int:
    """Run the words to their end, whichever that is; KeyboardInterrupt where a signal is the end."""
    try:
        code = _run(words)
        console.flush()  # here, where a full disk or a closed pipe still ends in a line and an exit code
    except BrokenPipeError:
        console.discard()
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if console.is_verbose():
            console.traceback(error)
        line, code = explain(error, words)
        console.error(line)
        console.discard()
    return code


def explain(error: Exception, words: Sequence[str]) -> tuple[str, int]:
    """One line that says what went wrong, without `error:`, and the exit code.

    `error` is what the run raised, `words` are those of the command line.
    """
    if isinstance(error, typer.TyperException):  # wrong usage: of all its kinds only this one is public
        return _usage_line(error, words), UsageError.exit_code
    if (known := known_as(error)) is not None:
        return str(known), known.exit_code
    mend = "" if console.is_verbose() else "; run again with -v for the traceback"
    return f"internal error: {type(error).__name__}: {error}{mend}", RunFailed.exit_code


def verb_names() -> list[str]:
    """The verbs' names, in the order of the help text."""
    names = [verb.name for verb in app.registered_commands] + [verb.name for verb in app.registered_groups]
    order = {_name(verb): index for index, verb in enumerate(VERBS)}
    return sorted(filter(None, names), key=lambda name: order.get(name, len(order)))


def _name(verb: Callable[..., None] | typer.Typer) -> str:
    return str(verb.info.name) if isinstance(verb, typer.Typer) else verb.__name__.rstrip("_")  # `eval_` is eval


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out(f"compresskit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _global_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results, warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the traceback of an error.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colours, as NO_COLOR=1 does.")] = False,
) -> None:
    set_up(quiet=quiet, verbose=verbose, color=not no_color)
    _check_place()
    if context.invoked_subcommand is None:
        context.get_help()  # prints, as typer renders help with rich
        raise typer.Exit(UsageError.exit_code)


for _verb in VERBS:
    if isinstance(_verb, typer.Typer):
        for _inner in _verb.registered_commands:
            _inner.cls = Verb
        app.add_typer(_verb, name=_name(_verb))
    else:
        app.command(_name(_verb), cls=Verb)(_verb)


def _check_words(words: Sequence[str]) -> None:
    """UsageError for a word that is not UTF-8: neither JSON nor a tokenizer can hold it."""
    for number, word in enumerate(words, start=1):
        if not word.isascii() and any("\ud800" <= letter <= "\udfff" for letter in word):
            raise UsageError(f"word {number} of the command line, {word!r}, is not UTF-8; rename it, or write it so")


def _check_place() -> None:
    """UsageError where the working folder or the home is no folder; libraries end the process there."""
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError("the working folder is gone; go to another with cd") from error
    if os.path.expanduser("~").startswith("~"):
        raise UsageError(f"HOME is {os.environ.get('HOME')!r}, which is no folder; set it to one")


def _run(words: list[str]) -> int:
    try:
        _check_words(words)
        result = app(words, prog_name="compresskit", standalone_mode=False)
    except SystemExit as stop:
        # Completion ends so; and where a pipe is closed typer exits with 1, which is ours for a gate.
        if isinstance(stop.__context__, BrokenPipeError):
            raise stop.__context__ from None
        return stop.code if isinstance(stop.code, int) else EXIT_OK
    except typer.Abort as abort:
        raise KeyboardInterrupt from abort
    except BaseException as error:
        if is_panic(error):  # it would pass by `main`, and end in a traceback and in a gate's exit code
            raise RuntimeError(str(error)) from error
        raise
    if result == EXIT_INTERRUPTED:  # typer turns an interrupt of a verb into this number
        raise KeyboardInterrupt
    return result if isinstance(result, int) else EXIT_OK


def _usage_line(error: typer.TyperException, words: Sequence[str]) -> str:
    """Typer's message as one line in our style, with the nearest option and where to read on."""
    message = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
    near = getattr(error, "possibilities", None)
    option = getattr(error, "option_name", None)
    verb = next((word for word in words if word in verb_names()), None)
    if near:
        message = f"no such option {option}; did you mean {near[0]}?"
    elif option in GLOBAL_OPTIONS and verb is not None:
        message = f"no such option {option} of {verb}; it is a global one: compresskit {option} {verb} ..."
    else:
        message = (message[:1].lower() + message[1:]).replace(". Did you mean", "; did you mean")
    return f"{message} (see {' '.join(filter(None, ('compresskit', verb)))} --help)"
