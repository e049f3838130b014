from pathlib import Path

import numpy as np
import pytest
import torch

from compresskit.data import demo
from compresskit.data.examples import ExampleSet
from compresskit.data.load import load
from compresskit.errors import InputError
from compresskit.models.family import Regularized
from compresskit.models.lstm.variants import LstmOptions
from compresskit.models.lstm.vector_file import read_vectors
from compresskit.models.registry import load_trainable
from compresskit.models.source import Source
from tests.models.lstm import small

WORDS = ("was", "in", "the", "of", "a", "born", "zebra")
SIZES = {"hidden_size": 4, "buckets": 3}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    path, _ = demo.write(tmp_path_factory.mktemp("data"), demo.DemoConfig(train_questions=60, eval_questions=6))
    return load(str(path), "train")


@pytest.fixture
def vectors(tmp_path: Path, examples: ExampleSet) -> Path:
    """Vectors of six words that the data has and of one that it does not have."""
    path, generator = tmp_path / "v.txt", np.random.default_rng(0)
    path.write_text("".join(f"{w} {' '.join(map(str, generator.normal(0, 2, 5).round(3)))}\n" for w in WORDS))
    return path


def build(examples: ExampleSet, folder: Path, seed: int = 1, **given: object) -> Path:
    LstmOptions.choose(**{**SIZES, **given}).build(examples, seed, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_bytes_for_the_same_seed(examples: ExampleSet, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, second, other = (contents(build(examples, tmp_path / n, s)) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert first == second
    assert first["model.safetensors"] != other["model.safetensors"]
    assert first["tokenizer.json"] == other["tokenizer.json"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_vectors_stand_in_their_words_rows(
    examples: ExampleSet, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_trainable(Source("x", build(examples, tmp_path / "a", embeddings=str(vectors), characters=True)))
    assert " words of the training data have a vector of 5 numbers" in capsys.readouterr().err
    file = read_vectors(vectors, ["the", "zebra"], lowercase=True)
    weight = loaded.model.get_input_embeddings().get_parameter("weight")
    vocabulary = loaded.tokenizer.get_vocab()
    for word in ("the", "zebra"):
        np.testing.assert_array_equal(weight[vocabulary[word]].detach().numpy(), file.matrix[file.rows[word]])
    others = [
        row
        for word, row in vocabulary.items()
        if word not in {"[PAD]", *["was", "in", "the", "of", "a", "born", "zebra"]}
    ]
    assert weight[others].std().item() == pytest.approx(2, rel=0.4)  # random ones have the scale of the file's
    letters = loaded.model.get_buffer("embeddings.characters.table")
    assert bytes(letters[vocabulary["zebra"]].tolist()).rstrip(b"\0") == b"zebra"
    assert not letters[vocabulary["[CLS]"]].any()


def test_the_bound_of_the_vocabulary(examples: ExampleSet, vectors: Path, tmp_path: Path) -> None:
    small_one = load_trainable(Source("x", build(examples, tmp_path / "a", embeddings=str(vectors), vocabulary=10)))
    assert len(small_one.tokenizer) == 4 + 3 + 10
    all_of_it = load_trainable(Source("x", build(examples, tmp_path / "b", min_count=1)))
    fewer = load_trainable(Source("x", build(examples, tmp_path / "c", min_count=5)))
    assert len(all_of_it.tokenizer) > len(fewer.tokenizer)


def test_a_file_without_any_word_of_the_data(examples: ExampleSet, tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("qqq 1 2 3\n")
    made = load_trainable(Source("x", build(examples, tmp_path / "a", embeddings=str(path), vocabulary=5)))
    assert made.model.get_input_embeddings().get_parameter("weight").isfinite().all()


def test_data_without_words(examples: ExampleSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no word 1000000 times; lower --min-count"):
        build(examples, tmp_path / "a", min_count=1_000_000)


def test_the_l2_penalty_is_that_of_the_matrices(tmp_path: Path) -> None:
    loaded = small.loaded(tmp_path, l2=0.5)
    assert isinstance(loaded.family, Regularized)
    penalty = loaded.family.penalty(loaded.model.config, list(loaded.model.named_parameters()))
    assert penalty is not None
    expected = 0.0
    for name, parameter in loaded.model.named_parameters():
        if parameter.ndim > 1 and name != "embeddings.words.weight":
            expected += 0.5 * float(sum(x * x for x in parameter.detach().double().flatten().tolist()))
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    weight = loaded.model.get_parameter("encoder.0.weight_hh_l0")
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, weight.detach())
    without = small.loaded(tmp_path / "other")
    assert isinstance(without.family, Regularized)
    assert without.family.penalty(without.model.config, list(without.model.named_parameters())) is None
