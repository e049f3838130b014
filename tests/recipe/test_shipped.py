"""Every recipe that comes along: held against the schema and the code, and run on tiny models."""

import json
from collections.abc import Callable
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, data: tuple[Path, Path]) -> Callable[[str], str]:
    """Tiny models that were trained for a step: adapters and masks do not stand on random weights."""
    folder = tmp_path_factory.mktemp("tiny")

    def made(family: str) -> str:
        words = ["-q", "train", f"demo/{family}", "-o", str(folder / family), "--train-data", str(data[0])]
        if not (folder / family).exists():
            assert main([*words, "--max-steps", "1", "--batch-size", "4", "--device", "cpu"]) == 0
        return str(folder / family)

    return made


def changes(name: str, data: tuple[Path, Path] = (Path("train.json"), Path("eval.json")), base: str = "") -> list[str]:
    """What `--set` has to change of a recipe, so that it runs in seconds on a tiny model `base`, or one of its own."""
    measured = [*MEASURED, f"eval.data={data[1]}"]
    if name == "mamba-shots":
        return [f"eval.checkpoints=[{base or 'demo/mamba'}]", f"eval.shots-data={data[0]}", *measured]
    short = [*SHORT, f"train-data={data[0]}", *measured]
    if family_of(name) == "lstm":
        return [*short, "hidden-size=8", "min-count=1", "embeddings=random"]
    return short if name in ("ci", "demo") else [*short, f"base={base or 'demo/bert'}"]


def family_of(name: str) -> str:
    """The family of a recipe's models."""
    families = {"t5": "t5", "mamba": "mamba", "lstm": "lstm", "bidaf": "lstm"}
    return families.get(name.partition("-")[0], "bert")


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


def ran(name: str, folder: Path, data: tuple[Path, Path], base: str) -> None:
    """Run a recipe on tiny models, and find each of its checkpoints measured; again, and all is kept."""
    changed = changes(name, data, base)
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
    ran("ci", tmp_path / "ci", data, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name != "ci"])
def test_every_recipe_runs_on_tiny_models(
    name: str,
    tmp_path: Path,
    data: tuple[Path, Path],
    tiny: Callable[[str], str],
    measured_here: None,
) -> None:
    if name == "fastest-cpu":
        pytest.importorskip("onnxruntime")
    family = family_of(name)
    ran(name, tmp_path / name, data, "" if family == "lstm" or name == "demo" else tiny(family))
