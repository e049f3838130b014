"""A verb that needs a package that is not installed says so in one line, before it computes or writes anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Trained

SP = "sentencepiece"
# What is missing, the words, and how the line begins; CKPT is a plain checkpoint, PACKED, GRAPH and SPIECE are folders
# that only a package opens.
CASES: dict[str, tuple[str, str, str]] = {
    "pack": ("bitsandbytes", "quantize CKPT --backend bitsandbytes -o out", "--backend bitsandbytes needs"),
    "qlora": ("bitsandbytes", "qlora CKPT --train-data demo -o out", "qlora needs"),
    "qlora's plan": ("bitsandbytes", "qlora CKPT --train-data demo -o out --plan", "qlora needs"),
    "optimizer": (
        "bitsandbytes",
        "train CKPT --train-data demo --optimizer paged-adamw-8bit -o out",
        "--optimizer paged-adamw-8bit needs",
    ),
    "eval of packed weights": ("bitsandbytes", "eval CKPT PACKED --data demo", "the checkpoint PACKED needs"),
    "predict with packed weights": ("bitsandbytes", "predict PACKED -q Who? -c Rome.", "the checkpoint PACKED needs"),
    "lora on packed weights": (
        "bitsandbytes",
        "lora PACKED --train-data demo --epochs 1 -o out",
        "the checkpoint PACKED needs",
    ),
    "a packed teacher": (
        "bitsandbytes",
        "prune CKPT --distill --teacher PACKED --train-data gone.json -o out",
        "the checkpoint PACKED needs",
    ),
    "demo": ("bitsandbytes", "demo -o out", "step bert-qlora: qlora needs"),
    "training data": ("datasets", "train CKPT -o out", "the data set rajpurkar/squad_v2 needs"),
    "its plan": ("datasets", "train CKPT -o out --plan", "the data set rajpurkar/squad_v2 needs"),
    "data to evaluate": ("datasets", "eval CKPT --data owner/data", "the data set owner/data needs"),
    "data to check": ("datasets", "data check owner/data", "the data set owner/data needs"),
    "negatives": ("bm25s", "train CKPT --train-data demo --negatives 0.5 -o out", "--negatives needs"),
    "plot": ("matplotlib", "eval CKPT --data demo --plot out.png", "--plot needs"),
    "heat map": ("matplotlib", "inspect CKPT --plot out.png", "--plot needs"),
    "export": ("onnxscript", "export CKPT --onnx -o out", "--onnx needs"),
    "pack a graph": ("onnxruntime", "quantize CKPT --backend onnxruntime -o out", "--backend onnxruntime needs"),
    "eval of a graph": ("onnxruntime", "eval CKPT GRAPH --data demo", "the checkpoint GRAPH needs"),
    "bleu": ("sacrebleu", "eval CKPT --data demo --metrics bleu", "--metrics bleu needs"),
    "rouge": ("rouge_score", "eval CKPT --data demo --metrics rouge", "--metrics rouge needs"),
    "tokenizer": (SP, "train SPIECE --train-data demo --epochs 1 -o out", "SPIECE has no tokenizer.json, and its"),
    "recipe": ("bitsandbytes", "run recipe.yaml -o out", "step small: qlora needs"),
    "a recipe's plot": ("matplotlib", "run plot.yaml -o out", "plot.yaml:7: --plot needs"),
    "a recipe's metrics": ("sacrebleu", "run bleu.yaml -o out", "bleu.yaml:7: --metrics bleu needs"),
}
EXTRA = {"bm25s": "negatives", "matplotlib": "plot", "onnxscript": "onnx", "onnxruntime": "onnx"}
EXTRA |= {"sacrebleu": "metrics", "rouge_score": "metrics"}
RECIPE = """
options: {train-data: demo, max-steps: 1}
steps:
  - {name: dense, base: demo/bert, method: train}
  - {name: small, base: dense, method: qlora}
"""

MEASURED = """
options: {{train-data: demo, max-steps: 1}}
steps:
  - {{name: dense, base: demo/bert, method: train}}
eval:
  data: demo
  {key}: {value}
"""


@pytest.fixture
def folders(trained: Trained, place: Path) -> dict[str, Path]:
    """Folders by the words that stand for them; what is in the last three no test opens."""
    config = json.loads((trained.dense / "config.json").read_text())
    found = {"CKPT": trained.dense, **{name: place.parent / name.lower() for name in ("PACKED", "GRAPH", "SPIECE")}}
    for folder in list(found.values())[1:]:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes((trained.dense / "model.safetensors").read_bytes())
    packed = config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (found["PACKED"] / "config.json").write_text(json.dumps(packed))
    (found["GRAPH"] / "model.safetensors").rename(found["GRAPH"] / "model.onnx")
    (found["SPIECE"] / "spiece.model").write_bytes(b"")
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "plot.yaml").write_text(MEASURED.format(key="plot", value="out.png"))
    (place / "bleu.yaml").write_text(MEASURED.format(key="metrics", value="[bleu]"))
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_missing_package_is_told_first(
    case: str, folders: dict[str, Path], refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, words, begins = CASES[case]
    monkeypatch.setitem(sys.modules, module, None)
    line = refused(4, *(folders.get(word, word) for word in words.split()))
    for name, folder in folders.items():
        begins = begins.replace(name, str(folder))
    assert line.startswith(begins)
    package = {"rouge_score": "rouge-score"}.get(module, module)
    assert f" needs {package}, which is not installed; " in line
    assert line.endswith(f"pip install 'compresskit[{EXTRA.get(module, module)}]'")
