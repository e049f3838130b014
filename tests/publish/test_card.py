"""The model card: a head that the Hub's own code reads, true figures, the lines that open each kind."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from compresskit.checkpoint.manifest import Base, Data, KindName, Manifest, Step
from compresskit.errors import InputError
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.models.kinds import fingerprint
from compresskit.publish.options import PushOptions
from compresskit.publish.push import packed
from tests.publish.fake_hub import FakeHub, Repo, put_in_place

SQUAD = Data("rajpurkar/squad_v2", "1" * 64, 130_319, 43_498)
OWN = Data("/home/somebody/train.json", "0" * 64, 90, 30)
BERT = "google-bert/bert-base-uncased"


def checkpoint(
    folder: Path,
    kind: KindName,
    *methods: str,
    base: Base | None = None,
    data: Data = SQUAD,
    family: str = "encoder",
    config: Any = None,
    files: tuple[str, ...] = ("model.safetensors",),
    metrics: Any = None,
) -> Path:
    """A folder with a manifest; what its files hold nobody reads here."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **(config or {})}))
    for name in files:
        (folder / name).write_bytes(name.encode())
    steps = [
        Step(method, {"model": "bert", "teacher": "/home/somebody/teacher", "lr": 3e-5}, 42, data, 60.0, metrics or {})
        for method in methods
    ]
    Manifest(family, kind, base, steps).write(folder)
    return folder


def read(folder: Path, repo: str = "me/small", **options: Any) -> ModelCard:
    """The card as the Hub's own code reads it, which refuses a head that it does not know."""
    return ModelCard(packed(PushOptions(str(folder), repo, dry_run=True, **options)).card)


def results(card: ModelCard) -> list[Any]:
    """The figures of its head."""
    data: Any = card.data
    return list(data.eval_results or ())


def blocks(card: ModelCard) -> list[str]:
    return re.findall(r"^```(?:python|sh)\n(.*?)^```", card.text, re.MULTILINE | re.DOTALL)


