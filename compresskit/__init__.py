"""Make question-answering checkpoints smaller, and measure what that costs.

    import compresskit as ck

    half = ck.prune("bert", sparsity=0.5, train_data="train.json", output="runs/half")
    print(ck.evaluate([half], data="dev.json"))

docs/how-to/python.md describes the names that are public; `help(ck.prune)` tells every keyword.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import takes longer than this one

try:
    from compresskit._version import __version__ as __version__
except ModuleNotFoundError:  # a source tree that was never built or installed
    __version__ = "0+unknown"


def register() -> None:
    """Make compresskit's own models known to transformers' Auto classes.

    Call it once before `AutoModelForQuestionAnswering.from_pretrained`, `AutoTokenizer.from_pretrained` or
    `AutoConfig.from_pretrained` opens the folder of a BiLSTM reader. Calling it again does nothing. compresskit's own
    commands do this by themselves.

        import compresskit
        from transformers import AutoModelForQuestionAnswering

        compresskit.register()
        model = AutoModelForQuestionAnswering.from_pretrained("runs/lstm")
    """
    # Imported here, because this takes seconds, which `import compresskit` and `compresskit --help` must not spend.
    from compresskit.models.lstm.auto import register_auto_classes

    register_auto_classes()


# The Python API. Its names are looked up when they are first asked for: `import compresskit` imports none of it, and a
# name costs what it takes alone.
if TYPE_CHECKING:
    from typing import Any

    from compresskit.api.checkpoint import Checkpoint, Inspection, Reference, inspect
    from compresskit.api.evaluating import evaluate, read_report
    from compresskit.api.making import export, lora, merge, plan, prune, qlora, quantize, train
    from compresskit.api.reading import Reader, load, predict
    from compresskit.api.recipes import RecipeRun, run_recipe
    from compresskit.api.report import Report
    from compresskit.api.surroundings import progress
    from compresskit.api.values import KeywordError
    from compresskit.checkpoint.manifest import Manifest, Step
    from compresskit.errors import CompresskitError, GateFailed, InputError, MissingError, RunFailed, UsageError
    from compresskit.evaluate.asking import Answer, Choice
    from compresskit.evaluate.row import Gate, Row
    from compresskit.models.prompt import Prompt

_PLACES = {
    "compresskit.api.checkpoint": ("Checkpoint", "Inspection", "Reference", "inspect"),
    "compresskit.api.evaluating": ("read_report",),
    "compresskit.api.making": ("export", "lora", "merge", "plan", "prune", "qlora", "quantize", "train"),
    "compresskit.api.reading": ("Reader", "load", "predict"),
    "compresskit.api.recipes": ("RecipeRun", "run_recipe"),
    "compresskit.api.report": ("Report",),
    "compresskit.api.surroundings": ("progress",),
    "compresskit.api.values": ("KeywordError",),
    "compresskit.checkpoint.manifest": ("Manifest", "Step"),
    "compresskit.errors": ("CompresskitError", "GateFailed", "InputError", "MissingError", "RunFailed", "UsageError"),
    "compresskit.evaluate.asking": ("Answer", "Choice"),
    "compresskit.evaluate.row": ("Gate", "Row"),
    "compresskit.models.prompt": ("Prompt",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Answer",
    "Checkpoint",
    "Choice",
    "CompresskitError",
    "Gate",
    "GateFailed",
    "InputError",
    "Inspection",
    "KeywordError",
    "Manifest",
    "MissingError",
    "Prompt",
    "Reader",
    "RecipeRun",
    "Reference",
    "Report",
    "Row",
    "RunFailed",
    "Step",
    "UsageError",
    "__version__",
    "evaluate",
    "export",
    "inspect",
    "load",
    "lora",
    "merge",
    "plan",
    "predict",
    "progress",
    "prune",
    "qlora",
    "quantize",
    "read_report",
    "register",
    "run_recipe",
    "train",
]


if not TYPE_CHECKING:  # which would then take any name for one of ours

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name == "evaluate":  # the package of this name can be called
            return import_module("compresskit.evaluate")
        if name not in _PLACE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_PLACE_OF[name]), name)
        globals()[name] = value  # so that it is looked up once
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
