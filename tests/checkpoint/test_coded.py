import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save_file
from scipy.stats import entropy
from torch import Tensor

from compresskit.checkpoint.coded import (
    FILE,
    LARGEST,
    SCHEMA,
    SYMBOLS,
    Codes,
    count,
    decode,
    encode,
    is_coded,
    load_coded,
    read_coded,
    save_coded,
    shannon_bits,
)
from compresskit.errors import InputError

SHAPE = (60, 60)


def random_codes(shape: tuple[int, ...], kept: float, seed: int = 1) -> Codes:
    """Codes of normal weights, of which all but the largest are pruned."""
    weights = np.random.default_rng(seed).normal(size=shape)
    weights[np.abs(weights) < np.quantile(np.abs(weights), 1 - kept)] = 0
    codes: Codes = np.rint(weights * LARGEST / np.abs(weights).max()).astype(np.int8)
    return codes


def entropy_of(symbols: np.ndarray) -> float:
    """Bits that each of some symbols costs at least, by how often they occur."""
    return float(entropy(np.unique(symbols, return_counts=True)[1], base=2))


def assert_comes_back(codes: Codes) -> None:
    found = decode(encode(codes), codes.shape, count(codes))
    np.testing.assert_array_equal(found, codes)
    assert found.dtype == np.int8


@given(codes=hnp.arrays(np.int8, hnp.array_shapes(max_side=40), elements=st.integers(-LARGEST, LARGEST)))
def test_any_codes_come_back(codes: Codes) -> None:
    assert_comes_back(codes)


@given(side=st.integers(1, 80), kept=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_any_density_comes_back(side: int, kept: float, seed: int) -> None:
    assert_comes_back(random_codes((side, 7), kept, seed))


@pytest.mark.parametrize("code", [-LARGEST, 0, LARGEST])
def test_one_code_alone_costs_nothing(code: int) -> None:
    codes = np.full((300, 300), code, np.int8)
    assert_comes_back(codes)
    assert len(encode(codes)) <= 2


def test_counts_are_of_each_code() -> None:
    counts = count(np.array([[-127, 0, 0], [127, 1, 0]], np.int8))
    assert {int(i) - LARGEST: int(counts[i]) for i in counts.nonzero()[0]} == {-127: 1, 0: 3, 1: 1, 127: 1}


def test_words_are_those_of_every_version() -> None:
    """Folders that are out there depend on it."""
    codes = np.arange(-127, 128, dtype=np.int8).repeat(np.arange(255) % 7)
    words = encode(codes)
    assert (len(words), words[:3].tolist()) == (181, [3976087449, 4177222329, 368712385])


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.1, 0.03])
def test_large_weights_cost_at_most_two_percent_above_the_entropy(tmp_path: Path, kept: float) -> None:
    """Of the codes, and as much as a mask and the codes that it keeps would cost by themselves (the chain rule)."""
    codes = {f"layer.{i}": random_codes((768, 768), kept, i) for i in range(2)}
    save_coded(tmp_path, {name: torch.from_numpy(each) for name, each in codes.items()})
    joint = apart = 0.0
    for each in codes.values():
        remaining = each[each != 0]
        joint += each.size * entropy_of(each) / 8
        apart += (each.size * entropy_of(each != 0) + remaining.size * entropy_of(remaining)) / 8
    assert apart == pytest.approx(joint)
    assert joint < (tmp_path / FILE).stat().st_size < joint * 1.02 + 2000


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=SYMBOLS))
def test_shannon_bits(counts: list[int]) -> None:
    expected = sum(counts) * float(entropy(counts, base=2)) if sum(counts) else 0.0
    assert shannon_bits(counts) == pytest.approx(expected)


