"""What a recipe may say, what `--set` changes of it, and how a fault is told: by line, key, and what is allowed."""

import re
from pathlib import Path

import pytest

from compresskit.errors import CompresskitError, InputError, UsageError
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import Recipe, read_recipe

GOOD = """\
about: two masks, and each in 8 bits
options:
  train-data: demo
  seed: 7
steps:
  - name: dense
    base: demo/bert
    method: train
    options: {lr: 1e-3, seed: 3}
  - name: mask
    base: dense
    method: prune
    options:
      method: [smp, magnitude]
      sparsity: 0.5
      distill: true
      teacher: dense
  - name: small
    base: mask
    method: quantize
eval:
  data: demo
  baseline: dense
  gates: ["em>=base-1"]
"""


@pytest.fixture
def read(tmp_path: Path):
    def reading(text: str, *changes: str) -> Recipe:
        path = tmp_path / "lab.yaml"
        path.write_text(text)
        recipe = read_recipe(path, changes)
        Evaluation(recipe, tmp_path / "runs").check()
        return recipe

    return reading


def test_values_make_checkpoints(read) -> None:
    recipe = read(GOOD)
    names = ["dense", "mask-smp", "mask-magnitude", "small-mask-smp", "small-mask-magnitude"]
    assert [each.name for each in recipe.checkpoints] == names
    dense, smp, magnitude, small, _ = recipe.checkpoints
    assert dense.values == {"lr": 1e-3, "seed": 3, "train_data": "demo"}, "its own seed, the shared data"
    assert (smp.values["method"], magnitude.values["method"]) == ("smp", "magnitude")
    assert smp.values["seed"] == 7
    assert (small.base, small.values) == ("mask-smp", {}), "what all share is of steps that train"


def test_settings_of_eval_name_checkpoints(read, tmp_path: Path) -> None:
    config = Evaluation(read(GOOD, "eval.checkpoints=[mask, owner/name]", "eval.baseline=dense"), Path("out")).settled
    assert config is not None
    assert config.options.checkpoints == ("out/mask-smp", "out/mask-magnitude", "owner/name")
    assert (config.options.baseline, config.gating.gates) == ("out/dense", ("em>=base-1",))


def test_set_changes_a_step_or_all(read) -> None:
    dense, *masks = read(GOOD, "lr=5e-4", "mask.sparsity=[0.5, 0.9]", "mask.method=smp", "dense.seed=null").checkpoints
    assert (dense.values["lr"], "seed" in dense.values) == (5e-4, False)
    assert [each.name for each in masks[:2]] == ["mask-0.5", "mask-0.9"]
    assert masks[0].values["lr"] == 5e-4
    assert read(GOOD, "base=demo/t5").checkpoints[0].base == "demo/t5"


def test_choices_may_be_numbers_and_lists_values(read) -> None:
    text = """steps:
  - {name: reader, base: lstm, method: train, options: {variant: 1, hidden_size: 8}}
  - {name: lora, base: reader, method: lora, options: {targets: [[a, b], [c]], rank: 2}}
"""
    reader, first, second = read(text).checkpoints
    assert reader.values == {"variant": "1", "hidden_size": 8}
    assert (first.name, first.values["targets"], second.values["targets"]) == ("lora-a+b", ("a", "b"), ("c",))


