"""`compresskit doctor`: its exit codes and its two outputs."""

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from compresskit.cli.app import main
from compresskit.doctor import examine
from compresskit.doctor.processes import Outcome
from tests.cli.conftest import Done

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def reasons(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Why tries fail, by package; the others do well."""
    found: dict[str, str] = {}

    def outcomes(names: Sequence[str], folder: Path, at_once: int) -> Generator[Outcome, None, None]:
        for name in names:
            yield Outcome("done", {}, found.get(name), 0.1)

    monkeypatch.setattr(examine, "outcomes", outcomes)
    return found


def test_tables(run: Run) -> None:
    done = run("doctor")
    assert (done.code, done.err) == (0, "")
    for part in ("machine", "needed packages", "optional packages", "GPUs", "how it computes here"):
        assert part in done.out.splitlines()
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_alone(run: Run) -> None:
    done = run("doctor", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["schema"] == "compresskit.doctor/1"


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_needed_package_that_is_broken(
    flags: tuple[str, ...], reasons: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compresskit import console

    monkeypatch.setattr(console, "discard", lambda: None)  # it would close what pytest captures
    reasons["peft"] = "ImportError: it is broken"
    assert main(["doctor", *flags]) == 4
    shown = capsys.readouterr()
    assert "ImportError: it is broken" in shown.out
    assert shown.err.startswith("error: needed packages do not work: peft; pip install --force-reinstall")