def test_a_file_gives_all_tensors_back(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.from_numpy(random_codes((7, 13), 0.3)),
        "b.weight": torch.from_numpy(random_codes((40, 16), 1.0)),
        "a.weight_scale": torch.rand(7, 1),
        "half": torch.rand(5).to(torch.bfloat16),
        "ids": torch.arange(4),
    }
    assert not is_coded(tmp_path)
    save_coded(tmp_path, tensors)
    assert is_coded(tmp_path)
    found = load_coded(tmp_path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_a_file_tells_what_is_in_it(tmp_path: Path) -> None:
    codes = random_codes((64, 48), 0.25)
    save_coded(tmp_path, {"a.weight": torch.from_numpy(codes), "bias": torch.rand(64)})
    (weight,) = read_coded(tmp_path).values()
    assert (weight.shape, weight.size, weight.remaining) == ((64, 48), 3072, int((codes != 0).sum()))
    assert shannon_bits(weight.counts.tolist()) / 8 < weight.stored < (tmp_path / FILE).stat().st_size - 4 * 64


# What does not open.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_coded(tmp_path, {"a.weight": torch.from_numpy(random_codes(SHAPE, 0.2))})
    return tmp_path


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_coded(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(folder: Path, share: float) -> None:
    path = folder / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"coded\.safetensors"):
        load_coded(folder)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_the_code(folder: Path, seed: int) -> None:
    """It changes every code decoded after it, hence almost surely their counts or what is left at the end."""
    path = folder / FILE
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    generator = np.random.default_rng(seed)
    raw[generator.integers(begin, len(raw))] ^= 1 << int(generator.integers(8))
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"codes of a\.weight"):
        load_coded(folder)


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_header_never_ends_in_another_exception(folder: Path, seed: int) -> None:
    path = folder / FILE
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    generator = np.random.default_rng(seed)
    raw[8 + generator.integers(length)] = int(generator.integers(32, 127))
    path.write_bytes(raw)
    try:
        (tensor,) = load_coded(folder).values()
    except InputError:
        return
    np.testing.assert_array_equal(tensor.numpy(), random_codes(SHAPE, 0.2))


def rewrite(folder: Path, words: Tensor | None = None, **metadata: str) -> None:
    codes = random_codes(SHAPE, 0.2)
    entry = {"shape": list(SHAPE), "counts": count(codes).tolist()}
    plain = {"schema": SCHEMA, "weights": json.dumps({"a.weight": entry})}
    known = load_file(folder / FILE)["a.weight"] if words is None else words
    save_file({"a.weight": known}, folder / FILE, {**plain, **metadata})


COUNTS = count(random_codes(SHAPE, 0.2)).tolist()
SWAPPED = [*COUNTS[:1], COUNTS[LARGEST], *COUNTS[2:LARGEST], COUNTS[1], *COUNTS[LARGEST + 1 :]]


@pytest.mark.parametrize(
    "weights",
    [
        {"b.weight": {"shape": SHAPE, "counts": COUNTS}},
        {"a.weight": {"shape": SHAPE, "counts": SWAPPED}},
        {"a.weight": {"shape": SHAPE, "counts": [3600, *[0] * 254]}},
        {"a.weight": {"shape": SHAPE, "counts": [-1, *COUNTS[1:126], COUNTS[126] + 1, *COUNTS[127:]]}},
        {"a.weight": {"shape": SHAPE, "counts": COUNTS[:-1]}},
        {"a.weight": {"shape": SHAPE, "counts": [10**30, *COUNTS[1:]]}},
        {"a.weight": {"shape": (60, 61), "counts": COUNTS}},
        {"a.weight": {"shape": (0, 60), "counts": [0] * 255}},
        {"a.weight": {"shape": "60", "counts": COUNTS}},
        {"a.weight": {"shape": SHAPE, "counts": "many"}},
        {"a.weight": {"shape": SHAPE}},
        {"a.weight": {"counts": COUNTS}},
        {"a.weight": None},
        [],
    ],
)
def test_metadata_that_do_not_fit(folder: Path, weights: Any) -> None:
    rewrite(folder)
    assert load_coded(folder)["a.weight"].shape == SHAPE  # the same file with the right metadata
    rewrite(folder, weights=json.dumps(weights))
    with pytest.raises(InputError, match=r"coded\.safetensors"):
        load_coded(folder)


@pytest.mark.parametrize(
    "words", [torch.rand(60), torch.rand(60).to(torch.bfloat16), torch.zeros(60, dtype=torch.uint32)]
)
def test_what_is_no_code(folder: Path, words: Tensor) -> None:
    rewrite(folder, words)
    with pytest.raises(InputError, match=r"codes of a\.weight: .*it is damaged"):
        load_coded(folder)


def test_a_foreign_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / FILE)
    with pytest.raises(InputError, match="holds no coded weights"):
        load_coded(tmp_path)
