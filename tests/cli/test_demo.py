"""`demo` is a recipe: from end to end on a tiny one, and what the shipped one shows."""

import json
from pathlib import Path

import pytest

from compresskit.data import demo as data
from compresskit.evaluate import machine
from compresskit.recipe import run as recipe_run
from compresskit.recipe import shipped
from compresskit.recipe.recipe import Recipe, read_recipe
from tests.cli.conftest import Run

TINY = """
steps:
  - name: lstm-dense
    base: demo/lstm
    method: train
    options: {train-data: TRAIN, max-train-samples: 16, max-steps: 2, batch-size: 8, device: cpu}
eval: {data: EVAL, device: cpu, baseline: lstm-dense, latency-questions: 0, html: report.html}
"""


def test_it_ends_in_a_table_and_its_files(
    place: Path, run: Run, measured_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run again it makes nothing anew."""
    train, asked = data.write(place, data.DemoConfig(train_questions=18, eval_questions=6))
    (place / "demo.yaml").write_text(TINY.replace("TRAIN", str(train)).replace("EVAL", str(asked)))
    monkeypatch.setattr(shipped, "folder", lambda: place)
    done = run("demo", "-o", "out", "--jobs", "1")
    assert done.code == 0, done.err
    assert "lstm-dense" in done.out
    (row,) = json.loads(Path("out/eval.json").read_text())["rows"]
    assert row["name"] == "lstm-dense"
    assert "lstm-dense" in Path("out/report.html").read_text()
    assert "out/eval.json and out/report.html hold these figures" in done.err
    assert "nothing changed" in run("demo", "-o", "out", "--jobs", "1").err


@pytest.mark.parametrize(
    ("words", "cores", "jobs", "seed"),
    [([], 1, 1, None), ([], 64, 2, None), (["--jobs", "3", "--seed", "7"], 2, 3, 7)],
)
def test_two_steps_at_a_time_where_there_are_two_cores(
    words: list[str], cores: int, jobs: int, seed: int | None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path, int, set[int | None]]] = []

    def taken(recipe: Recipe, folder: Path, jobs: int) -> None:
        seeds = {each.values.get("seed") for each in recipe.checkpoints if each.verb.trains}
        asked.append((recipe.name, folder, jobs, seeds))

    monkeypatch.setattr(machine, "cpus", lambda: cores)
    monkeypatch.setattr(recipe_run, "run_recipe", taken)
    assert run("demo", *words).code == 0
    assert asked == [("demo", Path("runs/demo"), jobs, {seed})]


def test_every_family_and_every_method_is_shown() -> None:
    recipe = read_recipe(shipped.find("demo"))
    shown = {(each.name.partition("-")[0], each.verb.name) for each in recipe.checkpoints}
    assert shown >= {(family, verb) for family in ("bert", "lstm", "t5", "mamba") for verb in ("train", "prune")}
    assert shown >= {(family, "quantize") for family in ("bert", "lstm", "t5", "mamba")}
    assert shown >= {("bert", "lora"), ("bert", "qlora"), ("t5", "lora"), ("mamba", "lora")}
    assert [each.values["sparsity"] for each in recipe.checkpoints if each.step == "bert-smp"] == [0.5, 0.9]
    assert all(each.values["distill"] for each in recipe.checkpoints if each.verb.name == "prune")