def test_a_whole_model(tmp_path: Path) -> None:
    card = read(checkpoint(tmp_path / "dense", "full", "train"), license="Apache-2.0")
    head = card.data.to_dict()
    assert head == {
        "base_model": BERT,
        "base_model_relation": "finetune",
        "datasets": ["rajpurkar/squad_v2"],
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "question-answering",
        "tags": ["compresskit", "fine-tuning"],
    }
    python, shell = blocks(card)
    assert 'AutoModelForQuestionAnswering.from_pretrained("me/small")' in python
    assert "compresskit eval me/small --data" in shell
    assert "130,319 questions (43,498 unanswerable, sha256 `111111111111`), in 60 s" in card.text
    assert "No figures come with it" in card.text
    assert "/home/somebody" not in card.content
    for each in blocks(card)[:1]:
        compile(each, "card", "exec")


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "adapter": (
        {"kind": "adapter", "methods": ["train", "lora"], "metrics": {"adapter": "peft"}},
        {"library_name": "peft", "base_model_relation": "adapter", "base_model": "me/dense"},
        [
            'from_pretrained("me/dense", revision="v1")\nmodel = PeftModel.from_pretrained(base, "me/small")',
            "install compr",
        ],
    ),
    "adapter of our own": (
        {"kind": "adapter", "methods": ["train", "lora"], "metrics": {"adapter": "weights"}, "family": "causal"},
        {"library_name": "peft", "base_model_relation": "adapter", "base_model": "me/dense"},
        ["compresskit predict me/small"],
    ),
    "adapter on packed weights": (
        {"kind": "adapter", "methods": ["quantize/bnb-4bit", "lora"], "metrics": {"adapter": "peft"}},
        {"tags": ["compresskit", "quantization", "lora"]},
        ["PeftModel", "pip install 'compresskit[bitsandbytes]'"],
    ),
    "mask": (
        {"kind": "mask", "methods": ["prune/smp"], "files": ("mask.safetensors",)},
        {"library_name": "compresskit", "base_model_relation": "finetune", "tags": ["compresskit", "pruning"]},
        ["compresskit predict me/small"],
    ),
    "packed by bitsandbytes": (
        {
            "kind": "quantized",
            "methods": ["train", "quantize/bnb-4bit"],
            "config": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        },
        {"library_name": "transformers", "base_model_relation": "quantized"},
        ['from_pretrained("me/small")', "pip install 'compresskit[bitsandbytes]'"],
    ),
    "coded": (
        {"kind": "quantized", "methods": ["train", "quantize/int8"], "files": ("coded.safetensors",)},
        {"base_model_relation": "quantized"},
        ["compresskit predict me/small"],
    ),
    "graph": (
        {"kind": "onnx", "methods": ["train", "export/onnx"], "files": ("model.onnx",)},
        {"library_name": "onnx", "base_model_relation": "finetune"},
        ["onnxruntime.InferenceSession(", "pip install 'compresskit[onnx]'"],
    ),
    "graphs": (
        {"kind": "onnx", "methods": ["train", "export/onnx"], "files": ("encoder_model.onnx",), "family": "seq2seq"},
        {"library_name": "onnx"},
        ['ORTModelForSeq2SeqLM.from_pretrained("me/small")', "compresskit predict"],
    ),
    "lstm": (
        {"kind": "full", "methods": ["train"], "family": "lstm"},
        {"library_name": "compresskit"},
        ["compresskit.register()", "compresskit predict"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_is_opened_in_its_own_way(case: str, tmp_path: Path) -> None:
    made, head, told = CASES[case]
    stands = made["kind"] in ("adapter", "mask")
    base = Base("../dense", None, "0" * 64) if stands else None
    rest = {key: value for key, value in made.items() if key not in ("kind", "methods")}
    folder = checkpoint(tmp_path / "small", made["kind"], *made["methods"], base=base, **rest)
    card = read(folder, base_ref="me/dense@v1") if stands else read(folder)
    assert {key: card.data.get(key) for key in head} == head
    found = blocks(card)
    assert len(found) == len(told)
    for block, part in zip(found, told, strict=True):
        assert part in block
    for python in found[:-1]:
        compile(python, "card", "exec")


def test_what_opens_an_adapter_opens_its_packed_base_too(tmp_path: Path) -> None:
    for name, methods, needs in (("a", ("lora",), ""), ("b", ("quantize/bnb-4bit", "lora"), " bitsandbytes")):
        folder = checkpoint(tmp_path / name, "adapter", *methods, base=Base(BERT, None, "0" * 64))
        assert f"With `pip install peft transformers{needs}`:" in read(folder).text


def test_an_adapter_on_a_model_of_the_hub(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small", "adapter", "lora", base=Base(BERT, "abcd", "0" * 64), data=OWN)
    card = read(folder)
    assert card.data.get("base_model") == BERT
    assert card.data.get("datasets") is None, "a file is no data set of the Hub"
    assert f'from_pretrained("{BERT}", revision="abcd")' in blocks(card)[0]
    assert "on train.json, 90 questions" in card.text
    assert json.loads(Path(folder / "compresskit.json").read_text())["base"]["ref"] == BERT


def test_the_licence_is_that_of_what_it_stands_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = checkpoint(tmp_path / "dense", "full", "train")
    folder = checkpoint(tmp_path / "small", "mask", "prune/smp", base=Base("../dense", None, "0" * 64))
    card = read(folder, base_ref="me/dense")
    assert card.data.get("license") is None
    assert "Not known" in card.text
    put_in_place(monkeypatch, FakeHub({"me/dense": Repo(license="cc-by-4.0")}))
    assert read(folder, base_ref="me/dense").data.get("license") == "cc-by-4.0"
    for damaged in ("---\nlicense: [\n---\n", "no head", "---\nlicense: [a, b]\n---\n"):
        (dense / "README.md").write_text(damaged)
        assert read(folder, base_ref="me/dense").data.get("license") == "cc-by-4.0"
    (dense / "README.md").write_text("---\nlicense: mit\n---\n")
    assert read(folder, base_ref="me/dense").data.get("license") == "mit"
    assert read(folder, base_ref="me/dense", license="apache-2.0").data.get("license") == "apache-2.0"


def report(path: Path, *rows: Row, data: str = "rajpurkar/squad_v2") -> Path:
    made = Report("2026-01-01T00:00:00+00:00", {}, {}, Dataset(data, "0" * 64, 10, 5), rows)
    path.write_text(made.to_json())
    return path


def test_figures_come_from_a_row_of_these_very_files(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small", "full", "train")
    row = Row("small", str(folder), "encoder", "train", False, em=71.234, f1=75.0, sha256=fingerprint(str(folder)))
    dense = replace(row, name="dense", path="dense", baseline=True, em=80.0)
    other = replace(row, name="other", path="other", em=1.0)
    eval_json = report(tmp_path / "eval.json", dense, other, row)
    card = read(folder, report=eval_json)
    (result, second) = results(card)
    assert (result.dataset_type, result.metric_type, result.metric_value) == (
        "rajpurkar/squad_v2",
        "exact_match",
        71.23,
    )
    assert (second.metric_type, second.metric_value) == ("f1", 75.0)
    assert card.data.get("metrics") == ["exact_match", "f1"]
    lines = [line for line in card.text.splitlines() if line.startswith("| ")]
    assert [line.split(" |")[0] for line in lines[:4]] == ["| Name", "| ---", "| dense (baseline)", "| small"]
    assert "| other" not in card.text
    local = report(tmp_path / "local.json", row, data="/home/somebody/dev.json")
    card = read(folder, report=local)
    assert results(card)[0].dataset_name == "dev.json"
    assert results(card)[0].dataset_type == "custom"
    assert "/home/somebody" not in card.content


def test_of_several_runs_it_is_its_own(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small", "full", "train")
    run = Row("small", str(folder), "encoder", "train", False, em=71.0, sha256=fingerprint(str(folder)))
    mean = replace(
        run, name="mean", em=70.0, sha256=None, runs=(run, replace(run, name="other", path="other", em=69.0))
    )
    card = read(folder, report=report(tmp_path / "eval.json", mean))
    assert results(card)[0].metric_value == 71.0


def test_a_run_of_the_baseline_stands_alone(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small", "full", "train")
    run = Row("small", str(folder), "encoder", "train", True, em=71.0, sha256=fingerprint(str(folder)))
    mean = replace(
        run, name="mean", em=70.0, sha256=None, runs=(run, replace(run, name="other", path="other", em=69.0))
    )
    card = read(folder, report=report(tmp_path / "eval.json", mean, replace(run, name="x", path="x", baseline=False)))
    lines = [line for line in card.text.splitlines() if line.startswith("| ")]
    assert [line.split(" |")[0] for line in lines[2:]] == ["| small (baseline)"]


def test_a_row_that_is_not_its_own(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small", "full", "train")
    row = Row("moved", "elsewhere", "encoder", "train", False, em=71.2, sha256="0" * 64)
    lost = replace(row, name="lost", em=None, error="damaged", error_code=3)
    eval_json = report(tmp_path / "eval.json", row, lost)
    with pytest.raises(InputError, match=r"eval.json has no row of .*small; name one with --row \(moved, lost\)"):
        read(folder, report=eval_json)
    with pytest.raises(InputError, match=r"moved was measured on other files than .*small holds; measure it again"):
        read(folder, report=eval_json, row="moved")
    with pytest.raises(InputError, match=r"lost was not scored \(damaged\)"):
        read(folder, report=eval_json, row="lost")
    report(eval_json, replace(row, sha256=fingerprint(str(folder))))
    assert results(read(folder, report=eval_json, row="moved"))[0].metric_value == 71.2
