"""Answering on a GPU: graphs, pinned copies and chunks asked ahead, against plain passes and against the CPU."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from compresskit.cli.app import main
from compresskit.data.load import load as load_data
from compresskit.methods.prune.config import PruneConfig
from compresskit.methods.prune.masker import Masker
from compresskit.models.answering import AnswerOptions, Prediction
from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load
from compresskit.models.tasks import span_answers, span_passes
from compresskit.models.tasks.readings import read_windows
from compresskit.models.tasks.span_passes import Passes, passes_of
from compresskit.models.tasks.steps import no_waiting
from tests.models import tiny
from tests.models.tasks.test_span_answers import OPTIONS, answers, asked, by_loop
from tests.models.tiny import KINDS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(request.param, tmp_path_factory.mktemp("answering") / request.param)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A way to answer without graphs, one batch after the other."""

    def answered(loaded: LoadedModel, *more: Any, **changes: Any) -> Any:
        with monkeypatch.context() as patch:
            passes = Passes(loaded.model, graphs=False)
            passes.ahead = 0
            patch.setattr(span_answers, "passes_of", lambda model, graphs: passes)
            return answers(loaded, *more, **changes)

    return answered


def same(found: list[Prediction], expected: list[Prediction], within: float) -> None:
    assert [(p.id, p.text, p.span_text) for p in found] == [(p.id, p.text, p.span_text) for p in expected]
    assert [p.score for p in found] == pytest.approx([p.score for p in expected], abs=within)
    assert [p.null_score for p in found] == pytest.approx([p.null_score for p in expected], abs=within)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_best", [1, 5])
def test_graphs_give_the_answers_of_plain_passes(folder: Path, dtype: str, n_best: int, plain: Any) -> None:
    """All chunks of growing size, windows of all lengths, at the first run and when every shape is a graph."""
    loaded = load(str(folder), device="cuda", dtype=dtype)
    questions = asked(700)
    expected = plain(loaded, questions, n_best=n_best)
    found = [answers(loaded, questions, n_best=n_best) for _ in range(3)]
    assert len(passes_of(loaded.model, graphs=True)._graphs) > 3
    for each in found:
        same(each, expected, 1e-4)
        assert [len(p.n_best) for p in each] == [len(p.n_best) for p in expected]
    same(found[2], found[1], 0.0)


def test_answers_are_those_of_the_loop(folder: Path) -> None:
    on_gpu, on_cpu = (load(str(folder), device=device) for device in ("cuda", "cpu"))
    questions = asked(40)
    for _ in range(3):
        for one, prediction in zip(questions, answers(on_gpu, questions, null_threshold=1e9), strict=True):
            texts, nulls = by_loop(on_cpu, one, OPTIONS)
            assert prediction.score == pytest.approx(max(texts.values()), abs=1e-3)
            assert texts[prediction.text] == pytest.approx(prediction.score, abs=1e-3)
            assert prediction.null_score == pytest.approx(min(nulls), abs=1e-3)


@pytest.mark.parametrize("name", ["demo/bert", "demo/lstm"])
def test_the_demo_models_answer_as_on_a_cpu(name: str) -> None:
    """An LSTM waits for the GPU, and so has no graphs."""
    questions = list(load_data("demo", "eval"))[:400]
    options = AnswerOptions()
    on_gpu, on_cpu = (load(name, device=device) for device in ("cuda", "cpu"))
    expected = answers(on_cpu, questions, options)
    for _ in range(3):
        found = answers(on_gpu, questions, options)
        agree = sum(a.span_text == b.span_text for a, b in zip(found, expected, strict=True))
        assert agree >= 398  # two spans may be as good to the last digits
        assert [p.score for p in found] == pytest.approx([p.score for p in expected], abs=0.02)


def test_changed_weights_are_seen(folder: Path, plain: Any) -> None:
    """In place by the same graph; where they lie elsewhere, by others."""
    loaded = load(str(folder), device="cuda")
    questions = asked(200)
    before = [answers(loaded, questions) for _ in range(3)][-1]
    known = passes_of(loaded.model, graphs=True)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.mul_(1.1)
    same(answers(loaded, questions), plain(loaded, questions), 1e-4)
    assert answers(loaded, questions) != before
    assert passes_of(loaded.model, graphs=True) is known
    module: torch.nn.Module = loaded.model
    module.to(torch.bfloat16)
    assert passes_of(loaded.model, graphs=True) is not known
    same(answers(loaded, questions), plain(loaded, questions), 1e-4)


