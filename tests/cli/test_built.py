"""The verbs on a model that is built from its training data: flags, training, masks, teachers of other tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from compresskit.checkpoint.manifest import read_manifest
from compresskit.checkpoint.mask import load_masks
from compresskit.cli.app import main
from compresskit.data.load import load as load_data
from compresskit.models.answering import AnswerOptions
from compresskit.models.kinds import kind_of
from compresskit.models.registry import load
from compresskit.models.source import resolve
from tests.cli.conftest import Run, Trained
from tests.here import measuring_here

SMALL = ("--hidden-size", "8", "--embedding-dim", "6", "--min-count", "1", "--buckets", "4")


@pytest.fixture(scope="module")
def reader(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BiLSTM reader after a few steps."""
    folder = tmp_path_factory.mktemp("built") / "reader"
    words = ["-q", "train", "lstm", "--variant", "bidaf", *SMALL, "-o", str(folder), *trained.short]
    with measuring_here():
        assert main([*words, "--eval-data", str(trained.eval_data)]) == 0
    return folder


def test_training_leaves_a_scored_checkpoint(reader: Path) -> None:
    manifest = read_manifest(reader)
    assert manifest is not None
    assert (manifest.family, manifest.kind) == ("lstm", "full")
    (step,) = manifest.steps
    assert step.config["architecture"]["attention"] == "flow"
    assert step.config["architecture"]["hidden_size"] == 8
    assert (step.config["lr"], step.config["epochs"]) == (2e-3, 8.0)
    assert 0 <= step.metrics["em"] <= step.metrics["f1"] <= 100


def test_it_is_asked_and_looked_into(reader: Path, run: Run) -> None:
    done = run("predict", reader, "-q", "Who lives in Rome?", "-c", "Zorro lives in Rome.")
    assert done.code == 0, done.err
    assert run("inspect", reader).code == 0
    source = resolve(str(reader))
    matrices = kind_of(source).contents(source).matrices
    assert {m.role for m in matrices if m.name.startswith("encoder.0.")} == {
        f"weight_{kind}_l0{way}" for kind in ("ih", "hh") for way in ("", "_reverse")
    }
    assert {m.layer for m in matrices if m.name.startswith("modelling.")} == {0, 1, 2}


def test_the_plan_counts_what_learns(trained: Trained, place: Path, run: Run) -> None:
    done = run("train", "lstm", *SMALL, "--plan", "-o", "out", *trained.short)
    assert done.code == 0, done.err
    assert not list(place.iterdir())
    assert "writes out" in done.out
    assert run("train", "lstm", *SMALL, "-o", "made", *trained.short).code == 0
    numbers = [tensor.numel() for tensor in load_file(place / "made" / "model.safetensors").values()]
    assert f"parameters   {sum(numbers):,}, of which {sum(numbers):,} learn" in done.out


def test_building_is_part_of_what_a_run_is(trained: Trained, reader: Path, run: Run) -> None:
    words = ["train", "lstm", "--variant", "bidaf", *SMALL, "-o", reader, *trained.short, "--resume"]
    assert run(*words).err.startswith(f"{reader} is complete")
    done = run(*words, "--dropout", "0.5")
    assert done.code == 2
    assert "architecture.dropout was 0.2 and is 0.5" in done.err


@pytest.mark.parametrize("flags", [[], ["--mask-embeddings"], ["--method", "movement", "--mask-embeddings"]])
def test_masks_hold_exactly_what_they_should(
    trained: Trained, reader: Path, tmp_path: Path, run: Run, flags: list[str]
) -> None:
    out, plain = tmp_path / "mask", tmp_path / "plain"
    done = run("prune", reader, "--sparsity", "0.75", *flags, "-o", out, *trained.short)
    assert done.code == 0, done.err
    masks = load_masks(out)
    recurrent = {name for name in masks if ".weight_hh_l0" in name}
    # One encoder layer, two modelling layers and the one for the end, two directions each, input and recurrent.
    assert (len(recurrent), len(masks)) == (8, 16 + ("--mask-embeddings" in flags))
    kept, size = (sum(getattr(mask, what) for mask in masks.values()) for what in ("ones", "size"))
    assert kept == round(0.25 * size)
    assert run("merge", out, "-o", plain).code == 0
    tensors = load_file(plain / "model.safetensors")
    for name, mask in masks.items():
        assert not tensors[name].numpy()[~mask.expand()].any()
    first, second = (load(str(folder), device="cpu") for folder in (out, plain))
    encoded = first.tokenizer("Who lives in Rome?", "Zorro lives in Rome.", return_tensors="pt")
    with torch.inference_mode():
        ours, theirs = (loaded.model(**encoded) for loaded in (first, second))
    assert torch.equal(ours.start_logits, theirs.start_logits)


