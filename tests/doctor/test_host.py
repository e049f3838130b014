"""What the system tells of the machine, from files made here."""

from pathlib import Path

import pytest

from compresskit.doctor import host as module
from compresskit.evaluate import machine
from compresskit.evaluate.cache_place import cache_folder


def test_instructions_of_x86_and_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("model name\t: A CPU\nflags\t\t: fpu avx2 avx_vnni\n")
    found = module.host()
    assert found.cpu == "A CPU"
    assert found.instructions == {"AVX2": True, "AVX-512": False, "VNNI": True, "bf16": False, "AMX": False}
    (tmp_path / "cpuinfo").write_text("Features\t: asimd i8mm\n")
    assert [name for name, has in module.host().instructions.items() if has] == ["NEON", "int8 products"]
    (tmp_path / "cpuinfo").write_text("")
    assert module.host().instructions == {}


def test_the_driver_and_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DRIVER", tmp_path / "version")
    monkeypatch.setattr(module, "_GPUS", tmp_path / "gpus")
    assert (module.host().nvidia_driver, module.host().gpus_seen) == (None, 0)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 2\n")
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    assert (module.host().nvidia_driver, module.host().gpus_seen) == ("570.86.15", 1)


def test_disks_of_folders_that_are_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSKIT_CACHE", str(tmp_path / "not" / "there"))
    disks = {disk.what: disk for disk in module.host().disks}
    assert set(disks) == {"models", "measurements"}
    assert disks["measurements"].folder == str(cache_folder())
    assert (disks["measurements"].free_bytes or 0) > 0
    assert not (tmp_path / "not").exists()
