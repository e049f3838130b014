import errno
import json
import os
import subprocess
import sys
from dataclasses import MISSING, dataclass
from typing import Literal

import pytest
import typer

from compresskit import __version__, console, errors
from compresskit.cli import app as cli
from compresskit.cli.flags import with_flags
from compresskit.methods.job import default_output
from compresskit.options import check, like, option
from compresskit.training.arguments import TrainingOptions


class OutOfMemoryError(RuntimeError):
    """Stands in for torch's class of this name, which is a RuntimeError too."""


RAISED: dict[str, BaseException] = {
    "gate": errors.GateFailed("em 70.0 is below 75.0"),
    "usage": errors.UsageError("--teacher needs --distill"),
    "input": errors.InputError("data.json, article 3: no key 'paragraphs'"),
    "missing": errors.MissingError("no GPU here; use --device cpu"),
    "failed": errors.RunFailed("loss is NaN at step 7; use a smaller --lr"),
    "interrupt": KeyboardInterrupt(),
    "cuda-memory": OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nProcess 1 has ..."),
    "cpu-memory": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    "memory": MemoryError(),
    "disk": OSError(errno.ENOSPC, "No space left on device", "out/model.safetensors"),
    "disk-words": RuntimeError("IoError: No space left on device (os error 28)"),
    "denied": PermissionError(errno.EACCES, "Permission denied", "out"),
    "bug": ZeroDivisionError("division by zero\nin two lines"),
    "exit": typer.Exit(3),
    "pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
}

EXPECTED = {
    "gate": (1, "error: em 70.0 is below 75.0"),
    "usage": (2, "error: --teacher needs --distill"),
    "input": (3, "error: data.json, article 3: no key 'paragraphs'"),
    "missing": (4, "error: no GPU here; use --device cpu"),
    "failed": (5, "error: loss is NaN at step 7; use a smaller --lr"),
    "interrupt": (130, "error: interrupted"),
    "denied": (3, "error: out: Permission denied; check the name and its permissions"),
}
# What the program itself says of an error: which words have to be in it.
TOLD: dict[str, tuple[str, ...]] = {
    "cuda-memory": ("out of memory", "--batch-size", "--max-length"),
    "cpu-memory": ("out of memory", "--batch-size", "--max-length"),
    "memory": ("out of memory", "--batch-size", "--max-length"),
    "disk": ("disk full", "out/model.safetensors", "--output"),
    "disk-words": ("disk full", "--output"),
    "bug": ("ZeroDivisionError", "division by zero in two lines", "-v"),
}


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """Options of every type that a flag has, some of them those of a real verb."""

    what: str = option(MISSING, "What to raise.", metavar="WHAT", argument=True)
    stride: int = like(TrainingOptions, "stride")
    epochs: float | None = like(TrainingOptions, "epochs")
    seed: int = like(TrainingOptions, "seed", default=0)
    device: str = like(TrainingOptions, "device", choices=("auto", "cpu", "cuda"))
    kind: Literal["one", "two"] = option("one", "Which.")
    tasks: tuple[str, ...] = option((), "Any number.", metavar="NAME")
    whether: bool | None = option(None, "Yes, no or neither.", negatable=True)

    def __post_init__(self) -> None:
        check(self)


@with_flags()
def fake(options: FakeOptions, loud: bool = False) -> None:
    """Raise what is asked for, or print the options."""
    if options.what in RAISED:
        raise RAISED[options.what]
    console.out(json.dumps([*(getattr(options, name) for name in FakeOptions.__slots__), loud]))


@pytest.fixture(autouse=True)
def verb(monkeypatch):
    """The command line with one more verb, and what it changes put back."""
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    cli.app.command("fake")(fake)
    monkeypatch.setattr(console, "discard", lambda: None)  # it would close what pytest captures
    monkeypatch.setenv("NO_COLOR", "")
    yield
    console.configure()


def run(*words: str, capsys) -> tuple[int, str, str]:
    code = cli.main(words)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("name", EXPECTED)
def test_an_error_is_one_line_with_its_exit_code(name, capsys):
    code, line = EXPECTED[name]
    assert run("fake", name, capsys=capsys) == (code, "", line + "\n")


@pytest.mark.parametrize("name", TOLD)
def test_a_failure_of_the_machine_or_the_program_is_one_line_too(name, capsys):
    code, printed, shown = run("fake", name, capsys=capsys)
    assert (code, printed, shown.count("\n")) == (5, "", 1)
    assert shown.startswith("error: ")
    assert all(word in shown for word in TOLD[name]), shown


