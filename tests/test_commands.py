"""Every command that the pages show can be typed: its flags are there, and its values can be.

Those of README and tutorial are run too (slow), on a built-in model, with the words of `INSTEAD`. What is not run
stands in `NOT_RUN`, with the reason.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from compresskit.cli.app import app, main
from compresskit.cli.flags import Settings
from compresskit.options import fault, options_of

ROOT = Path(__file__).parents[1]
RUN = (ROOT / "README.md", ROOT / "docs" / "tutorial" / "index.md")
# Measured tables show what was typed at that time.
PAGES = sorted(
    page
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if page.parent != ROOT / "docs" / "results" and "`" in page.read_text(encoding="utf-8")
)
BLOCK = re.compile(
    r"^```(?P<kind>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]*\n)+)", re.MULTILINE | re.DOTALL
)
LAUNCHERS = re.compile(r"^(?:(?:accelerate launch|torchrun)\b.* -m|\w+=\S+|cat \S+ \|) +(?=compresskit\b)")
ENDS = re.compile(r"\s(?:[|&]|[<>]\s).*$")  # a pipe, a redirection, another process

# What is typed in the place of what takes a network or a GPU, word by word.
INSTEAD = {
    "bert": "base",  # a checkpoint that is made before
    "minilm": "base",
    "rajpurkar/squad_v2": "made",  # a folder with a file for each split
}
FEW: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("train", "prune", "lora"), ("--max-steps", "2", "--max-train-samples", "80", "--device", "cpu")),
    "eval": ("--limit", "60", "--latency-questions", "2", "--device", "cpu"),
}
BY_CI = ("python -m pip install -c constraints.txt -e '.[all,dev,docs]'", "python -m pytest -n 2")
NOT_RUN = {
    **dict.fromkeys(BY_CI, "what CI does"),
    "python -m pip install -c constraints.txt -e '.[all]'": "CI installs more, in the same way",
    "compresskit demo": "takes minutes; tests/cli/test_demo.py runs it",
    "compresskit doctor": "takes a minute, and ends as this machine is; tests/doctor runs it",
    "hf download sentence-transformers/all-MiniLM-L6-v2 config.json model.safetensors tokenizer.json "
    "tokenizer_config.json special_tokens_map.json vocab.txt --local-dir minilm": "needs the Hub",
}
# What shows a form, and is not to be typed.
PATTERN = re.compile(r"^compresskit VERB| …")
CODE = ("", "console", "bash", "sh")


def lines_of(page: Path) -> Iterator[str]:
    """The lines of a page's code blocks of commands, each with those that go on with it, single blanks in between."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code = block["indented"] or (block["fenced"] if block["kind"] in CODE else "")
        for line in code.replace("\\\n", " ").splitlines():
            yield re.sub(r"\s+#.*$", "", " ".join(line.split()))


def commands_of(page: Path) -> list[str]:
    """The calls of compresskit that a page shows, without launchers, pipes and redirections."""
    found = []
    for line in lines_of(page):
        line = LAUNCHERS.sub("", LAUNCHERS.sub("", line))
        if line.startswith("compresskit ") and not PATTERN.search(line):
            found.append(ENDS.sub("", line))
    return found


@functools.cache
def program() -> Any:
    """The whole command line, as typer reads it."""
    return typer.main.get_command(app)


def parsed(words: list[str]) -> tuple[Any, dict[str, Any]]:
    """The verb's command of a line, and the values of its parameters; what typer raises where it cannot be typed."""
    command: Any = program()
    context = command.make_context("compresskit", list(words))
    while hasattr(command, "commands"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, list(rest), parent=context)
    return command, context.params