def test_what_yaml_repeats_is_told_where_it_stands(read) -> None:
    text = """steps:
  - &first {name: a, base: demo/bert, method: train, options: &short {max-steps: 2, lr: 1e-3}}
  - <<: *first
    name: b
    options: {<<: *short, lr: 2e-3}
"""
    first, second = read(text).checkpoints
    assert (first.values, second.values) == ({"max_steps": 2, "lr": 1e-3}, {"max_steps": 2, "lr": 2e-3})
    with pytest.raises(InputError, match=r"lab.yaml:2: max-steps 0 is not at least 1"):
        read(text.replace("max-steps: 2", "max-steps: 0"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("about:", "abuot:", "lab.yaml:1: unknown key of a recipe 'abuot'; did you mean about?"),
        (
            "    base: demo/bert",
            "    basis: demo/bert",
            "lab.yaml:7: unknown key of a step 'basis'; did you mean base?",
        ),
        ("method: prune", "method: prun", "lab.yaml:12: unknown method 'prun'; did you mean prune?"),
        ("sparsity: 0.5", "sparsty: 0.5", "lab.yaml:15: unknown key of prune 'sparsty'; did you mean sparsity?"),
        ("sparsity: 0.5", "sparsity: half", "lab.yaml:15: sparsity 'half' is not a number"),
        ("sparsity: 0.5", "sparsity: 2", "lab.yaml:15: sparsity 2 is not at least 0 and below 1"),
        ("sparsity: 0.5", "sparsity: []", "lab.yaml:15: sparsity holds an empty list"),
        ("sparsity: 0.5", "sparsity: [0.5, 0.5]", "lab.yaml:15: sparsity holds one value twice"),
        ("smp, magnitude", "smp, magnitud", "lab.yaml:14: method 'magnitud' is not one of smp"),
        ("distill: true", "temperature: 2", "lab.yaml:16: --temperature 2 has no effect without --distill"),
        ("teacher: dense", "teacher: mask", "lab.yaml:17: teacher mask is not an earlier step"),
        ("teacher: dense", "teacher: dens", "lab.yaml:17: unknown teacher 'dens'; did you mean dense?"),
        ("base: dense", "base: dens", "lab.yaml:11: unknown base 'dens'; did you mean dense?"),
        ("  baseline: dense", "  baseline: dens", "lab.yaml:23: unknown baseline 'dens'; did you mean dense?"),
        ("  seed: 7", "  sed: 7", "lab.yaml:4: unknown key of its steps 'sed'; did you mean seed?"),
        ("name: mask", "name: dense", "lab.yaml:10: name dense is that of the step of lab.yaml:6 too"),
        ("name: mask", "name: bert", "lab.yaml:10: name bert means something else already"),
        ("name: mask", "name: ../mask", "lab.yaml:10: name '../mask' is not made of letters"),
        ("base: dense", "base: small", "lab.yaml:11: base small is not an earlier step"),
        ("base: dense", "base: 3", "lab.yaml:11: base is the name of an earlier step or a MODEL"),
        ("  baseline: dense", "  baselin: dense", "lab.yaml:23: unknown key of eval 'baselin'; did you mean baseline?"),
        ("  baseline: dense", "  baseline: mask", "lab.yaml:23: baseline mask makes several checkpoints; name one"),
        ("  baseline: dense", "  show-flips: 3", "lab.yaml:23: --show-flips 3 has no effect without --baseline"),
        ("em>=base-1", "emm>=base-1", "lab.yaml:24: "),
        ("eval:", "steps: []\neval:", "the key 'steps' stands there twice"),
        ("steps:", "step:", "lab.yaml:5: unknown key of a recipe 'step'; did you mean steps?"),
        ("    method: quantize", "    method: [quantize]", "lab.yaml:20: method holds a list; write a text"),
    ],
)
def test_a_fault_is_told_by_line_and_key(read, old: str, new: str, told: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        read(GOOD.replace(old, new, 1))
    assert told in re.sub(r"\S*/lab.yaml", "lab.yaml", str(caught.value))


def test_folders_beside_a_checkpoint_are_its_own(read) -> None:
    text = GOOD.replace("      teacher: dense\n", "").replace("name: small", "name: mask-smp-teacher")
    with pytest.raises(InputError, match=r"lab.yaml:17: .* would both lie in mask-smp-teacher"):
        read(text.replace("base: mask", "base: mask-smp"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("lr", "is not KEY=VALUE"),
        ("lr=[", "the value is not valid YAML"),
        ("lr=fast", "--set lr=fast: lr 'fast' is not a number"),
        ("learnrate=1", "unknown key of its steps 'learnrate'"),
        ("denes.lr=1", "unknown step 'denes'; did you mean dense?"),
        ("dense.sparsity=0.5", "--set dense.sparsity=0.5: unknown key of train 'sparsity'"),
        ("eval.limt=3", "unknown key of eval 'limt'; did you mean limit?"),
        ("dense.base=null", "base is the name of an earlier step or a MODEL"),
    ],
)
def test_what_set_cannot_change_is_wrong_usage(read, change: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(GOOD, change)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "- a", "3", "steps: 3", "steps: [3]", "steps: []", "eval: {}", "about: 3", "a: ["]
)
def test_what_is_no_recipe_is_refused(read, text: str) -> None:
    with pytest.raises(CompresskitError) as caught:
        read(text)
    assert "lab.yaml" in str(caught.value)
