"""Coded folders: what they tell without being decoded, and what does not open."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compresskit.checkpoint.coded import FILE, load_coded, save_coded
from compresskit.cli.app import main
from compresskit.errors import InputError
from compresskit.methods.job import Job
from compresskit.methods.quantize.config import QuantizeConfig, QuantizeOptions
from compresskit.methods.run import run
from compresskit.models.kinds import kind_of
from compresskit.models.kinds.coded import uncoded
from compresskit.models.registry import load
from compresskit.models.source import Source
from tests import tiny
from tests.contract import makers
from tests.listing import unlisted


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coded")
    makers.mask(tiny.checkpoint(root / "base", hidden=64), root / "mask")
    return run(Job("quantize", QuantizeOptions(str(root / "mask"), root / "coded"), QuantizeConfig()))


@pytest.fixture
def copy(coded: Path, tmp_path: Path) -> Path:
    """A folder to be damaged."""
    return unlisted(Path(shutil.copytree(coded, tmp_path / "coded")))


def test_the_decoded_folder_is_there_while_it_is_read(coded: Path) -> None:
    with uncoded(coded) as folder:
        assert sorted(path.name for path in folder.glob("*.safetensors")) == ["model.safetensors"]
        assert (folder / "config.json").read_bytes() == (coded / "config.json").read_bytes()
        with uncoded(folder) as same:
            assert same == folder
    assert not folder.exists()


def test_inspect_tells_what_remains_and_the_bytes(coded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Source("coded", coded)
    contents = kind_of(source).contents(source)
    tensors = load_coded(coded)
    assert len(contents.matrices) == 12
    for matrix in contents.matrices:
        assert matrix.remaining == int(tensors[matrix.name].count_nonzero()) < 0.4 * matrix.size
        assert (matrix.shape, matrix.dtype) == (tuple(tensors[matrix.name].shape), "int8")
    assert main(["inspect", str(coded)]) == 0
    told = capsys.readouterr().out
    assert "int8, entropy-coded" in told
    weights = sum(tensor.numel() for tensor in tensors.values() if tensor.dtype == torch.int8)
    assert f"for {weights:,} weights" in told
    assert "over the Shannon bound" in told


# What does not open.


def test_a_truncated_file(copy: Path) -> None:
    whole = (copy / FILE).read_bytes()
    (copy / FILE).write_bytes(whole[: len(whole) // 2])
    for verb in (["inspect", str(copy)], ["predict", str(copy), "-q", "who ?", "-c", "rome ."]):
        assert main(verb) == 3
    with pytest.raises(InputError, match=r"coded/coded\.safetensors is not a whole safetensors file"):
        load(str(copy), device="cpu")


def test_a_file_without_a_scale(copy: Path) -> None:
    tensors = load_coded(copy)
    del tensors["bert.encoder.layer.0.output.dense.weight_scale"]
    save_coded(copy, tensors)
    with pytest.raises(InputError, match=r"coded/.* has no scales for bert.encoder.layer.0.output.dense.weight"):
        load(str(copy), device="cpu")


def test_codes_of_another_shape(copy: Path) -> None:
    tensors = load_coded(copy)
    name = "bert.encoder.layer.0.output.dense.weight"
    save_coded(copy, {**tensors, name: tensors[name].T.contiguous()})
    with pytest.raises(InputError, match=r"coded does not open as a bert model \(its tensors have other shapes"):
        load(str(copy), device="cpu")


def test_a_foreign_file(copy: Path) -> None:
    save_file({"a": torch.zeros(3)}, copy / FILE)
    with pytest.raises(InputError, match="holds no coded weights of compresskit"):
        load(str(copy), device="cpu")
