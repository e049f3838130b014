"""What an evaluation is told: flags alone, or a file of the project and flags that win over it."""

from pathlib import Path
from typing import Any

import pytest

from compresskit.data import DEFAULT_DATA
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.config import EvalConfig, EvalOptions, configured, read
from compresskit.evaluate.delivery import Delivery, GateOptions
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
    assert configured({}, project) == EvalConfig(
        EvalOptions(
            checkpoints=("runs/dense", "runs/smp-10", "runs/smp-50", "preds/a.json", "owner/name"),
            data="dev.json",
            baseline="runs/dense",
            cache=False,
        ),
        EvalSettings(batch_size=16, null_threshold=1, metrics=("bleu",)),
        GateOptions(gates=("em>=base-1.0", "size<=0.3x"), gate_ci=True),
        Delivery(html=Path("eval.html"), output=Path("eval.json")),
    )


@pytest.mark.parametrize("name", FILES)
def test_flags_win_over_the_file(name: str, project: Path) -> None:
    (project / name).write_text(FILES[name])
    given = {
        "data": "other.json",
        "gates": ("em>=70",),
        "batch_size": 4,
        "null_threshold": 0.0,
        "cache": True,
        "limit": 9,
    }
    found = configured(given, project)
    assert (found.options.data, found.options.cache) == ("other.json", True)
    assert (found.gating.gates, found.delivery.output) == (("em>=70",), Path("eval.json"))
    assert found.settings == EvalSettings(batch_size=4, metrics=("bleu",), limit=9)


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_on_the_line_leaves_the_file_alone(name: str, project: Path) -> None:
    (project / name).write_text("broken [")
    found = configured({"checkpoints": ("runs/x*",), "metrics": ("bleu, rouge",)}, project)
    settings = EvalSettings(metrics=("bleu", "rouge"))
    assert found == EvalConfig(EvalOptions(("runs/x*",)), settings, GateOptions(), Delivery())
    assert found.options.data == DEFAULT_DATA


def test_files_without_a_say(project: Path) -> None:
    assert not any(read(project).values())
    (project / "pyproject.toml").write_text("[tool.other]\nx = 1\n[tool]\ncompresskit = 3")
    (project / "compresskit.yaml").write_text("")
    assert not any(read(project).values())
    with pytest.raises(UsageError, match=r"\[tool.compresskit.eval\]"):
        configured({}, project)


def test_two_files_that_both_have_a_say(project: Path) -> None:
    for name, text in FILES.items():
        (project / name).write_text(text)
    with pytest.raises(UsageError, match=r"pyproject.toml and compresskit.yaml"):
        read(project)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("checkpoint", ["a"], ("'checkpoint'", "checkpoints?")),
        ("gate_cl", True, ("'gate_cl'", "gate_ci?")),
        ("zzz", 1, ("'zzz'", "checkpoints")),
        ("checkpoints", "runs/*", ("checkpoints 'runs/*' is not ",)),
        ("gates", ["em>=1", 3], ("gates ['em>=1', 3] is not ",)),
        ("data", 3, ("data 3 is not ",)),
        ("data", ["a"], ("data ['a'] is not ",)),
        ("html", 3, ("html 3 is not ",)),
        ("batch-size", "8", ("batch-size '8' is not ",)),
        ("batch_size", True, ("batch_size True is not ",)),
        ("limit", 1.5, ("limit 1.5 is not ",)),
        ("cache", 0, ("cache 0 is not ",)),
        ("null_threshold", "best", ("null_threshold 'best' is not ",)),
        ("null_threshold", True, ("null_threshold True is not ",)),
        ("checkpoints", ["nowhere/*"], ("'nowhere/*'",)),
    ],
)
@pytest.mark.parametrize("name", FILES)
def test_what_a_file_must_not_say(name: str, key: str, value: Any, named: tuple[str, ...], project: Path) -> None:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    text = f"[tool.compresskit.eval]\n{key} = {shown}" if name.endswith("toml") else f"eval:\n  {key}: {shown}"
    (project / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read(project)
    assert str(caught.value).startswith(name)
    assert all(part in str(caught.value) for part in named), caught.value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[tool.compresskit.eval\n"),
        ("pyproject.toml", "[tool.compresskit]\neval = 3"),
        ("compresskit.yaml", "eval: [a"),
        ("compresskit.yaml", "- a\n- b"),
        ("compresskit.yaml", "eval: a"),
    ],
)
def test_a_broken_file(name: str, text: str, project: Path) -> None:
    (project / name).write_text(text)
    with pytest.raises(InputError) as caught:
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
    key, value = line.split(": ")
    with pytest.raises(UsageError, match=f"compresskit.yaml: {key} '?{value.lstrip('.')}'? is not "):
        configured({}, project)


def test_answers_go_to_a_folder(project: Path) -> None:
    with pytest.raises(UsageError, match="--predictions"):
        configured({"checkpoints": ("a",), "predictions": project / "preds" / "a.json"}, project)
