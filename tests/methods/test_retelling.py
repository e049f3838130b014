"""A T5 taught by a reader of spans: the reader's answers, as it gives them, are the targets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compresskit.checkpoint.manifest import read_manifest
from compresskit.data.examples import Answer, Example
from compresskit.data.load import load as load_data
from compresskit.errors import UsageError
from compresskit.methods import retelling
from compresskit.methods.distillation import Distillation
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.run import plan, run
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.registry import load
from compresskit.training.arguments import TrainingOptions
from tests import tiny
from tests.contract import makers

EXAMPLE = Example("a", "t", "what lies ?", "rome lies on the sea .", (Answer("sea", 17),), False, 0)


@pytest.mark.parametrize(
    ("text", "answers"),
    [("rome", (Answer("rome", 0),)), ("", ()), ("oslo", EXAMPLE.answers), ("the sea", (Answer("the sea", 13),))],
)
def test_an_answer_takes_the_place_of_the_label(text: str, answers: tuple[Answer, ...]) -> None:
    """Unless the context does not hold it."""
    told = retelling.retell(EXAMPLE, Prediction("a", text, 1.0, 0.0, text))
    assert told == replace(EXAMPLE, answers=answers, is_impossible=not answers)


def job(root: Path, distillation: Distillation, out: str = "out", **more: Any) -> Job:
    if not (root / "student").exists():
        makers.seq2seq(root / "student")
        tiny.checkpoint(root / "encoder")
        makers.lstm(root / "lstm")
        makers.data(root / "data.json")
    settings: dict[str, Any] = {"max_steps": 3, "batch_size": 4, "max_length": 48, "stride": 8, "seed": 1}
    settings |= {"device": "cpu", "train_data": str(root / "data.json"), "save_steps": 2} | more
    return Job("train", TrainingOptions(str(root / "student"), root / out, **settings), TrainConfig(), distillation)


def targets(monkeypatch: pytest.MonkeyPatch, asked: Job) -> list[tuple[str, tuple[Answer, ...]]]:
    """The questions whose features were written last, with the answers that they were written with."""
    from compresskit.models.tasks.generation import GenerationTask

    written: list[list[tuple[str, tuple[Answer, ...]]]] = []
    known = GenerationTask.write

    def write(self: Any, tokenizer: Any, examples: Any, *rest: Any) -> None:
        kept = list(examples)
        written.append([(example.id, example.answers) for example in kept])
        known(self, tokenizer, kept, *rest)

    monkeypatch.setattr(GenerationTask, "write", write)
    run(asked)
    assert len(written) == 2
    return written[1]


@pytest.mark.parametrize("teacher", ["encoder", "lstm"])
def test_the_targets_are_the_answers_of_the_teacher(
    teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `predict` would give them, question by question; all of them at a weight of 1."""
    distillation = Distillation(distill=True, teacher=str(tmp_path / teacher), distill_weight=1.0)
    found = targets(monkeypatch, job(tmp_path, distillation))
    loaded = load(str(tmp_path / teacher), device="cpu")
    longest = 64 if teacher == "encoder" else 512
    answers = []
    for example in load_data(str(tmp_path / "data.json"), "train"):
        (prediction,) = loaded.task.answer(loaded, [example], AnswerOptions(longest, longest // 4))
        answers.append((example.id, prediction.text))
    assert [(name, given[0].text if given else "") for name, given in found] == answers
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.steps[-1].metrics["distilled"] == "answers"
    assert not list(tmp_path.glob("*.partial"))


def test_the_weight_is_the_fraction_of_the_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distillation = Distillation(distill=True, teacher=str(tmp_path / "encoder"), distill_weight=0.5)
    asked = job(tmp_path, distillation)
    labels = [(each.id, each.answers) for each in load_data(str(tmp_path / "data.json"), "train")]
    found = targets(monkeypatch, asked)
    kept = sum(one == two for one, two in zip(found, labels, strict=True))
    assert 4 <= kept <= 16 < len(labels) == 20


def test_a_killed_run_does_not_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distillation = Distillation(distill=True, teacher=str(tmp_path / "encoder"))
    whole = run(job(tmp_path, distillation))
    from compresskit.training import state

    commit = state.commit_state

    def killed(*arguments: Any) -> None:
        commit(*arguments)
        raise KeyboardInterrupt

    again = job(tmp_path, distillation, "again")
    with monkeypatch.context() as patched:
        patched.setattr(state, "commit_state", killed)
        with pytest.raises(KeyboardInterrupt):
            run(again)
    monkeypatch.setattr(retelling, "_retold", lambda *_: pytest.fail("the teacher was asked again"))
    run(replace(again, options=replace(again.training, resume=True)))
    assert (whole / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()


def test_a_mask_is_taught_so_too(tmp_path: Path) -> None:
    asked = job(tmp_path, Distillation(distill=True, teacher=str(tmp_path / "encoder")))
    asked = replace(asked, method="prune", config=PruneConfig(sparsity=0.5))
    assert plan(asked)
    manifest = read_manifest(run(asked))
    assert manifest is not None
    assert manifest.steps[-1].metrics["distilled"] == "answers"


def test_a_temperature_has_no_effect(tmp_path: Path) -> None:
    asked = job(tmp_path, Distillation(distill=True, teacher=str(tmp_path / "encoder"), temperature=3.0))
    for act in (plan, run):
        with pytest.raises(UsageError, match="--temperature 3 has no effect with the teacher"):
            act(asked)
    assert not (tmp_path / "out").exists()
