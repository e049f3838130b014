import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file
from scipy.special import entr

from compresskit.checkpoint.mask import FILE, SCHEMA, Mask, decode, encode, load_masks, save_masks, shannon_bits
from compresskit.errors import InputError


def random_mask(shape: tuple[int, ...], kept: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < kept


@given(bits=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40)))
def test_any_mask_comes_back(bits: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(bits), bits.shape, int(bits.sum())), bits)


@given(
    rows=st.integers(1, 80), columns=st.integers(1, 80), kept=st.floats(0, 1, width=32), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=60)
def test_any_density_comes_back(rows: int, columns: int, kept: float, seed: int) -> None:
    bits = random_mask((rows, columns), kept, seed)
    np.testing.assert_array_equal(decode(encode(bits), bits.shape, int(bits.sum())), bits)


@pytest.mark.parametrize("kept", [0.5, 0.1, 0.03])
def test_large_masks_cost_at_most_two_percent_above_the_entropy(tmp_path: Path, kept: float) -> None:
    masks = {f"layer.{i}": Mask(random_mask((768, 768), kept, i)) for i in range(3)}
    save_masks(tmp_path, masks)
    bound = 0.0
    for mask in masks.values():
        p = mask.bits.mean()
        bound += mask.bits.size * float(entr(p) + entr(1 - p)) / np.log(2) / 8
    assert bound * 0.99 < (tmp_path / FILE).stat().st_size < bound * 1.02


@pytest.mark.parametrize(("ones", "size"), [(0, 10), (10, 10), (1, 10), (5, 10), (30, 1000)])
def test_shannon_bits(ones: int, size: int) -> None:
    p = ones / size
    assert shannon_bits(ones, size) == pytest.approx(size * float(entr(p) + entr(1 - p)) / np.log(2))


@given(
    grid=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    block=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_a_block_mask_covers_whole_blocks(grid: np.ndarray, block: tuple[int, int]) -> None:
    mask = Mask(grid, block)
    full = mask.expand()
    np.testing.assert_array_equal(full, np.kron(grid, np.ones(block, bool)))
    assert (mask.ones, mask.size) == (full.sum(), full.size)


def test_a_file_gives_names_shapes_blocks_and_bits_back(tmp_path: Path) -> None:
    masks = {
        "a.weight": Mask(random_mask((7, 13), 0.3)),
        "b.weight": Mask(random_mask((4, 6), 0.5), (32, 16)),
        "empty": Mask(np.zeros((3, 5), np.bool_)),
        "full": Mask(np.ones((3, 5), np.bool_)),
    }
    save_masks(tmp_path, masks)
    found = load_masks(tmp_path)
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name].bits, mask.bits)
        assert found[name].block == mask.block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_masks(tmp_path, {"a.weight": Mask(random_mask((60, 60), 0.2))})
    return tmp_path


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_masks(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(folder: Path, share: float) -> None:
    path = folder / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"mask\.safetensors"):
        load_masks(folder)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_the_code(folder: Path, seed: int) -> None:
    """It changes every symbol decoded after it, hence almost surely their count or what is left at the end."""
    path = folder / FILE
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    generator = np.random.default_rng(seed)
    raw[generator.integers(begin, len(raw))] ^= 1 << int(generator.integers(8))
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"mask of a\.weight"):
        load_masks(folder)


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_header_never_ends_in_another_exception(folder: Path, seed: int) -> None:
    path = folder / FILE
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    generator = np.random.default_rng(seed)
    raw[8 + generator.integers(length)] = int(generator.integers(32, 127))
    path.write_bytes(raw)
    try:
        masks = load_masks(folder)
    except InputError:
        return
    assert all(mask.bits.size == 3600 for mask in masks.values())  # a name or a block's shape may have changed


def rewrite(folder: Path, **metadata: str) -> None:
    words = load_file(folder / FILE)
    entry = {"shape": [60, 60], "block": [1, 1], "ones": int(random_mask((60, 60), 0.2).sum())}
    plain = {"schema": SCHEMA, "masks": json.dumps({"a.weight": entry})}
    save_file(words, folder / FILE, {**plain, **metadata})


@pytest.mark.parametrize(
    "masks",
    [
        '{"b.weight": {"shape": [60, 60], "block": [1, 1], "ones": 700}}',
        '{"a.weight": {"shape": [60, 60], "block": [1, 1], "ones": 5}}',
        '{"a.weight": {"shape": [60, 60], "block": [1, 1], "ones": 0}}',
        '{"a.weight": {"shape": [60, 60], "block": [1, 1], "ones": 700.0}}',
        '{"a.weight": {"shape": [3600], "block": [2, 1], "ones": 700}}',
        '{"a.weight": {"shape": [], "block": [1, 1], "ones": 1}}',
        "{}",
        '{"a.weight": {"shape": [60, 60], "block": [1, 1], "ones": 3601}}',
        '{"a.weight": {"shape": [60, 60], "block": [1, 1], "ones": -1}}',
        '{"a.weight": {"shape": [60, 61], "block": [1, 1], "ones": 700}}',
        '{"a.weight": {"shape": [30, 60], "block": [1, 1], "ones": 700}}',
        '{"a.weight": {"shape": "60", "block": [1, 1], "ones": 700}}',
        '{"a.weight": {"shape": [60, 60], "ones": 700}}',
        '{"a.weight": {"shape": [60, 60], "block": [1, 1]}}',
        '{"a.weight": null}',
        "[]",
        "{",
    ],
)
def test_metadata_that_does_not_fit(folder: Path, masks: str) -> None:
    rewrite(folder)
    assert load_masks(folder)["a.weight"].size == 3600  # the same file with the right metadata
    rewrite(folder, masks=masks)
    with pytest.raises(InputError, match=r"mask\.safetensors"):
        load_masks(folder)


def test_a_foreign_file(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / FILE)
    with pytest.raises(InputError, match="not a mask file"):
        load_masks(tmp_path)
