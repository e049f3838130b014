"""What an evaluation is told: flags alone, or a file of the project and flags that win over it."""

from pathlib import Path
from typing import Any

import pytest

from compresskit.data import DEFAULT_DATA
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.config import EvalConfig, configured, read
from compresskit.evaluate.settings import EvalSettings

TOML = """
[tool.other]
x = 1

[tool.compresskit.eval]
checkpoints = ["runs/dense", "runs/smp-*", "preds/*.json", "owner/name"]
data = "dev.json"
baseline = "runs/dense"
gates = ["em>=base-1.0", "size<=0.3x"]
gate-ci = true
html = "eval.html"
output = "eval.json"
batch_size = 16
null-threshold = 1
metrics = ["bleu"]
cache = false
"""
YAML = """
eval:
  checkpoints: [runs/dense, "runs/smp-*", "preds/*.json", owner/name]
  data: dev.json
  baseline: runs/dense
  gates: ["em>=base-1.0", "size<=0.3x"]
  gate-ci: true
  html: eval.html
  output: eval.json
  batch-size: 16
  null_threshold: 1
  metrics: [bleu]
  cache: false
"""
FILES = {"pyproject.toml": TOML, "compresskit.yaml": YAML}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("runs/dense", "runs/smp-50", "runs/smp-10", "runs/smp-3.partial", "preds/folder.json"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("preds/a.json", "runs/smp-50.json"):
        (tmp_path / file).write_text("{}")
    return tmp_path


def without_eval(text: str) -> str:
    """The same file without the section around its keys."""
    return "\n".join(line.removeprefix("  ") for line in text.splitlines() if line != "eval:")


@pytest.mark.parametrize(
    ("name", "text"), [*FILES.items(), ("compresskit.yaml", without_eval(YAML))], ids=["toml", "yaml", "flat yaml"]
)
def test_a_file_says_it_all(name: str, text: str, project: Path) -> None:
    (project / name).write_text(text)
    assert configured({"checkpoints": None, "seed": None}, project) == EvalConfig(
        checkpoints=("runs/dense", "runs/smp-10", "runs/smp-50", "preds/a.json", "owner/name"),
        settings=EvalSettings(batch_size=16, null_threshold=1, metrics=("bleu",)),
        data="dev.json",
        baseline="runs/dense",
        gates=("em>=base-1.0", "size<=0.3x"),
        gate_ci=True,
        html=Path("eval.html"),
        output=Path("eval.json"),
        cache=False,
    )


@pytest.mark.parametrize("name", FILES)
def test_flags_win_over_the_file(name: str, project: Path) -> None:
    (project / name).write_text(FILES[name])
    given = {
        "data": "other.json",
        "gates": ["em>=70"],
        "batch_size": 4,
        "null_threshold": 0.0,
        "cache": True,
        "limit": 9,
    }
    found = configured(given, project)
    assert (found.data, found.gates, found.cache, found.output) == ("other.json", ("em>=70",), True, Path("eval.json"))
    assert found.settings == EvalSettings(batch_size=4, metrics=("bleu",), limit=9)


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_on_the_line_leaves_the_file_alone(name: str, project: Path) -> None:
    (project / name).write_text("broken [")
    found = configured({"checkpoints": ["runs/x*"], "metrics": ["bleu, rouge"]}, project)
    assert found == EvalConfig(("runs/x*",), EvalSettings(metrics=("bleu", "rouge")))
    assert found.data == DEFAULT_DATA


def test_files_without_a_say(project: Path) -> None:
    assert read(project) == {"checkpoints": []}
    (project / "pyproject.toml").write_text("[tool.other]\nx = 1\n[tool]\ncompresskit = 3")
    (project / "compresskit.yaml").write_text("")
    assert read(project) == {"checkpoints": []}
    with pytest.raises(UsageError, match=r"no checkpoint.*\[tool.compresskit.eval\]"):
        configured({}, project)


def test_two_files_that_both_have_a_say(project: Path) -> None:
    for name, text in FILES.items():
        (project / name).write_text(text)
    with pytest.raises(UsageError, match=r"pyproject.toml and compresskit.yaml both"):
        read(project)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ({"checkpoint": ["a"]}, "unknown key 'checkpoint'; did you mean checkpoints?"),
        ({"gate_cl": True}, "unknown key 'gate_cl'; did you mean gate_ci?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: "),
        ({"checkpoints": "runs/*"}, "checkpoints is 'runs/*', not a list of texts"),
        ({"gates": ["em>=1", 3]}, "gates is ['em>=1', 3], not a list of texts"),
        ({"data": 3}, "data is 3, not a text"),
        ({"data": ["a"]}, "data is ['a'], not a text"),
        ({"batch-size": "8"}, "batch-size is '8', not a whole number"),
        ({"batch_size": True}, "batch_size is True, not a whole number"),
        ({"limit": 1.5}, "limit is 1.5, not a whole number"),
        ({"cache": 0}, "cache is 0, not true or false"),
        ({"null_threshold": "best"}, "null_threshold is 'best', not a number, or 'auto'"),
        ({"checkpoints": ["nowhere/*"]}, "no checkpoint matches 'nowhere/*'; mend the glob"),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_what_a_file_must_not_say(name: str, lines: dict[str, Any], what: str, project: Path) -> None:
    ((key, value),) = lines.items()
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    text = f"[tool.compresskit.eval]\n{key} = {shown}" if name.endswith("toml") else f"eval:\n  {key}: {shown}"
    (project / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read(project)
    assert what in str(caught.value)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("pyproject.toml", "[tool.compresskit.eval\n", "is not valid TOML"),
        ("pyproject.toml", "[tool.compresskit]\neval = 3", "holds a int"),
        ("compresskit.yaml", "eval: [a", "is not valid YAML"),
        ("compresskit.yaml", "- a\n- b", "holds a list"),
        ("compresskit.yaml", "eval: a", "holds a str"),
    ],
)
def test_a_broken_file(name: str, text: str, what: str, project: Path) -> None:
    (project / name).write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        read(project)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_impossible_values_of_a_file_are_refused_like_those_of_flags(project: Path) -> None:
    (project / "compresskit.yaml").write_text("checkpoints: [a]\nnull_threshold: auto")
    with pytest.raises(UsageError, match="--tune-data"):
        configured({}, project)


def test_a_threshold_on_the_line_wins_over_tuning_in_the_file(project: Path) -> None:
    (project / "compresskit.yaml").write_text("checkpoints: [a]\nnull_threshold: auto\ntune_data: tune.json")
    assert configured({}, project).settings == EvalSettings(null_threshold="auto", tune_data="tune.json")
    assert configured({"null_threshold": 0.5}, project).settings == EvalSettings(null_threshold=0.5)


@pytest.mark.parametrize("line", ["seed: -1", "device: tpu", "max_length: 0", "show_flips: -1", "null_threshold: .nan"])
def test_what_the_line_refuses_a_file_is_refused_too(line: str, project: Path) -> None:
    (project / "compresskit.yaml").write_text(f"checkpoints: [a]\n{line}")
    with pytest.raises(UsageError, match=line.split(":")[0].replace("_", " ")):
        configured({}, project)


def test_answers_go_to_a_folder(project: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        configured({"checkpoints": ["a"], "predictions": project / "preds" / "a.json"}, project)
