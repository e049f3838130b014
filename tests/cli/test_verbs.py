"""The verbs from end to end: train, prune, eval, predict, inspect, merge on the built-in model."""

import json
import os
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering

from compresskit.checkpoint.mask import load_masks
from compresskit.cli.app import main
from compresskit.models.registry import load
from tests.cli.conftest import METHODS, SPARSITY, Done, Trained, tree, words_of

Run = Callable[..., Done]


# Keys of a pruning step's configuration, which --resume compares with those of a run from before.
PRUNING = "method sparsity score_lr penalty warmup cooldown block embeddings distill teacher"


def manifest(folder: Path) -> Any:
    return json.loads((folder / "compresskit.json").read_text())


def effective(folder: Path) -> dict[str, torch.Tensor]:
    return load(str(folder), device="cpu").model.state_dict()


def test_train_leaves_a_checkpoint_that_transformers_opens(trained: Trained) -> None:
    opened = AutoModelForQuestionAnswering.from_pretrained(trained.dense).state_dict()
    before = load("demo/bert", device="cpu").model.state_dict()
    assert opened.keys() == before.keys()
    moved = {name for name, value in opened.items() if not torch.equal(value, before[name])}
    assert {name for name in opened if "layer" in name or "qa_outputs" in name} <= moved
    said = manifest(trained.dense)
    assert (said["schema"], said["family"], said["kind"]) == ("compresskit.checkpoint/1", "encoder", "full")
    assert (said["base"]["ref"], said["base"]["revision"]) == ("demo/bert", None)
    (step,) = said["steps"]
    assert (step["method"], step["seed"], step["data"]["questions"]) == ("train", 42, 64)
    assert step["metrics"]["steps"] == 6
    assert step["metrics"]["params_trainable"] == sum(value.numel() for value in opened.values())
    assert {"torch", "transformers", "compresskit"} <= step["versions"].keys()