def test_typer_exit_and_a_closed_pipe_are_silent(capsys):
    assert run("fake", "exit", capsys=capsys) == (3, "", "")
    assert run("fake", "pipe", capsys=capsys) == (141, "", "")


@pytest.mark.parametrize("name", ["input", "bug"])
def test_verbose_shows_the_traceback_before_the_line(name, capsys):
    code, _, shown = run("-v", "fake", name, capsys=capsys)
    assert code == {"input": 3, "bug": 5}[name]
    assert shown.startswith("Traceback (most recent call last):\n")
    last = shown.splitlines()[-1]
    assert last.startswith("error: ")
    assert "-v" not in last, "the mend has been taken"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("fake x --strid 64", ("--strid", "--stride")),
        ("fake x --zzz", ("--zzz",)),
        ("fake x -v", ("-v of fake", "compresskit -v fake")),
        ("fake", ("WHAT",)),
        ("fake x --stride", ("--stride",)),
        ("fake x y", ("(y)",)),
    ],
)
def test_wrong_usage_is_one_line_that_says_where_to_read_on(words, named, capsys):
    code, printed, shown = run(*words.split(), capsys=capsys)
    assert (code, printed, shown.count("\n")) == (2, "", 1)
    assert shown.startswith("error: ")
    assert shown.endswith("(see compresskit fake --help)\n")
    assert all(name in shown for name in named), shown


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--epochs", "-1"),
        ("--epochs", "0"),
        ("--epochs", "nan"),
        ("--epochs", "inf"),
        ("--epochs", "x"),
        ("--stride", "1.5"),
        ("--stride", "x"),
        ("--seed", "4294967296"),
        ("--device", "gpu"),
        ("--kind", "three"),
    ],
)
def test_a_wrong_value_is_told_in_one_form(flag, value, capsys):
    code, printed, shown = run("fake", "x", flag, value, capsys=capsys)
    assert (code, printed, shown.count("\n")) == (2, "", 1)
    assert shown.startswith(f"error: {flag} {value} is not ")


def test_wrong_verb_names_the_nearest_one(capsys):
    code, printed, shown = run("fakee", capsys=capsys)
    assert (code, printed, shown.count("\n")) == (2, "", 1)
    assert "'fakee'" in shown
    assert "'fake'?" in shown


def test_options_reach_the_verb(capsys):
    words = "fake x --stride 64 --epochs 1.5 --seed 7 --device cpu --kind two --tasks a --tasks b --no-whether --loud"
    code, printed, _ = run(*words.split(), capsys=capsys)
    assert (code, json.loads(printed)) == (0, ["x", 64, 1.5, 7, "cpu", "two", ["a", "b"], False, True])
    code, printed, _ = run("fake", "x", capsys=capsys)
    assert (code, json.loads(printed)) == (0, ["x", 128, None, 0, "auto", "one", [], None, False])


def test_quiet_and_verbose_exclude_each_other(capsys):
    code, _, shown = run("-q", "-v", "fake", "x", capsys=capsys)
    assert (code, shown.count("\n")) == (2, 1)
    assert "-q and -v" in shown


@pytest.mark.parametrize("name", ["-v", "--verbose"])
def test_global_options_work_after_the_verb(name, capsys):
    code, _, shown = run("inspect", "./nowhere", name, capsys=capsys)
    assert (code, "Traceback" in shown) == (3, True)
    assert "Traceback" not in run("inspect", "./nowhere", "--no-color", capsys=capsys)[2]
    code, _, shown = run("inspect", "./nowhere", name, "--quiet", capsys=capsys)
    assert (code, shown.splitlines()[-1]) == (2, "error: -q and -v exclude each other; give one of them")


def test_a_verbs_own_letter_stays_its_own(capsys):
    """`predict -q` takes a question."""
    code, _, shown = run("predict", "./nowhere", "-q", "--verbose", "-c", "Rome.", capsys=capsys)
    assert (code, shown.count("\n")) == (3, 1)


def test_version(capsys):
    assert run("--version", capsys=capsys) == (0, f"compresskit {__version__}\n", "")


def test_help_lists_the_verbs_and_no_words_are_wrong_usage(capsys):
    code, printed, _ = run("--help", capsys=capsys)
    assert code == 0
    assert "Raise what is asked for" in printed
    code, again, shown = run(capsys=capsys)
    assert (code, again.strip(), shown) == (2, printed.strip(), "")


