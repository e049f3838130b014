"""Write `compresskit/api/keywords.py` from the dataclasses of options: `python -m tests.api.write_keywords`."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from compresskit.api.described import as_keywords, default_of, options_of_verb
from compresskit.api.evaluating import evaluation_options
from compresskit.api.reading import answer_options
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import MergeOptions
from compresskit.methods.lora.config import LoraConfig
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.prompt import Prompt
from compresskit.options import Known, options_of
from compresskit.training.arguments import RunOptions, TrainingOptions

FILE = Path(__file__).parents[2] / "compresskit" / "api" / "keywords.py"

HEAD = '''"""The keywords of the Python API, each with its type and what it says: those of the dataclasses of options.

Written by `python -m tests.api.write_keywords`; a test holds the two together. What is None was not given.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import torch

    from compresskit.api.checkpoint import Reference
    from compresskit.models.prompt import Prompt

StrPath: TypeAlias = str | os.PathLike[str]
'''

REFERENCES = ("teacher", "baseline")
TORCH = {"device": " | torch.device", "dtype": " | torch.dtype"}
DATA = ("train_data", "eval_data", "tune_data", "shots_data", "data")


def typed(known: Known) -> str:
    """The annotation of a keyword."""
    kind = "Reference" if known.name in REFERENCES else "StrPath" if known.name in DATA else _plain(known)
    kind += TORCH.get(known.name, "")
    if known.is_list:
        kind = f"{kind} | Sequence[{kind}]"
    return f"{kind} | None" if known.default is None else kind


def _plain(known: Known) -> str:
    own = known.kind
    if known.option.choices and own in (int, str):
        return f"Literal[{', '.join(quoted(own(choice)) for choice in known.option.choices)}]"
    if get_origin(own) is Literal:
        return f"Literal[{', '.join(map(quoted, get_args(own)))}]"
    if get_origin(own) in (Union, types.UnionType):
        parts = [part for part in get_args(own) if part is not types.NoneType]
        return " | ".join(_plain(Known(known.name, part, False, None, known.option)) for part in parts)
    names: Mapping[Any, str] = {Path: "StrPath", Prompt: "Prompt | StrPath", tuple[int, int]: "str | tuple[int, int]"}
    return names.get(own) or own.__name__


def quoted(value: object) -> str:
    """A value as the formatter writes it."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def entries(known: Iterable[Known]) -> Iterator[str]:
    """The lines of the body of a class."""
    for each in known:
        default = default_of(each)
        text = " ".join([as_keywords(each.option.help), *([f"Default: {default}."] if default else [])])
        yield f"    {each.name}: {typed(each)}"
        yield textwrap.fill(f'"""{text}"""', 119, initial_indent="    ", subsequent_indent="    ")


def class_of(name: str, doc: str, known: Mapping[str, Known], *bases: str, without: Iterable[str] = ()) -> str:
    """A TypedDict of the options that its bases have not."""
    own = [each for field, each in known.items() if field not in set(without)]
    head = f"class {name}({', '.join((*bases, *(() if bases else ('TypedDict',)), 'total=False'))}):"
    return "\n".join([head, f'    """{doc}"""', *(["", *entries(own)] if own else [])])


def text() -> str:
    """The whole file."""
    run = {name: each for name, each in options_of(RunOptions).items() if name != "model"}
    training = {name: each for name, each in options_of(TrainingOptions).items() if name != "model"}
    shared = {**training, **options_of(EvaluatorOptions), **options_of(Distillation)}
    built = options_of(LstmOptions)
    adapters = options_of(LoraConfig)
    assert run.keys() == options_of(MergeOptions).keys() - {"model"}

    def own(verb: str, doc: str, known: Iterable[str], *bases: str) -> str:
        title = f"{verb.capitalize()}Keywords"
        return class_of(title, f"Keywords of `ck.{verb}`{doc}.", options_of_verb(verb), *bases, without=known)

    evaluated = evaluation_options()
    measuring = {name: each for name, each in evaluated.items() if name != "data"}
    classes = [
        class_of("RunKeywords", "Keywords of every function that makes a checkpoint.", run),
        class_of("LearningKeywords", "Keywords of every function that trains.", shared, "RunKeywords", without=run),
        class_of("BuiltKeywords", "Keywords of a model that is built from its training data: `lstm`.", built),
        own("train", "", {*shared, *built}, "LearningKeywords", "BuiltKeywords"),
        own("prune", "", {*shared, *built}, "LearningKeywords", "BuiltKeywords"),
        own("lora", "", shared, "LearningKeywords"),
        own("qlora", "", {*shared, *adapters}, "LoraKeywords"),
        *(own(verb, "", run, "RunKeywords") for verb in ("quantize", "merge", "export")),
        class_of("MeasureKeywords", "Keywords of a checkpoint's own `evaluate`.", measuring),
        class_of("EvaluateKeywords", "Keywords of `ck.evaluate`.", evaluated, "MeasureKeywords", without=measuring),
        class_of("AnswerKeywords", "Keywords of `ck.predict`, and of a reader's.", answer_options()),
    ]
    return "\n\n".join([HEAD, *(f"{each}\n" for each in classes)])


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
