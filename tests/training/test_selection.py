"""The state that is kept: the best one, whichever it is, also where the run was interrupted or ended early."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import Step, read_manifest
from compresskit.data.held_out import hold_out
from compresskit.data.load import load as load_data
from compresskit.errors import InputError, UsageError
from compresskit.evaluate.evaluator import EvaluatorOptions
from compresskit.evaluate.score import score
from compresskit.methods import run as module
from compresskit.methods.job import Job, TrainConfig
from compresskit.methods.lora.config import LoraConfig
from compresskit.methods.prune.config import PruneConfig
from compresskit.models.registry import load
from compresskit.training import selection, state
from compresskit.training.arguments import TrainingOptions
from compresskit.training.selection import Selection, check_selection
from tests.contract import makers

CONFIGS: Mapping[str, Any] = {"train": TrainConfig(), "prune": PruneConfig(), "lora": LoraConfig(rank=2)}
LAST = 9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selection")
    for family in ("encoder", "causal"):
        makers.made(family, folder / family)
    makers.data(folder / "data.json")
    return folder


def job(root: Path, output: Path, method: str = "train", model: str = "encoder", **changes: Any) -> Job:
    known: dict[str, Any] = {"batch_size": 4, "device": "cpu", "max_length": 48, "stride": 8, "max_steps": LAST}
    known |= {"save_steps": 4, "train_data": str(root / "data.json"), "eval_steps": 2, "held_out": 0.3}
    known |= {"lr": None if method == "prune" else 1e-2}
    return Job(method, TrainingOptions(str(root / model), output, **(known | changes)), CONFIGS[method])


def last_step(folder: Path) -> Step:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest.steps[-1]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return bool(one) and one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


Script = Callable[[Sequence[float]], list[int]]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The EM of each evaluation as a test has it; the list gets the steps."""

    def script(figures: Sequence[float]) -> list[int]:
        left, steps, evaluate = iter(figures), [], Selection.evaluate

        def noted(self: Selection, step: int, main: bool) -> dict[str, float]:
            steps.append(step)
            return evaluate(self, step, main)

        monkeypatch.setattr(Selection, "_asked", lambda self: (next(left), 50.0))
        monkeypatch.setattr(Selection, "evaluate", noted)
        return steps

    return script


@pytest.mark.parametrize("method", [pytest.param("train", marks=pytest.mark.slow), "lora"])
def test_the_checkpoint_is_that_of_the_best_evaluation(
    method: str, root: Path, scripted: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of steps 2, 4, 6, 8 and 9: its weights are those after 6 steps, and the earlier of equal ones is kept."""
    steps = scripted([10, 20, 30, 30, 25])
    seen: dict[str, torch.Tensor] = {}
    save = state.save_parameters

    def noted(folder: Path, named: Any) -> None:
        tensors = dict(named)
        if folder.name.startswith("best-00000006"):
            seen.update({name: tensor.detach().clone() for name, tensor in tensors.items()})
        save(folder, tensors.items())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "save_parameters", noted)
        module.run(job(root, tmp_path / "out", method))
    assert steps == [2, 4, 6, 8, LAST]
    kept = {name.replace(".default", ""): tensor for name, tensor in seen.items()}
    learned = {name.removeprefix("base_model.model."): t for name, t in weights(tmp_path / "out").items()}
    assert len(common := learned.keys() & kept.keys()) > 5
    assert all(learned[name].equal(kept[name]) for name in common)
    told = last_step(tmp_path / "out").metrics["selection"]
    figures = {name: told[name] for name in ("on", "step", "em", "f1", "evaluations", "stopped_early")}
    assert figures == {"on": "train", "step": 6, "em": 30, "f1": 50, "evaluations": 5, "stopped_early": False}
    assert f"the state of step 6 of {LAST} is kept: EM 30.00, best of 5\n" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["eval_em"]) for line in lines if "eval_em" in line] == [
        (2, 10), (4, 20), (6, 30), (8, 30), (LAST, 25)
    ]  # fmt: skip
    assert lines[-1]["loss"] > 0


def test_a_patience_of_one_is_told_as_one(
    root: Path, scripted: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted([20, 15, 90])
    module.run(job(root, tmp_path / "out", patience=1))
    told = capsys.readouterr().err
    assert "ends after 1 without a better one" in told
    assert "best of 2, after 1 evaluation without a better EM" in told


def test_patience_ends_the_run(
    root: Path, scripted: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = scripted([10, 20, 15, 20, 90])
    module.run(job(root, tmp_path / "out", patience=2))
    assert steps == [2, 4, 6, 8]
    metrics = last_step(tmp_path / "out").metrics
    assert metrics["steps"] == 8
    assert (metrics["selection"]["step"], metrics["selection"]["stopped_early"]) == (4, True)
    assert "best of 4, after 2 evaluations without a better EM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "dies_after", "asked"),
    [
        # The best one is kept over states, and a better one that came after the last state is forgotten and made again.
        ([50, 20, 60], 3, [60, 10, 10]),
        pytest.param([50, 20, 30, 20], 4, [15], marks=pytest.mark.slow),
        pytest.param([10], 1, [10, 40, 30, 20, 10], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_keeps_the_same_state(
    figures: list[float], dies_after: int, asked: list[float], root: Path, scripted: Script, tmp_path: Path
) -> None:
    """States are saved after 4 and 8 steps; evaluations come after 2, 4, 6, 8 and 9."""
    kept = {3: 2, 4: 4, 1: 0}[dies_after]  # evaluations that the last state before knows
    scripted([*figures[:kept], *asked])
    module.run(job(root, tmp_path / "whole", patience=4))

    def die() -> Iterator[float]:
        yield from figures
        raise KeyboardInterrupt

    left = die()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Selection, "_asked", lambda self: (next(left), 50.0))
        with pytest.raises(KeyboardInterrupt):
            module.run(job(root, tmp_path / "parts", patience=4))
    scripted(asked)
    module.run(job(root, tmp_path / "parts", patience=4, resume=True))
    assert same(tmp_path / "whole", tmp_path / "parts")
    tells = [last_step(tmp_path / name).metrics["selection"] for name in ("whole", "parts")]
    assert tells[0] == tells[1]
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_a_run_that_was_over_stays_over(root: Path, scripted: Script, tmp_path: Path) -> None:
    """Interrupted in scoring, after the state of the step at which it stopped."""

    def killed(folder: Path) -> Mapping[str, float]:
        raise KeyboardInterrupt

    early = job(root, tmp_path / "out", patience=2, save_steps=2)
    scripted([30, 20, 10])
    with pytest.raises(KeyboardInterrupt):
        module.run(early, killed)
    scripted([])
    module.run(replace(early, options=replace(early.training, resume=True)))
    assert last_step(tmp_path / "out").metrics["steps"] == 6
    assert last_step(tmp_path / "out").metrics["selection"]["step"] == 2


def test_a_best_state_that_was_damaged(root: Path, scripted: Script, tmp_path: Path) -> None:
    whole = job(root, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Selection, "saved", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            module.run(whole)
    (best,) = (tmp_path / "out.partial").glob("best-*/parameters.safetensors")
    best.write_bytes(best.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"best-\d+/parameters.safetensors is not as the run wrote it"):
        module.run(replace(whole, options=replace(whole.training, resume=True)))


@pytest.mark.parametrize(
    ("method", "model"), [pytest.param("train", "causal", marks=pytest.mark.slow), ("prune", "encoder")]
)
def test_its_em_is_that_of_the_finished_checkpoint(method: str, model: str, root: Path, tmp_path: Path) -> None:
    """On the questions that were held out, as `eval` scores them; nothing of them was learned from."""
    out, seed = tmp_path / "out", 42
    module.run(job(root, out, method, model))
    learned, held = hold_out(load_data(str(root / "data.json"), "train"), 0.3, seed)
    step = last_step(out)
    assert step.data is not None
    assert step.data.questions == len(learned)
    loaded, options = load(str(out)), job(root, out, method, model).training
    answers = {answer.id: answer for answer in loaded.task.answer(loaded, held, selection.answering(options))}
    found, told = score(held, answers), step.metrics["selection"]
    assert (told["em"], told["f1"]) == (pytest.approx(found.em), pytest.approx(found.f1))
    assert (told["questions"], told["unanswerable"]) == (found.questions, found.unanswerable)


@pytest.mark.slow
def test_evaluations_change_nothing_else(root: Path, tmp_path: Path) -> None:
    """Dropout's numbers are the same with and without: the last state is that of a run that asks at its end alone."""
    makers.lstm(tmp_path / "lstm")
    for name, every in (("often", 3), ("once", LAST)):
        often = job(root, tmp_path / name, model=str(tmp_path / "lstm"), eval_steps=every)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Selection, "restore", lambda self, steps: {})
            module.run(often)
    assert same(tmp_path / "often", tmp_path / "once")


