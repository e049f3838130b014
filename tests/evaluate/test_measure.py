"""Parameters, bytes, memory and time."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compresskit.errors import InputError
from compresskit.evaluate import measure
from compresskit.evaluate.measure import ParameterCount

CPU = torch.device("cpu")


class Masked(nn.Module):
    """A mask over a weight, made from scores that learn."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * (self.scores > 0)


def test_plain_parameters() -> None:
    linear, norm = nn.Linear(3, 4), nn.LayerNorm(4)
    model = nn.Sequential(linear, norm)
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.weight[0] = 0.0
    norm.requires_grad_(False)
    # LayerNorm's weight is ones and its bias zeros; the linear bias is random, so not zero.
    assert measure.parameters(model) == ParameterCount(12 + 4 + 8, 9 + 4 + 4, 16)


def test_tied_parameters_count_once() -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    assert measure.parameters(nn.ModuleList([embedding, head])).total == 15


@pytest.mark.parametrize(("scores_learn", "trainable"), [(True, 12 + 4), (False, 4)])
def test_masked_weight_counts_as_its_effective_weight(scores_learn: bool, trainable: int) -> None:
    layer = nn.Linear(3, 4)
    nn.init.ones_(layer.weight)
    nn.init.ones_(layer.bias)
    scores = -torch.ones(4, 3)
    scores[:, 0] = 1.0
    parametrize.register_parametrization(layer, "weight", Masked(scores))
    layer.get_submodule("parametrizations.weight").requires_grad_(False)
    if scores_learn:
        layer.get_submodule("parametrizations.weight.0").requires_grad_(True)
    assert measure.parameters(layer) == ParameterCount(16, 4 + 4, trainable)


def test_shared_masked_module_counts_once_and_merging_changes_nothing() -> None:
    layer = nn.Linear(3, 4, bias=False)
    parametrize.register_parametrization(layer, "weight", Masked(torch.tensor([1.0, -1.0, 1.0]).expand(4, 3)))
    model = nn.ModuleDict({"one": layer, "two": nn.Sequential(layer)})
    before = measure.parameters(model)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    assert before == measure.parameters(model) == ParameterCount(12, 8, 12)


def test_disk_bytes_counts_content_once_and_follows_no_link_out(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"x" * 1000)
    (folder / "sub" / "more.bin").write_bytes(b"y" * 50)
    os.link(folder / "model.bin", folder / "again.bin")
    (folder / "inside").symlink_to("model.bin")
    (tmp_path / "outside").write_bytes(b"z" * 7)
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    assert measure.disk_bytes(folder) == 1050
    with pytest.raises(InputError, match="no folder"):
        measure.disk_bytes(folder / "model.bin")


def test_disk_bytes_of_a_snapshot_of_the_hubs_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1234").write_bytes(b"x" * 300)
    (blobs / "other").write_bytes(b"x" * 300)
    (snapshot / "model.safetensors").symlink_to("../../blobs/1234")
    assert measure.disk_bytes(snapshot) == 300


def test_deploy_bytes_follows_links_and_counts_each_file_once(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = tmp_path / "base" / "model.bin"
    base.write_bytes(b"x" * 100)
    link = tmp_path / "link.bin"
    link.symlink_to(base)
    assert measure.deploy_bytes([base, link, base.parent]) == 100
    with pytest.raises(InputError, match=r"gone\.bin"):
        measure.deploy_bytes([tmp_path / "gone.bin"])


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_peak_memory_is_not_the_parents() -> None:
    """A child of a process of 300 MB more reports its own peak, which ru_maxrss would not."""
    ballast = b"\x01" * 300_000_000
    code = (
        "import resource;"
        "from compresskit.evaluate.measure import peak_rss_bytes;"
        "print(peak_rss_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    # Python starts the child by vfork: it shares our memory until exec, and its ru_maxrss begins with that.
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    own, inherited = map(int, shown.split())
    assert len(ballast) > own > 5_000_000
    parent = measure.peak_rss_bytes()
    assert parent is not None
    assert parent > len(ballast)
    assert inherited >= own


def test_peak_memory_of_a_block() -> None:
    with measure.PeakMemory(CPU) as memory:
        block = torch.ones(8_000_000)
    assert memory.kind == "rss"
    assert memory.bytes is None or memory.bytes > block.numel() * 4


def test_latency_warms_up_and_takes_percentiles() -> None:
    calls: list[float] = []

    def call(seconds: float) -> None:
        calls.append(seconds)
        time.sleep(seconds)

    found = measure.latency(call, [0.001] * 9 + [0.05], warmup=3, device=CPU)
    assert len(calls) == 13
    assert 1.0 <= found.p50_ms < 20.0
    assert found.p95_ms > 20.0
    with pytest.raises(ValueError, match="at least one"):
        measure.latency(call, [], 1, CPU)


def test_device_is_described() -> None:
    described = measure.describe_device(CPU)
    assert described["kind"] == "cpu"
    assert described["name"]
    assert described["threads"] == torch.get_num_threads()