def test_a_teacher_of_another_family_and_other_tokens(trained: Trained, reader: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "taught"
    done = run("prune", reader, "--distill", "--teacher", trained.dense, "-o", out, *trained.short)
    assert done.code == 0, done.err
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest.steps[-1].metrics["head"] == "base"
    other = run("prune", trained.dense, "--distill", "--teacher", reader, "-o", tmp_path / "back", *trained.short)
    assert other.code == 0, other.err


def test_distilling_from_scratch_trains_the_teacher_first(trained: Trained, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "half"
    done = run("prune", "lstm", *SMALL, "--distill", "-o", out, *trained.short)
    assert done.code == 0, done.err
    base = read_manifest(out)
    assert base is not None
    assert base.base is not None
    assert base.base.ref == "../half-teacher"


def test_answers_do_not_depend_on_the_batch(trained: Trained, reader: Path) -> None:
    examples = list(load_data(str(trained.eval_data), "eval"))
    loaded = load(str(reader), device="cpu")
    together, alone = (
        list(loaded.family.task.answer(loaded, examples, AnswerOptions(64, 16, batch_size=size))) for size in (16, 1)
    )
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.span_text == theirs.span_text
        np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


# What is refused.


@pytest.mark.parametrize("verb", ["predict -q a -c b", "inspect", "merge"])
def test_the_name_alone_is_no_checkpoint(verb: str, refused) -> None:
    first, *rest = verb.split()
    assert "`compresskit train lstm`" in refused(2, first, "lstm", *rest)


def test_flags_of_a_model_that_is_not_built(trained: Trained, refused) -> None:
    line = refused(2, "train", trained.dense, "--variant", "4", "-o", "out", *trained.short)
    assert line.startswith(f"--variant has no effect with {trained.dense}")


def test_variants_and_files(trained: Trained, place: Path, refused) -> None:
    words = ["train", "lstm", "-o", "out", *trained.short]
    line = refused(2, *words, "--variant", "3")
    assert "--variant 3" in line
    assert "--embeddings" in line
    assert "v.vec" in refused(3, *words, "--variant", "4", "--embeddings", "v.vec")
    (place / "v.vec").write_text("no vectors here\n")
    assert "v.vec" in refused(3, *words, "--embeddings", "v.vec")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--dropout 1", "--dropout 1 is not "),
        ("--l2 -1", "--l2 -1 is not "),
        ("--layers x", "--layers x is not "),
        ("--attention deep", "--attention deep is not "),
        ("--attention multi-head --hidden-size 7", "--hidden-size 7 is not "),
        ("--freeze-embeddings", "--freeze-embeddings "),
    ],
)
def test_settings_that_cannot_be(flags: str, named: str, trained: Trained, refused) -> None:
    assert refused(2, "train", "lstm", "-o", "out", *trained.short, *flags.split()).startswith(named)


def test_blocks_that_do_not_divide(trained: Trained, reader: Path, refused) -> None:
    words = ["prune", reader, "--block", "5x5", "-o", "out", *trained.short]
    assert "blocks of 5x5" in refused(2, *words)


def test_the_teacher_is_not_asked_for_a_block_that_does_not_divide(trained: Trained, reader: Path, run: Run) -> None:
    done = run("prune", reader, "--block", "5x5", "--distill", "--teacher", trained.dense, "-o", "out", *trained.short)
    assert done.code == 2
    assert "asking the teacher" not in done.err


def test_untrained_weights(trained: Trained, refused) -> None:
    line = refused(2, "prune", "demo/lstm", "-o", "out", *trained.short)
    assert line.startswith("demo/lstm has random weights")
