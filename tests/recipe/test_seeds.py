"""Steps with several seeds: what they make, how it is paired, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.recipe import schema
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import Recipe, read_recipe

LAB = """\
options: {train-data: demo, seed: 7}
steps:
  - {name: dense, base: demo/bert, method: train, seeds: 2}
  - name: mask
    base: demo/bert
    method: prune
    options: {sparsity: [0.5, 0.9], distill: true, teacher: dense}
  - {name: small, base: mask, method: quantize}
  - {name: other, base: demo/bert, method: train}
eval: {data: demo, baseline: dense, gates: ["em>=base-1@worst"]}
"""
RUNS = ["dense", "mask-0.5", "mask-0.9", "small-mask-0.5", "small-mask-0.9"]


@pytest.fixture
def read(tmp_path: Path):
    def reading(text: str = LAB, *changes: str, seeds: int | None = None) -> Recipe:
        path = tmp_path / "lab.yaml"
        path.write_text(text)
        recipe = read_recipe(path, changes, seeds)
        Evaluation(recipe, tmp_path / "runs").check()
        return recipe

    return reading


def test_what_stands_on_seeds_is_made_once_for_each(read) -> None:
    recipe = read()
    assert [each.name for each in recipe.checkpoints] == [
        *(f"{name}-seed{seed}" for name in RUNS for seed in (7, 8)),
        "other",
    ]
    by_name = {each.name: each for each in recipe.checkpoints}
    for seed in (7, 8):
        mask, small = by_name[f"mask-0.9-seed{seed}"], by_name[f"small-mask-0.9-seed{seed}"]
        assert (mask.values["seed"], mask.values["teacher"]) == (seed, f"dense-seed{seed}")
        assert (mask.base, small.base) == ("demo/bert", f"mask-0.9-seed{seed}")
        assert "seed" not in small.values, "it learns nothing"
    assert (by_name["other"].seed, by_name["other"].values["seed"]) == (None, 7)


def test_an_evaluation_has_a_row_for_the_runs_of_each(read, tmp_path: Path) -> None:
    config = Evaluation(read(), Path("out")).settled
    assert config is not None
    assert config.options.runs == tuple(f"{name}=out/{name}-seed7,out/{name}-seed8" for name in RUNS)
    assert config.options.baseline == "dense"
    assert len(config.options.measured) == 21
    assert config.options.baselines == ("out/dense-seed7", "out/dense-seed8")

    some = Evaluation(read(LAB, "eval.checkpoints=[mask-0.5, small-mask-0.9-seed8, other]"), Path("out")).settled
    assert some is not None
    assert [text.partition("=")[0] for text in some.options.runs] == ["dense", "mask-0.5"]
    assert some.options.checkpoints[2:] == ("out/small-mask-0.9-seed8", "out/other")

    named = Evaluation(read(LAB, 'eval.runs=["both=other,mask-0.5-seed7"]', "eval.checkpoints=[other]"), Path("out"))
    assert named.settled is not None
    assert named.settled.options.runs[0] == "both=out/other,out/mask-0.5-seed7"


def test_seeds_on_the_command_line_are_of_every_step_that_trains(read) -> None:
    recipe = read(seeds=3)
    assert recipe.runs["other"] == ["other-seed7", "other-seed8", "other-seed9"]
    assert len(recipe.runs["small-mask-0.9"]) == 3
    assert "other" not in read(LAB, "other.seeds=null", seeds=3).runs
    assert read(LAB, "seeds=null").runs == {}
    assert len(read(LAB, "dense.seeds=4").runs["mask-0.5"]) == 4
    no_seed = read(LAB, "seed=null")
    assert no_seed.runs["dense"] == ["dense-seed42", "dense-seed43"], "the seed of a training without one"


def test_what_all_share_gives_way_to_the_seeds_of_a_base(read) -> None:
    text = LAB.replace("seeds: 2}", "seeds: 2, options: {seed: 3}}").replace(
        "mask\n    base: demo/bert", "mask\n    base: dense"
    )
    assert [each.values.get("seed") for each in read(text).checkpoints[:4]] == [3, 4, 3, 4]
    told = "its base dense has the seeds 3, 4, which are its own then; leave seed out"
    refused(read, text.replace("{sparsity", "{seed: 5, sparsity"), f"lab.yaml:7: seed 5: {told}")


def refused(read, text: str, told: str, *changes: str, kind: type[CompresskitError] = InputError) -> None:
    with pytest.raises(kind) as caught:
        read(text, *changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("value", ["1", "0", "true", "two", "2.5", "[2, 3]", "101"])
def test_seeds_are_a_number(read, value: str) -> None:
    refused(read, LAB.replace("seeds: 2", f"seeds: {value}"), "lab.yaml:3: seeds ")


def test_what_cannot_have_seeds_is_told_by_its_line(read) -> None:
    text = LAB.replace("base: mask, method: quantize", "base: mask, method: quantize, seeds: 2")
    refused(read, text, "lab.yaml:8: quantize learns nothing, so it has no seeds; leave seeds out")
    refused(read, LAB.replace("seeds: 2}", "seeds: 2, options: {seed: [1, 2]}}"), "lab.yaml:3: seed has several values")
    text = LAB.replace("    method: prune", "    method: prune\n    seeds: 3")
    refused(read, text, "lab.yaml:7: seeds 3: its teacher dense has the seeds 7, 8")
    refused(read, LAB.replace("name: other", "name: dense-seed7"), "would both lie in dense-seed7")
    refused(
        read,
        LAB.replace("name: other", "name: mask-0"),
        "--set mask-0.seeds=1: seeds 1",
        "mask-0.seeds=1",
        kind=UsageError,
    )
    both = LAB.replace("base: demo/bert\n", "base: third\n").replace(
        "  - name: mask", "  - {name: third, base: demo/bert, method: train, seeds: 3}\n  - name: mask"
    )
    refused(read, both, "base third the seeds 7, 8, 9, teacher dense the seeds 7, 8; give both the same seeds")


def test_a_name_of_runs_is_no_checkpoint(read) -> None:
    text = LAB.replace("options: {sparsity: [0.5, 0.9],", "options: {sparsity: 0.5,").replace(
        "name: other", "name: dense-x"
    )
    assert read(text).runs.keys() == {"dense", "mask", "small"}
    refused(read, LAB, "is one of the runs of dense; name dense", "eval.baseline=dense-seed7", kind=UsageError)
    refused(
        read,
        LAB,
        "baseline mask makes several checkpoints; name one: mask-0.5, mask-0.9",
        "eval.baseline=mask",
        kind=UsageError,
    )


def test_a_wrong_name_is_told_the_nearest_of_runs(read) -> None:
    refused(read, LAB, "did you mean mask-0.9?", "eval.baseline=mask-09", kind=UsageError)
    refused(read, LAB, "mask-0.9-seed8, other, small-mask-0.5", "eval.baseline=nothing", kind=UsageError)
    refused(
        read,
        LAB.replace("teacher: dense}", "teacher: dens}"),
        "lab.yaml:7: unknown teacher 'dens'; did you mean dense?",
    )


def test_the_schema_has_the_key() -> None:
    validator = jsonschema.Draft202012Validator(schema.schema())
    validator.validate(yaml.safe_load(LAB))
    assert [
        error.json_path for error in validator.iter_errors(yaml.safe_load(LAB.replace("seeds: 2", "seeds: 1")))
    ] == ["$.steps[0].seeds"]