def test_a_model_that_learns_in_bf16_is_asked_with_its_newest_weights(folder: Path, plain: Any) -> None:
    """As between the steps of a training, which computes in bf16 and learns in fp32."""
    loaded = load(str(folder), device="cuda")
    module: torch.nn.Module = loaded.model
    module.requires_grad_(True)  # of which autocast keeps its casts
    questions = asked(200)
    found = []
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            found.append([answers(loaded, questions) for _ in range(3)][-1])
            same(found[-1], plain(loaded, questions), 1e-3)
        with torch.no_grad():
            for parameter in loaded.model.parameters():
                parameter.mul_(1.1)
    assert found[0] != found[1]


def test_each_evaluation_asks_under_its_own_masks(tmp_path: Path, plain: Any) -> None:
    loaded = load(str(tiny.save("bert", tmp_path / "bert")), device="cuda")
    model: Any = loaded.model
    masker = Masker(EncoderFamily().weights(model), PruneConfig(sparsity=0.5))
    questions = asked(200)
    found = []
    for _ in range(3):
        with masker.at_target():
            found.append([answers(loaded, questions) for _ in range(3)][-1])
            same(found[-1], plain(loaded, questions), 1e-4)
        with torch.no_grad():
            for score in masker.scores():
                score.copy_(torch.randn_like(score))
    assert found[0] != found[1] != found[2]


def test_two_threads_may_ask_one_model(folder: Path) -> None:
    loaded = load(str(folder), device="cuda")
    questions = asked(300)
    expected = [answers(loaded, questions) for _ in range(3)][-1]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: answers(loaded, questions), range(8)):
            same(found, expected, 1e-4)


@pytest.mark.parametrize("graphs", [True, False])
def test_nobody_waits_between_batches(folder: Path, graphs: bool) -> None:
    loaded = load(str(folder), device="cuda")
    reading = read_windows(loaded.tokenizer, asked(300), OPTIONS.windows)
    passes = passes_of(loaded.model, graphs=graphs)
    for _ in range(3):
        span_answers._ask(loaded, passes, asked(300), reading, OPTIONS).wait()
    assert bool(passes._graphs) is graphs
    with no_waiting():
        found = span_answers._ask(loaded, passes, asked(300), reading, OPTIONS)
    assert len(list(span_answers._predictions(loaded, found, OPTIONS, OPTIONS.n_best))) == 300


def test_graphs_need_little_memory(tmp_path: Path, plain: Any) -> None:
    """The peak of what is allocated is that of weights and one pass, with graphs and without."""
    config = BertConfig(vocab_size=36, hidden_size=256, num_hidden_layers=4, num_attention_heads=8)
    BertForQuestionAnswering(config).save_pretrained(tmp_path)
    tiny.wordpiece().save_pretrained(tmp_path)
    loaded = load(str(tmp_path), device="cuda")
    questions, options = asked(600), replace(OPTIONS, batch_size=64)
    peaks = []
    for way in (plain, answers):
        way(loaded, questions, options)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            way(loaded, questions, options)
        peaks.append(torch.cuda.max_memory_allocated())
    assert len(passes_of(loaded.model, graphs=True)._graphs) > 3
    assert peaks[1] < 1.1 * peaks[0]


def test_the_most_graphs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_passes, "MOST_GRAPHS", 1)
    loaded = load(str(folder), device="cuda")
    runs = [answers(loaded, asked(300)) for _ in range(3)]
    assert len(passes_of(loaded.model, graphs=True)._graphs) == 1
    same(runs[2], runs[0], 1e-4)


def test_a_training_step_waits_for_nothing(tmp_path: Path) -> None:
    """The lines of the log, one in ten steps, wait for their figures; nothing else does."""

    def waited(steps: int) -> int:
        options = ["--max-steps", str(steps), "--max-train-samples", "64", "--batch-size", "4", "--device", "cuda"]
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                assert main(["train", "demo/bert", "-o", str(tmp_path / str(steps)), *options]) == 0
            finally:
                torch.cuda.set_sync_debug_mode(before)
        return sum("synchronizing" in str(each.message) for each in told)

    assert waited(60) - waited(20) < 20  # of 40 steps more
