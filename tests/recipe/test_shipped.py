"""Every recipe that comes along: held against the schema and the code, and run on tiny models."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from compresskit.cli.app import main
from compresskit.data import demo
from compresskit.options import options_of
from compresskit.recipe import schema
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import read_recipe
from compresskit.recipe.shipped import find, names
from compresskit.recipe.verbs import DECIDED, VERBS

WANTED = """bert-dense bert-smp-10 bert-smp-50-distill bert-movement t5-full t5-lora t5-int8 t5-qlora
lstm-1 lstm-2 lstm-3 lstm-4 bidaf mamba-shots mamba-sft mamba-lora smallest fastest-cpu ci demo"""
# A run of a few steps on a few questions.
SHORT = ["max-steps=2", "epochs=null", "max-train-samples=16", "batch-size=4", "device=cpu"]
MEASURED = ["eval.limit=8", "eval.latency-questions=0", "eval.device=cpu", "eval.gates=null"]
SIZES = demo.DemoConfig(train_questions=30, eval_questions=10)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Questions to learn from, and to score."""
    return demo.write(tmp_path_factory.mktemp("data"), SIZES)


def changes(name: str, data: tuple[Path, Path] = (Path("train.json"), Path("eval.json"))) -> list[str]:
    """What `--set` has to change of a recipe, so that it runs in seconds."""
    learned = f"train-data={data[0]}"
    return [*_changes(name), f"eval.data={data[1]}", f"eval.shots-data={data[0]}" if "shots" in name else learned]


def _changes(name: str) -> list[str]:
    if name == "mamba-shots":
        return ["eval.checkpoints=[demo/mamba]", *MEASURED]
    family = name.partition("-")[0]
    if family in ("lstm", "bidaf"):
        return [*SHORT, *MEASURED, "hidden-size=8", "min-count=1", "embeddings=random"]
    if name in ("ci", "demo"):
        return [*SHORT, *MEASURED]
    trained = ["smp.base=dense"] if name == "bert-smp-10" else []  # without a teacher there is nothing to prune yet
    return [*trained, *SHORT, *MEASURED, f"base=demo/{family if family in ('t5', 'mamba') else 'bert'}"]


def test_the_recipes_of_the_tables_are_there() -> None:
    assert set(names()) == set(WANTED.split())


def test_the_published_schema_is_what_the_options_say() -> None:
    made = schema.schema()
    jsonschema.Draft202012Validator.check_schema(made)
    kept = json.loads(schema.SCHEMA_FILE.read_text())
    assert kept == made, f"run compresskit recipes schema > {schema.SCHEMA_FILE}"


@pytest.mark.parametrize("name", names())
def test_a_recipe_holds_to_schema_and_code(name: str) -> None:
    text = find(name).read_text()
    assert text.startswith("# "), "it says what it is"
    assert text.split("\n", 1)[1]
    jsonschema.Draft202012Validator(schema.schema()).validate(yaml.safe_load(text))
    for changed in ([], changes(name)):
        recipe = read_recipe(find(name), changed)
        Evaluation(recipe, Path("runs") / name).check()
        assert recipe.document.about
        assert recipe.document.evaluation


@pytest.mark.parametrize("key", ["epoch", "learning-rate"])
def test_the_schema_refuses_what_the_code_does(key: str) -> None:
    step = {"name": "a", "base": "demo/bert", "method": "train", "options": {"lr": [1e-3, 2e-3]}}
    check = jsonschema.Draft202012Validator(schema.schema()).is_valid
    assert check({"steps": [step]})
    assert not check({"steps": [{**step, "options": {key: 1}}]})
    assert not check({"steps": [{**step, "method": "quantize"}]})
    assert not check({})


def test_the_keys_are_the_flags() -> None:
    """What a step takes is what the verb's command line takes, but for MODEL, where it goes, and `--plan`."""
    import typer

    from compresskit.cli.app import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for verb in VERBS.values():
        flags = {param.name for param in commands[verb.name].params} - {*DECIDED, "plan", "help"}
        assert flags == set(verb.options), verb.name
        assert set(DECIDED) - {"resume"} <= set(options_of(verb.kinds[0]))


def ran(name: str, folder: Path, data: tuple[Path, Path]) -> None:
    """Run a recipe on tiny models, and find each of its checkpoints measured; again, and all is kept."""
    changed = changes(name, data)
    words = [word for change in changed for word in ("--set", change)]
    assert main(["-q", "run", name, "-o", str(folder), *words]) == 0
    recipe = read_recipe(find(name), changed)
    config = Evaluation(recipe, folder).settled
    assert config is not None
    rows = json.loads((folder / "eval.json").read_text())["rows"]
    assert len(rows) == len(config.options.checkpoints)
    assert not [row["error"] for row in rows if row.get("error")]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/compresskit.json")}
    assert len(before) >= len(recipe.checkpoints)
    assert main(["-q", "run", name, "-o", str(folder), *words]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/compresskit.json")} == before


def test_a_recipe_runs_on_a_tiny_model(tmp_path: Path, data: tuple[Path, Path], measured_here: None) -> None:
    ran("ci", tmp_path / "ci", data)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name != "ci"])
def test_every_recipe_runs_on_tiny_models(
    name: str, tmp_path: Path, data: tuple[Path, Path], measured_here: None
) -> None:
    if name == "fastest-cpu":
        pytest.importorskip("onnxruntime")
    ran(name, tmp_path / name, data)