def test_verbs_stand_in_their_order_with_groups_among_them(capsys):
    shown = run("--help", capsys=capsys)[1]
    places = [shown.index(f"\u2502 {name} ") for name in cli.verb_names()]
    assert places == sorted(places)
    names = cli.verb_names()
    assert names.index("cache") == names.index("report") + 1  # a group among them


def test_no_color_reaches_the_processes_that_a_verb_starts(capsys):
    assert run("--no-color", "fake", "x", capsys=capsys)[0] == 0
    assert os.environ["NO_COLOR"] == "1"


def test_default_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense").mkdir()
    assert str(default_output("demo/bert", "train")) == os.path.join("runs", "demo-bert-train")
    assert str(default_output("./dense/", "smp")) == os.path.join("runs", "dense-smp")


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, *words], env=variables, capture_output=True, text=True, timeout=60)


HEAVY = {"torch", "transformers", "datasets", "peft", "numpy", "accelerate", "safetensors"}


HELP = [["--help"], *([name, "--help"] for name in sorted(cli.verb_names()))]


def test_help_imports_nothing_heavy():
    """One process for all, in which each verb's help would show what was imported up to it."""
    program = (
        "import json, sys\nfrom compresskit.cli.app import main\nfound = []\n"
        f"for words in {HELP!r}:\n"
        "    found.append([main(words), sorted({name.partition('.')[0] for name in sys.modules})])\n"
        "print(json.dumps(found))"
    )
    found = json.loads(python("-c", program).stdout.splitlines()[-1])
    for words, (code, modules) in zip(HELP, found, strict=True):
        assert code == 0, words
        assert not HEAVY & set(modules), words


def test_console_and_errors_import_nothing_but_the_standard_library():
    program = "import sys, compresskit.console, compresskit.errors; print('rich' in sys.modules)"
    assert python("-c", program).stdout == "False\n"


def test_python_m_compresskit():
    done = python("-m", "compresskit", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"compresskit {__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    done = python("-m", "compresskit", "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_COMPRESSKIT_COMPLETE" in done.stdout


@pytest.mark.parametrize("typed", ["", "fa", "fake x --st", "fake x --device c"])
def test_completion_offers_verbs_and_options(typed, capsys, monkeypatch):
    words = ["compresskit", *typed.split(" ")]
    monkeypatch.setenv("_COMPRESSKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    code, printed, _ = run(capsys=capsys)
    offered = printed.split()
    assert code == 0
    if "--st" in typed:
        assert offered == ["--stride"]
    elif "--device" in typed:
        assert offered == ["cpu", "cuda"]
    else:
        assert offered == [name for name in cli.verb_names() if name.startswith(typed)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs the device that is always full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "compresskit", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    assert done.stderr.startswith("error: disk full")


@pytest.mark.parametrize(
    ("words", "streams", "code", "out", "err"),
    [
        ("--version", "2>&-", 0, True, ""),
        ("--version", "2>/dev/full", 0, True, ""),
        ("inspect ./nowhere", "2>&-", 3, False, ""),
        ("inspect ./nowhere", "2>/dev/full", 3, False, ""),
        ("inspect ./nowhere", "<&- >&- 2>&-", 3, False, ""),
        ("--version", ">&-", 5, False, "error: standard output is closed; open it, or send it to a file\n"),
        ("--help", ">&- 2>&-", 5, False, ""),
    ],
)
def test_a_closed_stream_does_not_change_the_exit_code(words, streams, code, out, err):
    """Unless it is the one that results go to. 1 means that a gate has failed, and nothing else."""
    command = f'exec "$0" -m compresskit {words} {streams}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, timeout=60)
    assert (done.returncode, bool(done.stdout), done.stderr) == (code, out, err)


def test_a_reader_that_goes_away_is_silent():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "compresskit", "--help"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("verb", "default"),
    [
        ("train", "5e-5; 0.002 for lstm; 0.0005 for seq2seq; 0.0004 for causal; 0.002 for a demo model"),
        ("prune", "with --distill one is trained first"),
        ("eval", "--cache"),
    ],
)
def test_help_tells_defaults_that_are_no_values(verb: str, default: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a verb derives when nothing is given; rich would take a bracket in a help text for markup, and drop it."""
    assert cli.main([verb, "--help"]) == 0
    shown = " ".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines())
    assert f"[default: ({default})]" in " ".join(shown.split())