def faults(command: Any, values: Mapping[str, Any]) -> list[str]:
    """The values of a verb's options that cannot be: of each alone, and where they make a dataclass, together."""
    verb = inspect.unwrap(command.callback)
    told = []
    for parameter in inspect.signature(verb, eval_str=True).parameters.values():
        kind = parameter.annotation
        marked = [each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Settings)]
        kinds: Sequence[Any] = marked[0].kinds if marked else [kind] if dataclasses.is_dataclass(kind) else []
        for each in kinds:
            known = options_of(each)
            given = {name: values[name] for name in known if values.get(name) not in (None, (), [])}
            told += [f"{name}: {problem}" for name in given if (problem := fault(known[name], given[name]))]
            if not marked:
                each(**{name: tuple(value) if known[name].is_list else value for name, value in given.items()})
    return told


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    for line in commands_of(page):
        try:
            command, values = parsed(shlex.split(line)[1:])
            assert faults(command, values) == [], line
        except Exception as error:
            pytest.fail(f"{line}: {error}")


def test_the_pages_show_commands_of_nearly_every_verb() -> None:
    """Otherwise the test above would look at nothing."""
    shown = {line.split()[1] for page in PAGES for line in commands_of(page)}
    assert {"train", "prune", "lora", "qlora", "quantize", "eval", "predict", "merge", "run"} <= shown


@pytest.mark.parametrize(
    "line", ["compresskit train bert --epoch 3", "compresskit eval a --gate", "compresskit prune b --sparsity 1.5"]
)
def test_a_command_that_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"--epoch\b|--gate|--sparsity"):
        raise ValueError(faults(*parsed(shlex.split(line)[1:])))


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_no_line_of_readme_and_tutorial_is_passed_over(page: Path) -> None:
    """What is no call of compresskit is a drawing, or it stands in the table of what is not run."""
    others = {line for line in lines_of(page) if line and not line.startswith(("compresskit ", "checkpoint ──"))}
    assert others <= set(NOT_RUN)


def test_ci_installs_and_tests_as_readme_says() -> None:
    done = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace("--quiet ", "")
    assert [line for line in BY_CI if f"step {line}" not in done] == []


def test_what_is_not_run_is_still_shown() -> None:
    assert set(NOT_RUN) <= {line for page in RUN for line in lines_of(page)}


def typed(line: str) -> list[str]:
    """The words that are run for a line: other models and data, and less of all."""
    words = [INSTEAD.get(word, word) for word in shlex.split(line)[1:]]
    verb = words[0]
    if "--epochs" in words:  # which excludes --max-steps
        del words[(place := words.index("--epochs")) : place + 2]
    if verb in ("train", "prune", "lora") and "--train-data" not in words:
        words += ["--train-data", "made"]
    if verb == "eval" and "--data" not in words and not is_by_file(words):
        words += ["--data", "made"]
    return words + list(FEW.get(verb, ()))


def is_by_file(words: list[str]) -> bool:
    """Whether a call of `eval` names nothing, so that compresskit.yaml says what is measured."""
    return words[0] == "eval" and (len(words) == 1 or words[1].startswith("-"))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_readme_and_tutorial_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("made", "squad", "data"):
        Path(folder).mkdir()
    for file, split in (("made/train.json", "train"), ("made/validation.json", "eval"), ("dev.json", "eval")):
        assert main(["data", "convert", "demo", file, "--split", split]) == 0
    assert main(["train", "demo/bert", *FEW["train"], "-o", "base"]) == 0
    settings = re.search(r"^```yaml\n(eval:.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if settings:
        Path("compresskit.yaml").write_text(settings[1], encoding="utf-8")
    done = []
    for line in commands_of(page):
        if line in NOT_RUN:
            continue
        words = typed(line)
        if "-o" in words and Path(words[words.index("-o") + 1]).is_dir():  # the last section begins anew
            words.append("--overwrite")
        code = main(words)
        told = capsys.readouterr()
        gated = "--gate" in words or is_by_file(words)  # hardly trained: a gate may fail, and nothing else
        assert code in ((0, 1) if gated else (0,)), f"{line}: exit code {code}: {told.err[-2000:]}"
        done.append(line)
    assert len(done) >= 6
