"""A job, its manifest, and the job that this tells of: of every method and family, and of every option."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from compresskit.checkpoint.manifest import Manifest, Step, read_manifest
from compresskit.errors import CompresskitError, InputError
from compresskit.methods.described import job_of
from compresskit.methods.job import Job
from compresskit.methods.registry import METHODS, method_named
from compresskit.methods.run import check_effects, completed, describe
from compresskit.options import Known
from compresskit.recipe.verbs import BUILT, VERBS, Verb
from tests.contract import twice


def step_of(job: Job) -> Step:
    """The step of a completed job, as JSON has it."""
    title = method_named(job.method).title(job.config)
    return Step(title, json.loads(json.dumps(describe(job))), 1, None, 1.0, {}, versions={})


def read_back(step: Step, folder: Path) -> Step:
    """The step as it is read from a manifest."""
    folder.mkdir()
    Manifest("encoder", "full", None, [step]).write(folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.steps[-1]


def assert_again(step: Step) -> Job:
    """The job of a step, completed, is told as the first one was."""
    again = completed(job_of(step, Path("again")))
    assert step_of(again).config == step.config
    assert step_of(again).method == step.method
    return again


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and checkpoints that no method has made: their configuration alone is read."""
    folder = tmp_path_factory.mktemp("described")
    twice.models(folder / "root")
    (folder / "out").mkdir()
    return folder / "out"


@pytest.mark.parametrize("name", twice.CASES)
def test_the_job_of_a_manifest_is_the_same(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    job = completed(twice.CASES[name](name))
    again = assert_again(read_back(step_of(job), tmp_path / "made"))
    if job.config != again.config:  # what is left out stands for its default
        assert job.config.describe() == again.config.describe()


def other(known: Known) -> Iterator[Any]:
    """Values of an option that are not its default."""
    own = known.option
    if own.choices:
        kind = int if known.kind is int else str
        yield from (kind(each) for each in own.choices if kind(each) != known.default)
    elif known.kind is bool:
        yield not known.default
    elif known.is_list:
        yield ("query", "value")
    elif known.kind in (int, float):
        least = own.least if own.least is not None else own.above or 0
        most = own.most if own.most is not None else own.below if own.below is not None else least + 14
        yield known.kind(least + (most - least) / 2)
    elif known.kind in (str, Any) or get_args(known.kind):
        others: dict[str, Any] = {"block": (4, 2), "train_data": "demo", "embeddings": "words.txt"}
        yield from [others[known.name]] if known.name in others else []


def jobs(verb: Verb, reader: str) -> Iterator[tuple[str, Job]]:
    """Jobs of a verb in each of which one option, or one beside what it needs, is not as by default."""
    needs: list[dict[str, Any]] = [{}, {"distill": True}, {"distill": True, "teacher": "demo/bert"}]
    needs += [{"calibrate": 200}, {"eval_steps": 3}, {"method": "movement"}, {"onnx": True}, {"peft_plain": True}]
    needs += [{"backend": "bitsandbytes"}, {"backend": "onnxruntime", "calibrate": 5}, {"max_steps": 3}]
    needs += [{"embeddings": "words.txt"}]
    for name, known in verb.options.items():
        for value in other(known):
            for more in needs:
                if not more.keys() <= verb.options.keys():
                    continue
                model = reader if not verb.builds else "lstm" if name in BUILT else "demo/bert"
                try:
                    made = verb.job({**more, "model": model, "output": Path("o"), name: value})
                    if verb.trains:
                        check_effects(method_named(made.method), made)
                except CompresskitError:
                    continue
                yield name, made
                break


@pytest.mark.parametrize("verb", [verb for verb in VERBS.values() if verb.name != "qlora"], ids=lambda verb: verb.name)
def test_every_option_is_found_again(verb: Verb, place: Path) -> None:
    """But for those that say where a run goes, and how its result is scored."""
    seen = set()
    for name, job in jobs(verb, str(place.parent / "root" / "encoder")):
        again = assert_again(step_of(completed(job)))
        for part in ("config", "distillation"):
            then, now = getattr(job, part), getattr(again, part)
            changed = {f.name for f in fields(then) if f.default is not MISSING and getattr(then, f.name) != f.default}
            if name in changed:
                assert getattr(now, name) == getattr(then, name), name
        seen.add(name)
    elsewhere = {"revision", "cache_dir", "save_steps", "log", "eval_data", "prompt_template", "teacher"}
    assert set(verb.options) - elsewhere - seen == set()


def step(**changes: Any) -> Step:
    config = describe(completed(VERBS["prune"].job({"model": "demo/bert", "output": Path("o"), "distill": True})))
    return Step("prune/smp", {**config, **changes}, 1, None, 1.0, {}, {"compresskit": "9.9"})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sparsity": 2}, "--sparsity 2 is not at least 0 and below 1"),
        ({"sparsity": "x"}, "--sparsity x is not a number"),
        ({"unheard": 1}, "unknown option 'unheard'"),
        ({"block": 3}, "not iterable"),
        ({"distill": {}}, "'temperature' is missing"),
        ({"architecture": {"layers": 2}}, "'demo/bert' is none of lstm"),
    ],
)
def test_what_no_job_can_be_is_told(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=r"take the version that made it, 9\.9") as caught:
        job_of(step(**changes), Path("again"))
    assert why in str(caught.value)


def test_a_method_that_is_not_known() -> None:
    with pytest.raises(InputError, match=f"'shrink/all', and this version makes checkpoints by {', '.join(METHODS)}"):
        job_of(replace(step(), method="shrink/all"), Path("again"))
