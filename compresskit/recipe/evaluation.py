"""The block `eval` of a recipe: the settings of `compresskit eval`, where names stand for the recipe's checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.errors import CompresskitError, UsageError
from compresskit.evaluate.config import PARTS, EvalConfig, configured, globbed_runs
from compresskit.evaluate.report import plot
from compresskit.evaluate.verdict import rules_of
from compresskit.options import Known, options_of
from compresskit.recipe.places import Place, blamed
from compresskit.recipe.recipe import Recipe, check_reference, read_value
from compresskit.recipe.verbs import key_of

KNOWN: Mapping[str, Known] = {
    name: each for kind in PARTS for name, each in options_of(kind).items() if name != "prove_gates"
}
"""The options of `compresskit eval`, but for that which measures nothing."""
FILES = ("output", "junit", "html", "plot", "predictions")
"""What an evaluation writes; a relative path lies below the folder of the recipe's run."""
REPORT = "eval.json"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of a recipe whose checkpoints lie below `folder`."""

    recipe: Recipe
    folder: Path

    def check(self) -> None:
        """Raise the error of the place where a setting or a rule cannot be; nothing need be there yet."""
        config = self.settled
        if config is None:
            return
        try:
            rules_of(config)
        except CompresskitError as error:
            raise blamed(error, self._places, self._place("gates")) from error
        if (image := self._values().get("plot")) is not None:
            try:
                plot.check(image)
            except CompresskitError as error:
                raise blamed(error, self._places, self._place("plot")) from error

    @property
    def settled(self) -> EvalConfig | None:
        """What to do but for the files that are written; None for a recipe without the block."""
        return self._config(with_files=False)

    def config(self) -> EvalConfig | None:
        """What to do, its files included; None for a recipe without the block. Their folders have to be there."""
        return self._config(with_files=True)

    def _config(self, *, with_files: bool) -> EvalConfig | None:
        if self.recipe.document.evaluation is None:
            return None
        values = self._values()
        for name in FILES:
            if not with_files:
                values.pop(name, None)
            elif name in values:
                values[name] = self.folder / values[name]
        try:
            return configured(values, Path())
        except CompresskitError as error:
            raise blamed(error, self._places, self._place()) from error

    def _values(self) -> dict[str, Any]:
        """The values of the settings, under the names of their fields; a report is written wherever nothing else is.

        Raises the error of the place of a key that is unknown, and of a value that cannot be.
        """
        values: dict[str, Any] = {"output": Path(REPORT)}
        for key, value in (self.recipe.document.evaluation or {}).items():
            name = key.replace("-", "_")
            if name not in KNOWN:
                raise self._place(name).unknown("key of eval", key, map(key_of, KNOWN))
            values[name] = read_value(KNOWN[name], PARTS, value, self._place(name))
        asked = values.get("checkpoints", tuple(each.name for each in self.recipe.checkpoints))
        values["checkpoints"] = tuple(self._ref(name) for ref in asked for name in self._meant(ref, "checkpoints"))
        if not values["checkpoints"]:
            raise self._place().error("eval measures no checkpoint; write steps:, or checkpoints: in eval")
        own = values.get("runs", ())
        if "baseline" in values and not any(values["baseline"] == text.partition("=")[0].strip() for text in own):
            values["baseline"] = self._baseline(values["baseline"])
        values["runs"] = (*map(self._named_runs, own), *self._seeded(values))
        return values

    def _baseline(self, ref: str) -> str:
        """The checkpoint that a baseline means, or the name of several seeds."""
        if ref in self.recipe.runs:
            return ref
        meant = self._meant(ref, "baseline")
        if len(meant) == 1:
            return self._ref(meant[0])
        names = dict.fromkeys(each.run_of for each in self.recipe.checkpoints if each.name in meant)
        if len(names) == 1:
            return next(iter(names))
        told = f"baseline {ref} makes several checkpoints; name one: {', '.join(names)}"
        raise self._place("baseline").error(told)

    def _named_runs(self, text: str) -> str:
        """Runs that the recipe names, where names of its checkpoints stand for their folders."""
        name, sign, refs = text.partition("=")
        named = {ref: self.recipe.named(ref) for ref in map(str.strip, refs.split(","))}
        try:
            found = [",".join(map(self._ref, own)) or globbed_runs(f"={ref}", Path())[1:] for ref, own in named.items()]
        except CompresskitError as error:
            raise self._place("runs").error(str(error)) from error
        return f"{name}={','.join(found)}" if sign else text

    def _seeded(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the runs of several seeds that are all measured, or are the baseline."""
        for name, runs in self.recipe.runs.items():
            refs = [self._ref(run) for run in runs]
            if name != values.get("baseline") and not all(ref in values["checkpoints"] for ref in refs):
                continue
            if "," in str(self.folder):
                raise UsageError(
                    f"-o {self.folder}: runs of several seeds lie in no folder with a comma; choose another"
                )
            yield f"{name}={','.join(refs)}"

    def _meant(self, ref: str, key: str) -> list[str]:
        found = self.recipe.named(ref)
        if not found:
            known = {name for each in self.recipe.checkpoints for name in (each.run_of, each.name)}
            check_reference(ref, key, known, self._place(key))
        return found or [ref]

    def _ref(self, name: str) -> str:
        return str(self.folder / name) if self.recipe.named(name) else name

    @property
    def _places(self) -> dict[str, Place]:
        return {name: self._place(name) for name in KNOWN}

    def _place(self, name: str = "") -> Place:
        return self.recipe.document.place("eval", key_of(name))
