"""Every architecture with a span head that this transformers has: all verbs take it, or refuse it in one line.

Most of it is slow. A new version of transformers brings new ones: where one fails, `readers.OWN` says how it is built
small, `AFTER_PADDING` how its positions count, and `UNREADABLE` what is not taken.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering

from compresskit import console
from compresskit.cli.app import main
from compresskit.methods.export.graph import NO_GRAPH
from compresskit.methods.lora.method import PeftAdapters, WeightAdapters
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.probing import difference, logits
from compresskit.models.registry import load
from compresskit.models.tasks.readable import UNREADABLE
from compresskit.models.tasks.span_batches import padding_id, span_logits
from tests import tiny
from tests.contract import makers, readers

# Conv1D, no padding; a window of attention; an encoder-decoder; a head of beams elsewhere; integer layers; pictures.
FAST = ("gpt2", "mistral", "t5", "xlnet", "ibert", "lxmert")
# Masks would not reach most of their weights.
NOT_PRUNED = {
    **dict.fromkeys(("minimax", "mixtral", "qwen2_moe", "qwen3_moe"), "keeps its experts as stacks of matrices"),
    "squeezebert": "has no linear layers in its blocks",
}
# Those in which the padding of a batch has a part in the logits, whatever the mask: they mix or pool whole windows.
PADDING_COUNTS = ("canine", "convbert", "fnet", "funnel", "nystromformer", "yoso")
SHORT = "--max-steps 2 --batch-size 4 --max-length 48 --stride 8 --device cpu"
ANSWERS = AnswerOptions(48, 8, batch_size=2, null_threshold=1e9)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(console, "discard", lambda: None)  # it would close what pytest captures
    makers.data(tmp_path / "data.json")
    yield tmp_path
    console.configure()


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in readers.KINDS]
)
def test_every_verb_takes_it_or_says_why_not(kind: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, trained, pruned, merged = (root / name for name in ("base", "trained", "pruned", "merged"))
    readers.checkpoint(kind, base)
    short = [*SHORT.split(), "--train-data", str(root / "data.json")]
    train = ["train", str(base), "-o", str(trained), *short]
    prune = ["prune", str(trained), "-o", str(pruned), "--sparsity", "0.5", *short]
    if kind in UNREADABLE:
        for words in (train, [*train, "--plan"], ["prune", str(base), *prune[2:]], ["predict", str(base), *ASKED]):
            refused(words, UNREADABLE[kind], root, capsys)
        return
    for words in planned_and_run(kind, train):
        assert main(words) == 0, capsys.readouterr().err
    if kind in NOT_PRUNED:
        for words in (prune, [*prune, "--plan"]):
            refused(words, NOT_PRUNED[kind], root, capsys)
        check_logits(kind, answered(trained))
        return
    rest = (["merge", str(pruned), "-o", str(merged)], ["inspect", str(merged)], ["predict", str(merged), *ASKED])
    for words in (*planned_and_run(kind, prune), *rest):
        assert main(words) == 0, capsys.readouterr().err
    answered(trained)
    check_logits(kind, answered(pruned), answered(merged))
    theirs = AutoModelForQuestionAnswering.from_pretrained(merged).state_dict()
    zeros = [float((theirs[name] == 0).float().mean()) for name in masked(merged)]
    assert sum(zeros) / len(zeros) == pytest.approx(0.5, abs=0.1)


# Types whose blocks have layers of their own, which bitsandbytes does not pack, or which no backend does.
NOT_4_BITS = {**dict.fromkeys(("falcon", "ibert"), 2), "gpt2": 3}
NOT_8_BITS = {"gpt2": 3}
FEW_LINEAR = {kind: 3 for kind in NOT_PRUNED if kind != "squeezebert"}
READ = [kind for kind in readers.KINDS if kind not in UNREADABLE]


@pytest.mark.slow
@pytest.mark.parametrize("kind", READ)
def test_adapters_and_few_bits(
    kind: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter opens as it was trained, and can be merged; packed weights give answers, or are refused in a line."""
    base, adapter = readers.checkpoint(kind, root / "base"), root / "adapter"
    kept: list[Tensor] = []
    for sort in (PeftAdapters, WeightAdapters):
        monkeypatch.setattr(sort, "save", noting(sort.save, kept))
    short = [*SHORT.replace("steps 2", "steps 4").split(), "--train-data", str(root / "data.json")]
    lora, merge = ["lora", str(base), "-o", str(adapter), *short], ["merge", str(adapter), "-o", str(root / "merged")]
    if kind == "squeezebert":  # its layers are convolutions, and its pooler is not asked
        assert main(lora) == 2
    else:
        for words in (lora, merge):
            assert main(words) == 0, capsys.readouterr().err
        opened: Any = load(str(adapter), device="cpu")
        assert difference(logits(opened), kept[0]) < 1e-4
    for more, refusals in (([], NOT_8_BITS), (["--backend", "bitsandbytes", "--bits", "4"], NOT_4_BITS)):
        packed, code = root / f"packed{len(more)}", {**FEW_LINEAR, **refusals}.get(kind, 0)
        assert main(["quantize", str(base), "-o", str(packed), *more]) == code, capsys.readouterr().err
        if code:
            *_, last = capsys.readouterr().err.splitlines()
            assert last.startswith("error: ")
            assert not packed.exists()
        else:
            assert main(["predict", str(packed), *ASKED]) == 0, capsys.readouterr().err


