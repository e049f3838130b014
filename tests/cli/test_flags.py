"""Every flag of every verb: it says what it does, comes from an option, and is a key of the project's file for eval."""

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import compresskit
from compresskit.cli.app import app
from compresskit.errors import InputError
from compresskit.evaluate.config import read
from compresskit.evaluate.settings import EvalSettings
from compresskit.methods.distillation import Distillation
from compresskit.methods.export.config import ExportConfig
from compresskit.methods.job import MergeConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.quantize.config import QloraConfig, QuantizeConfig
from compresskit.models.answering import AnswerOptions
from compresskit.models.architecture import ARCHITECTURES
from compresskit.options import options_of
from compresskit.training.arguments import TrainingOptions


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All verbs by name, those within a verb too."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{word} ")
        else:
            yield name + word, command


def flags_of(command: Any) -> dict[str, set[str]]:
    """The parameters of a command by name, with all that can be typed for each."""
    return {each.name: {*each.opts, *each.secondary_opts} for each in command.params if each.name != "help"}


VERBS = dict(commands(typer.main.get_command(app)))


def option_dataclasses() -> list[type]:
    """Every dataclass of the package that has an option."""
    found: dict[type, None] = {}
    for module in pkgutil.walk_packages(compresskit.__path__, "compresskit."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            is_dataclass = isinstance(value, type) and dataclasses.is_dataclass(value)
            if is_dataclass and any(field.metadata for field in dataclasses.fields(value)) and options_of(value):
                found[value] = None
    return list(found)


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_text_is_a_sentence(verb: str) -> None:
    command = VERBS[verb]
    texts = {each.name: each.help for each in command.params if each.name != "help"} | {verb: command.help}
    for name, text in texts.items():
        assert text, name
        assert text.rstrip().endswith("."), f"{name}: {text}"


def test_every_option_is_a_flag_of_a_verb() -> None:
    kinds = option_dataclasses()
    assert len(kinds) > 10
    for kind in kinds:
        known = options_of(kind)
        homes = [flags for flags in map(flags_of, VERBS.values()) if known.keys() <= flags.keys()]
        assert homes, f"no verb has all options of {kind.__name__}"
        for name, option in known.items():
            if not option.option.argument:
                typed = {option.flag, option.option.short} - {""}
                assert any(typed <= flags[name] for flags in homes), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("file", ["pyproject.toml", "compresskit.yaml"])
def test_every_flag_of_eval_is_a_key_of_the_projects_file(file: str, tmp_path: Path) -> None:
    flags = flags_of(VERBS["eval"])
    heading = "[tool.compresskit.eval]\n" if file.endswith("toml") else ""
    sign = "=" if file.endswith("toml") else ":"
    for name in flags:
        for key in {name, name.replace("_", "-")}:
            (tmp_path / file).write_text(f"{heading}{key}{sign} [[1]]\n")  # a value that no option has
            with pytest.raises(InputError, match=re.escape(f"{key} [[1]] is not ")):
                read(tmp_path)
    (tmp_path / file).write_text(f"{heading}unheard{sign} 1\n")
    with pytest.raises(InputError, match="'unheard'") as caught:
        read(tmp_path)
    assert set(str(caught.value).partition("known: ")[2].split(", ")) == set(flags)


def test_every_setting_of_a_job_has_an_option() -> None:
    """But for what other options are made of."""
    made = {"architecture", "select_data", "shots"}
    configs = (PruneConfig, LoraConfig, QloraConfig, QuantizeConfig, MergeConfig, ExportConfig, Distillation)
    for kind in (TrainingOptions, EvalSettings, AnswerOptions, *configs, *ARCHITECTURES.values()):
        assert {field.name for field in dataclasses.fields(kind)} - made == options_of(kind).keys() - made