def test_nothing_but_results_is_left_behind(trained: Trained) -> None:
    names = {path.name for path in trained.root.iterdir()}
    assert names == {"demo-train.json", "demo-eval.json", "dense", *METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_prune_reaches_its_sparsity_in_what_is_saved(method: str, trained: Trained) -> None:
    masks = load_masks(trained.pruned(method))
    kept = sum(int(mask.expand().sum()) for mask in masks.values())
    weights = sum(mask.expand().size for mask in masks.values())
    tensors = load_file(trained.dense / "model.safetensors")
    matrices = {name for name in tensors if ".layer." in name and tensors[name].ndim == 2}
    assert (set(masks), weights) == (matrices, sum(tensors[name].numel() for name in matrices))
    assert 1 - kept / weights == pytest.approx(SPARSITY, abs=1e-3)
    said = manifest(trained.pruned(method))
    assert (said["kind"], said["base"]["ref"]) == ("mask", "../dense")
    assert [step["method"] for step in said["steps"]] == ["train", f"prune/{method}"]
    assert said["steps"][1]["metrics"]["sparsity"] == pytest.approx(100 * (1 - kept / weights))
    config = said["steps"][1]["config"]
    assert config["sparsity"] == SPARSITY
    assert config.keys() >= set(PRUNING.split())
    assert "mask_embeddings" not in config, "its key is embeddings"
    zeros = sum(int((effective(trained.pruned(method))[name] == 0).sum()) for name in masks)
    assert zeros == weights - kept


def test_smp_changes_no_weight(trained: Trained) -> None:
    """What the overlay keeps is bit for bit the base's; all else is the base's too."""
    dense, pruned = load_file(trained.dense / "model.safetensors"), effective(trained.pruned("smp"))
    masks = load_masks(trained.pruned("smp"))
    for name, value in dense.items():
        kept = torch.from_numpy(masks[name].expand()) if name in masks else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(pruned[name][kept], value[kept])
    assert set(load_file(trained.pruned("smp") / "weights.safetensors")) == {"qa_outputs.weight", "qa_outputs.bias"}


@pytest.mark.parametrize("method", ["movement", "magnitude"])
def test_the_other_methods_learn_weights(method: str, trained: Trained) -> None:
    dense, pruned = load_file(trained.dense / "model.safetensors"), effective(trained.pruned(method))
    masks = load_masks(trained.pruned(method))
    for name, mask in masks.items():
        kept = torch.from_numpy(mask.expand())
        if kept.any():
            assert not torch.equal(pruned[name][kept], dense[name][kept])
    assert torch.equal(
        pruned["bert.embeddings.word_embeddings.weight"], dense["bert.embeddings.word_embeddings.weight"]
    )


def test_blocks_go_or_stay_whole(trained: Trained) -> None:
    for name, mask in load_masks(trained.pruned("magnitude")).items():
        blocks = torch.from_numpy(mask.expand()).unfold(0, 32, 32).unfold(1, 32, 32).flatten(2).float().mean(dim=2)
        assert mask.block == (32, 32)
        assert set(blocks.unique().tolist()) <= {0.0, 1.0}, name


def test_distillation_from_a_teacher(trained: Trained, tmp_path: Path, run: Run) -> None:
    before = tree(trained.root)
    words = ["prune", trained.dense, "--distill", "--teacher", trained.dense, "-o", tmp_path / "student"]
    assert run(*words, "--temperature", "3", "--distill-weight", "0.25", *trained.short).code == 0
    step = manifest(tmp_path / "student")["steps"][-1]
    assert step["metrics"]["head"] == "teacher"
    assert step["config"]["distill"] == {"temperature": 3.0, "weight": 0.25}
    assert tree(trained.root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_a_teacher_is_trained_first_where_none_is_given(trained: Trained, tmp_path: Path, run: Run) -> None:
    done = run("prune", "demo/bert", "--distill", "-o", tmp_path / "student", *trained.short)
    assert done.code == 0
    assert f"demo/bert first, to {tmp_path / 'student-teacher'}" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student", "student-teacher"]
    said = manifest(tmp_path / "student")
    assert said["base"]["ref"] == "../student-teacher", "random weights are nothing to prune: the teacher is the base"
    assert said["steps"][-1]["metrics"]["head"] == "teacher"


def test_the_tokenizer_is_that_of_the_base(trained: Trained, tmp_path: Path, run: Run) -> None:
    """Cutting windows leaves a state in it that nobody who opens the file asked for."""
    assert run("train", trained.dense, "-o", tmp_path / "out", *trained.short).code == 0
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text())["truncation"] is None


def test_lines_of_questions_may_hold_unicode_line_separators(trained: Trained, tmp_path: Path, run: Run) -> None:
    questions = tmp_path / "questions.jsonl"
    text = '\ufeff{"question": "Who\\udc00?", "context": "Ada\u2028did it."}\n'  # a byte-order mark, half a character
    questions.write_text(text, encoding="utf-8")
    done = run("predict", trained.dense, "--input", questions)
    assert (done.code, len(done.out.split("\n"))) == (0, 2), done.err


def test_offsets_are_mended_and_counted(trained: Trained, tmp_path: Path, run: Run) -> None:
    data, path = json.loads(trained.eval_data.read_text()), tmp_path / "data.json"
    asked = [
        each for article in data["data"] for one in article["paragraphs"] for each in one["qas"] if each["answers"]
    ]
    for question in asked[:3]:
        question["answers"][0]["answer_start"] += 4
    asked[3]["answers"][0]["text"] = "nowhere"
    path.write_text(json.dumps(data))
    words = ["train", trained.dense, *trained.short, "--train-data", path, "--max-steps", "1"]
    done = run(*words, "-o", tmp_path / "out", "--max-train-samples", "9")
    assert done.code == 0
    assert done.err.count("answers elsewhere than their offset says (taken: the nearest occurrence): 3") == 1
    step = json.loads((tmp_path / "out" / "compresskit.json").read_text())["steps"][-1]
    assert step["data"]["counts"] == {"nearest": 3, "nowhere": 1, "skipped": 1}
    assert step["config"]["bad_data"] == "mend"
    assert run(*words, "-o", tmp_path / "other", "--bad-data", "stop").code == 3


def test_resume_of_a_finished_run_does_nothing(trained: Trained, run: Run) -> None:
    before = tree(trained.root)
    done = run("train", "demo/bert", "-o", trained.dense, "--lr", "1e-3", *trained.short, "--resume")
    assert done.code == 0
    assert done.err.startswith(f"{trained.dense} is complete")
    assert tree(trained.root) == before


@pytest.mark.parametrize(
    ("words", "runs", "shown"),
    [
        ("train demo/bert", 1, "parameters   {all:,}, of which {all:,} learn"),
        ("prune DENSE --sparsity 0.9", 1, "of which {masked:,} learn"),
        ("prune DENSE --sparsity 0.9", 1, "masks over {masked:,} weights, of which {tenth:,} remain"),
        ("prune demo/bert --distill", 2, "run 2 of 2"),
    ],
)
def test_a_plan_writes_nothing(words, runs, shown, trained: Trained, tmp_path, monkeypatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(trained.root, tmp_path)
    typed = [str(trained.dense) if word == "DENSE" else word for word in words.split()]
    done = run(*typed, "--plan", *trained.short)
    assert (done.code, done.err) == (0, "")
    tensors = load_file(trained.dense / "model.safetensors")
    masked = sum(tensors[name].numel() for name in load_masks(trained.pruned("smp")))
    figures = {"all": sum(map(torch.numel, tensors.values())), "masked": masked, "tenth": round(masked / 10)}
    assert shown.format(**figures) in done.out
    assert len(re.findall(r"^steps +6$", done.out, re.MULTILINE)) == runs
    assert len(re.findall(r"^data +64 questions", done.out, re.MULTILINE)) == runs
    assert tree(trained.root, tmp_path) == before


# eval

ROW = """
    name path family method baseline em f1 has_ans_em has_ans_f1 no_ans_em best_em delta_em delta_em_ci95 p_value
    params_total params_nonzero params_trainable disk_bytes deploy_bytes peak_memory_bytes peak_memory_kind
    latency_ms_p50 latency_ms_p95 questions_per_s
"""


def squad_em(data: Path, predictions: Path) -> float:
    """Exact match in per cent, as the official script has it."""

    def plain(text: str) -> list[str]:
        kept = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    found = json.loads(predictions.read_text())
    hits = []
    for article in json.loads(data.read_text())["data"]:
        for question in (question for paragraph in article["paragraphs"] for question in paragraph["qas"]):
            golds = [answer["text"] for answer in question["answers"]] or [""]
            hits.append(any(plain(found[question["id"]]) == plain(gold) for gold in golds))
    return 100 * sum(hits) / len(hits)


@pytest.mark.usefixtures("measured_here")
def test_eval_writes_the_schema_of_the_design(trained: Trained, tmp_path: Path, run: Run) -> None:
    words = ["eval", trained.pruned("smp"), "--baseline", trained.dense, "--data", trained.eval_data, "--device", "cpu"]
    more = ["--format", "json", "-o", tmp_path / "eval.json", "--predictions", tmp_path / "answers"]
    done = run(*words, *more)
    assert done.code == 0
    report = json.loads(done.out)
    assert json.loads((tmp_path / "eval.json").read_text()) == report
    assert list(report) == ["schema", "created", "versions", "device", "dataset", "rows", "gates", "passed"]
    assert (report["schema"], report["gates"], report["passed"]) == ("compresskit.eval/1", [], True)
    assert list(report["dataset"]) == ["path", "sha256", "questions", "unanswerable", "nothing"]
    assert (report["dataset"]["questions"], report["dataset"]["unanswerable"]) == (30, 10)
    dense, smp = report["rows"]
    for row in (dense, smp):
        assert [key for key in row if key in ROW.split()] == ROW.split()
        assert not {"error", "error_code"} & set(row)
    assert [dense["baseline"], smp["baseline"]] == [True, False]
    assert [dense["method"], smp["method"]] == ["train", "prune/smp"]
    assert smp["delta_em"] == pytest.approx(smp["em"] - dense["em"])
    for row, folder in ((dense, trained.dense), (smp, trained.pruned("smp"))):
        assert row["em"] == pytest.approx(squad_em(trained.eval_data, tmp_path / "answers" / f"{folder.name}.json"))
        state = effective(folder)
        assert row["params_total"] == sum(value.numel() for value in state.values())
        assert row["params_nonzero"] == sum(int(torch.count_nonzero(value)) for value in state.values())
        assert row["disk_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
        assert row["peak_memory_bytes"] > 0
        assert (row["peak_memory_kind"], row["family"]) == ("rss", "encoder")
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]
    assert dense["deploy_bytes"] < smp["deploy_bytes"] <= dense["disk_bytes"] + smp["disk_bytes"]


# predict


def test_predict_answers_one_question(trained: Trained, run: Run) -> None:
    paragraph = json.loads(trained.eval_data.read_text())["data"][0]["paragraphs"][0]
    question, context = paragraph["qas"][0]["question"], paragraph["context"]
    done = run("predict", trained.pruned("smp"), "-q", question, "-c", context, "--null-threshold", "1e9")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert list(found)[:3] == ["text", "score", "null_score"]
    assert found["text"]
    assert found["text"] in context
    never = json.loads(run("predict", trained.dense, "-q", "Who?", "-c", context, "--null-threshold", "-1e9").out)
    assert never["text"] == ""
    assert never["score"] < never["null_score"] + 1e9


def test_predict_answers_the_lines_of_a_file(trained: Trained, tmp_path: Path, run: Run) -> None:
    lines: list[dict[str, Any]] = [
        {"id": "first", "question": "Where does Anna live?", "context": "Anna lives in Rome. She is a baker."},
        {"question": "Who?", "context": "Où est l'Élysée? 日本 " * 90},
        {"id": 7, "question": "What is she?", "context": "Anna lives in Rome. She is a baker."},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", encoding="utf-8")
    words = ["predict", trained.dense, "--input", path, "--n-best", "3", "--null-threshold", "1e9", "--device", "cpu"]
    done = run(*words)
    assert (done.code, done.err) == (0, "")
    found = [json.loads(line) for line in done.out.splitlines()]
    first, made, last = (one["id"] for one in found)
    assert (first, last) == ("first", "7")
    assert run(*words).out == done.out  # an id that is made is always the same
    assert made not in ("", first, last)
    for one, line in zip(found, lines, strict=True):
        assert one["text"] == one["n_best"][0]["text"] != ""
        assert all(candidate["text"] in line["context"] for candidate in one["n_best"])
        assert len(one["n_best"]) == 3


# inspect and merge


def test_inspect_shows_lineage_and_what_remains(trained: Trained, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("matplotlib")
    done = run("inspect", trained.pruned("magnitude"), "--plot", tmp_path / "map.png")
    assert done.code == 0
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    for text in (
        "kind        mask",
        "base        ../dense",
        "step 1      train on",
        "prune/magnitude",
        "mask.safetensors",
    ):
        assert text in done.out, done.out
    masks = load_masks(trained.pruned("magnitude"))
    shown = [float(number) for number in re.findall(r"\d+\.\d(?= )", done.out.split("remaining weights")[1])]
    per_matrix = [100 * mask.expand().mean() for mask in masks.values()]
    layers = len(masks) // 6
    assert len(shown) == (layers + 1) * 7, "every layer and the total, six matrices and the total"
    for layer in range(layers):
        assert shown[7 * layer : 7 * layer + 6] == pytest.approx(per_matrix[6 * layer : 6 * layer + 6], abs=0.051)
    assert shown[-1] == pytest.approx(100 * (1 - SPARSITY), abs=0.151)


def test_inspect_of_plain_checkpoints(trained: Trained, run: Run) -> None:
    assert "kind        full" in run("inspect", trained.dense).out
    assert "no compresskit.json" in run("inspect", "demo/bert").out


def test_inspect_lists_the_files_with_their_bytes(trained: Trained, run: Run) -> None:
    (line,) = [line for line in run("inspect", trained.pruned("smp")).out.splitlines() if line.startswith("bytes ")]
    sizes = {path.name: len(path.read_bytes()) for path in trained.pruned("smp").iterdir() if path.is_file()}
    listed = {name: int(size.replace(",", "")) for name, size in re.findall(r"([\w.]+) ([\d,]*\d)(?=, |$)", line)}
    assert {name: size for name, size in listed.items() if name in sizes} == sizes
    assert f"{sum(sizes.values()):,} in all" in line


def test_merge_gives_a_plain_checkpoint_with_the_same_logits(trained: Trained, tmp_path: Path, run: Run) -> None:
    assert run("merge", trained.pruned("movement"), "-o", tmp_path / "plain").code == 0
    opened = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "plain").eval()
    ours = load(str(trained.pruned("movement")), device="cpu").model
    ids = torch.randint(5, 200, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(opened(ids).start_logits, ours(ids).start_logits)
        assert torch.equal(opened(ids).end_logits, ours(ids).end_logits)
    question = ["-q", "Who?", "-c", "Anna lives in Rome."]
    answer = run("predict", tmp_path / "plain", *question).out
    assert answer == run("predict", trained.pruned("movement"), *question).out != ""
    said = manifest(tmp_path / "plain")
    assert [step["method"] for step in said["steps"]] == ["train", "prune/movement", "merge"]
    assert said["kind"] == "full"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_merge_that_cannot_print_is_whole(trained: Trained, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full_out, open("/dev/full", "w", buffering=1) as full_err:
        monkeypatch.setattr("sys.stdout", full_out)
        monkeypatch.setattr("sys.stderr", full_err)
        code = main(words_of("merge", trained.pruned("smp"), trained))
    assert code == 0
    assert [path.name for path in place.iterdir()] == ["out"]
    assert manifest(place / "out")["kind"] == "full"
