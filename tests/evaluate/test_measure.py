"""Parameters, bytes, memory and time."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from compresskit.errors import InputError
from compresskit.evaluate import measure

CPU = torch.device("cpu")


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
    with pytest.raises(InputError, match="not a folder"):
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


def test_macos_counts_its_peak_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=123_456_789))
    assert measure.peak_rss_bytes() == 123_456_789


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