def noting(save: Any, kept: list[Tensor]) -> Any:
    """A method of saving that first notes the logits of what it saves."""

    def both(self: Any, folder: Path) -> None:
        kept.append(logits(self.loaded))
        save(self, folder)

    return both


# Those of which the exporter is tried: half a minute each.
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["albert", "bigbird_pegasus", "bloom", "camembert"])
def test_a_graph(kind: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = readers.checkpoint(kind, root / "base")
    for words in (["export", str(base), "--onnx", "-o", str(root / "graph")], ["predict", str(root / "graph"), *ASKED]):
        assert main(words) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "kind", ["xlnet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("canine", "longformer"))]
)
def test_no_graph(kind: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = readers.checkpoint(kind, root / "base")
    refused(["export", str(base), "--onnx", "-o", str(root / "graph")], NO_GRAPH[kind], root, capsys)


ASKED = ["-q", "what is the capital of italy ?", "-c", "rome is the capital of italy .", "--device", "cpu"]


def planned_and_run(kind: str, words: list[str]) -> list[list[str]]:
    """A command, and where there is time its plan before."""
    return [words] if kind in FAST else [[*words, "--plan"], words]


def refused(words: list[str], why: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command that must leave everything as it is, and say why in one line, with code 3."""
    before = sorted(root.rglob("*"))
    capsys.readouterr()
    assert main(words) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert why in line
    assert sorted(root.rglob("*")) == before


def answered(folder: Path) -> LoadedModel:
    """A checkpoint that gives an answer and a null score to every question."""
    loaded = load(str(folder), device="cpu")
    assert (loaded.family.name, loaded.task.name) == ("encoder", "spans")
    found = list(loaded.task.answer(loaded, tiny.examples(5), ANSWERS))
    assert all(each.text.strip() == each.text for each in found)
    assert all(each.text and each.score is not None and math.isfinite(each.score) for each in found)
    assert all(each.null_score is not None and math.isfinite(each.null_score) for each in found)
    return loaded


@torch.no_grad()
def check_logits(kind: str, loaded: LoadedModel, same: LoadedModel | None = None) -> None:
    """Logits of a window alone, beside padding, and from another checkpoint; one as long as can be read gives some."""
    window = tokens(loaded, 17)
    alone = span_logits(loaded.model, inputs(window))
    if same is not None:
        torch.testing.assert_close(span_logits(same.model, inputs(window)), alone)
    padding = torch.full((1, 7), padding_id(loaded.tokenizer))
    mask = torch.cat((torch.ones_like(window), torch.zeros_like(padding)), dim=1)
    padded = {"input_ids": torch.cat((window, padding), dim=1), "attention_mask": mask}
    beside = span_logits(loaded.model, padded)[:, : window.shape[1]]
    assert torch.allclose(beside, alone, atol=1e-5) == (kind not in PADDING_COUNTS)
    longest = loaded.family.max_positions(loaded.model.config) or 200
    assert bool(span_logits(loaded.model, inputs(tokens(loaded, longest))).isfinite().all())


def tokens(loaded: LoadedModel, length: int) -> Tensor:
    """Random tokens (1, length) with the separators of a window, where the tokenizer has some."""
    ids = torch.randint(7, 40, (1, length), generator=torch.Generator().manual_seed(0))
    if loaded.tokenizer.sep_token_id is not None:
        ids[:, [5, 6, -1]] = loaded.tokenizer.sep_token_id
    return ids


def inputs(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def masked(folder: Path) -> list[str]:
    """The weights that masks were over."""
    loaded: Any = load(str(folder), device="cpu")
    assert json.loads((folder / "compresskit.json").read_text())["kind"] == "full"
    return list(loaded.family.weights(loaded.model))