def test_a_pruning_is_asked_where_its_sparsity_is_reached(
    root: Path, scripted: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = scripted([10.0] * 9)
    pruning = Job("prune", job(root, tmp_path / "out", "prune", eval_steps=1).training, PruneConfig(cooldown=0.5))
    late = "the state is chosen from step 5 on: earlier ones have not reached the sparsity, and do not compare"
    (plan,) = module.plan(pruning)
    assert plan.notes[-1] == late
    assert capsys.readouterr().err.count(late) == 0
    module.run(pruning)
    assert steps == [5, 6, 7, 8, 9]
    assert late in capsys.readouterr().err


def test_the_data_that_scores_may_choose(
    root: Path, scripted: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring = EvaluatorOptions(str(root / "data.json"))
    asked = job(root, tmp_path / "out", select_on="eval", held_out=None)
    asked = replace(asked, options=scoring.choosing(asked.training))
    scoring.evaluator(asked.training)
    assert "data.json chooses the state, so that a score on it is no longer clean" in capsys.readouterr().err
    (plan,) = module.plan(asked)
    assert plan.notes[-1] == (
        f"evaluates every 2 steps on 20 questions of {root}/data.json (4 unanswerable), and keeps the state of the best"
        " EM"
    )
    scripted([1, 2, 3, 4, 5])
    module.run(asked)
    step = last_step(tmp_path / "out")
    assert step.data is not None
    assert step.data.questions == step.metrics["selection"]["questions"] == 20
    assert (step.metrics["selection"]["on"], step.metrics["selection"]["data"]) == ("eval", f"{root}/data.json")
    assert (step.config["select_on"], step.config["select_data"]) == ("eval", f"{root}/data.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patience": 3}, "--patience 3 has no effect without --eval-steps"),
        ({"select_on": "train"}, "--select-on train has no effect without --eval-steps"),
        ({"held_out": 0.1}, r"--held-out 0\.1 has no effect without --eval-steps"),
        ({"eval_steps": 2, "select_on": "eval", "held_out": 0.1}, r"--held-out 0\.1 has no effect with --select-on"),
        ({"eval_steps": 2, "select_on": "eval"}, "--select-on eval needs questions .*; give --eval-data"),
    ],
)
def test_an_option_without_effect(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_selection(TrainingOptions("tiny", **changes))
