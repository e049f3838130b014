"""Imports that are told, and spared the garbage collector; each in a process of its own, which they change."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = "import gc, sys\nfrom compresskit.importing import watched\nwith watched({}):\n    "


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """A folder with a package `torch` that tells whether the collector is on; `transformers` imports it."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import gc, torch.nn; print('torch', gc.isenabled())")
    (tmp_path / "torch" / "nn.py").write_text("")
    (tmp_path / "transformers.py").write_text("import torch, gc; print('transformers', gc.isenabled())")
    return tmp_path


def run(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', Path.cwd())}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_what_is_heavy_is_told_once_and_not_collected(torch: Path) -> None:
    code = "import transformers, torch, torch.nn; print('behind', gc.isenabled(), gc.get_freeze_count() > 1000)"
    done = run(WATCHED.format("") + code, torch)
    assert done.stderr == "loading torch and transformers\n"
    assert done.stdout.splitlines() == ["torch False", "transformers False", "behind True True"]


def test_to_ask_whether_torch_is_there_tells_nothing(torch: Path) -> None:
    (torch / "transformers.py").write_text(
        "import importlib.util; print(importlib.util.find_spec('torch') is not None)"
    )
    done = run(WATCHED.format("") + "import transformers; sys.stderr.write('asked\\n'); import torch", torch)
    assert done.stdout.splitlines() == ["True", "torch False"]
    assert done.stderr == "asked\nloading torch and transformers\n"


def test_what_is_light_is_not(torch: Path) -> None:
    done = run(WATCHED.format("") + "import compresskit.text, json; print(gc.get_freeze_count())", torch)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_process_that_tells_nothing(torch: Path) -> None:
    assert run(WATCHED.format("told=False") + "import torch", torch).stderr == ""
    assert (
        run(
            "from compresskit import console; console.configure(quiet=True)\n" + WATCHED.format("") + "import torch",
            torch,
        ).stderr
        == ""
    )


def test_an_import_that_fails_leaves_the_collector_on(torch: Path) -> None:
    (torch / "torch" / "__init__.py").write_text("import not_there")
    code = "try:\n        import torch\n    except ImportError:\n        print(gc.isenabled())"
    assert run(WATCHED.format("") + code, torch).stdout == "True\n"


def test_on_a_terminal_it_is_a_live_line(torch: Path) -> None:
    main, end = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": f"{torch}{os.pathsep}{Path.cwd()}", "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", WATCHED.format("") + "import torch"], stderr=end, env=environment):
        pass
    shown = os.read(main, 10_000).decode()
    assert "loading torch and transformers" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # nothing of it stays
    os.close(main)
    os.close(end)


def test_the_command_tells_before_torch_is_there(torch: Path, tmp_path: Path) -> None:
    """Where torch cannot be imported, the line has come all the same."""
    (torch / "torch" / "__init__.py").write_text("raise SystemExit(7)")
    code = "import sys; sys.argv = ['', 'train', 'demo/bert', '--plan']\n"
    code += "from compresskit.__main__ import main\nraise SystemExit(main())"
    done = run(code, torch)
    assert (done.returncode, done.stderr) == (7, "loading torch and transformers\n")
