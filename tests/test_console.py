import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest
from rich.table import Table
from rich.text import Text

from compresskit import console

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLORS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _settings():
    console.configure()
    yield
    console.configure()


def table_of(text: str) -> Table:
    table = Table("a heading that is wide enough for all of it")
    table.add_row(text)
    return table


def on_terminal(code: str, **environment: str) -> str:
    """What `code` writes when stdout and stderr are a terminal."""
    main, side = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "120", **environment}
    program = f"from compresskit import console\n{code}"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=side, stdout=side, stderr=side, env=variables)
    os.close(side)
    pieces = []
    try:
        while piece := os.read(main, 65536):
            pieces.append(piece)
    except OSError:  # how Linux reports that the other side has closed
        pass
    os.close(main)
    assert child.wait(60) == 0
    return b"".join(pieces).decode()


def test_results_go_to_stdout_and_the_rest_to_stderr(capsys):
    console.out("result")
    console.info("information")
    console.warn("careful")
    console.error("broken")
    assert capsys.readouterr() == ("result\n", "information\nwarning: careful\nerror: broken\n")


def test_quiet_keeps_results_warnings_and_errors(capsys):
    console.configure(quiet=True)
    console.out("result")
    console.info("information")
    console.warn("careful")
    console.error("broken")
    with console.progress(10, "train") as bar:
        bar.update(10)
    assert capsys.readouterr() == ("result\n", "warning: careful\nerror: broken\n")
    assert console.is_quiet()


def test_json_on_stdout_is_unchanged(capsys):
    text = json.dumps({"markup": "[bold]x[/bold]", "long": "y " * 300, "tab": "\t", "name": "Zürich"})
    console.out(text)
    assert capsys.readouterr().out == text + "\n"


def test_table_without_a_terminal_is_not_cut_at_80_columns(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", *(f"metric number {i}" for i in range(8)))
    table.add_row("row", *("123.456" for _ in range(8)))
    console.out(table)
    printed = capsys.readouterr().out
    assert all(f"metric number {i}" in printed.splitlines()[1] for i in range(8))
    assert "\x1b" not in printed


def test_messages_stay_on_one_line_and_carry_no_control_codes(capsys):
    console.error("bad file 'a\nb\x1b[31m\u202e' " + "long " * 60)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "a b\\x1b[31m\\u202e" in printed
    console.warn("[bold]not markup[/bold]")
    assert capsys.readouterr().err == "warning: [bold]not markup[/bold]\n"


@pytest.mark.parametrize("wrapped", [str, Text, table_of])
def test_results_carry_no_control_codes(capsys, wrapped):
    console.out(wrapped("a\x1b]0;title b\x9b2J\u202ec"))
    printed = capsys.readouterr().out
    assert r"a\u001b]0;title b\u009b2J\u202ec" in printed
    assert not ESCAPES.search(printed)


def test_a_terminal_gets_colours_but_no_codes_of_others():
    code = "from rich.text import Text; console.out(Text('a\\x1b[31mb', style='bold'))"
    printed = on_terminal(code)
    assert printed.count("\x1b[31m") == 0
    assert r"a\u001b[31mb" in printed
    assert COLORS.search(printed)


WARNING = """
import logging, warnings
warnings.warn("of Python")
logging.getLogger("library").warning("of a library")
logging.getLogger("library").error("of a library")
"""


@pytest.mark.parametrize(("verbose", "shown"), [(True, 3), (False, 0)])
def test_libraries_warn_only_where_details_are_wanted(verbose: bool, shown: int):
    program = f"from compresskit import console\nconsole.configure(verbose={verbose}){WARNING}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    found = [done.stderr.count(words) for words in ("UserWarning: of Python", "of a library")]
    assert sum(found) == shown, done.stderr


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_only_the_first_process_prints_anything_but_errors(capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    console.out("result")
    console.info("information")
    console.warn("careful")
    with console.progress(10, "train") as bar:
        bar.update(10)
    console.error("broken")
    assert capsys.readouterr() == ("", "error: broken\n")


def test_rank_counts_before_local_rank(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "2")  # first process of the second machine
    monkeypatch.setenv("LOCAL_RANK", "0")
    console.out("result")
    assert capsys.readouterr().out == ""


def clock(monkeypatch, times: list[float]) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: times.pop(0) if len(times) > 1 else times[0])


def test_plain_progress_has_few_lines_and_the_last_state(capsys, monkeypatch):
    clock(monkeypatch, [0.0, *(float(second) for second in range(1, 3601)), 3600.0])
    with console.progress(3600, "train", unit="steps") as bar:
        for step in range(1, 3601):
            bar.update(step, loss=1.23456, remaining="50.0 %")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == (
        "train: 10/3600 (0%), loss 1.235, remaining 50.0 %, 1.00 steps/s, 0:00:10 elapsed, 0:59:50 left"
    )
    expected = "train: 3600/3600 (100%), loss 1.235, remaining 50.0 %, 1.00 steps/s, 1:00:00 elapsed"
    assert lines[-1] == expected
    assert len(lines) == len(set(lines)) < 120  # 20 of 10 s each, then one for each 5 %


def test_plain_progress_of_a_resumed_job_counts_what_was_done_before(capsys, monkeypatch):
    clock(monkeypatch, [0.0, 20.0])
    with console.progress(1000, "train", before=360) as bar:
        bar.update(950)
    assert capsys.readouterr().err == "train: 950/1000 (95%), 2.50/s, 0:06:20 elapsed, 0:00:20 left\n"


def test_a_live_bar_of_a_resumed_job_began_before():
    bar = console._rich_progress("steps")
    task = console._task(bar, "train", 1000, before=360.0)
    assert bar.tasks[task].elapsed == pytest.approx(360, abs=9)


def test_plain_progress_with_unknown_total_and_after_an_error(capsys):
    def read() -> None:
        with console.progress(None, "read") as bar:
            bar.update(7)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        read()
    assert capsys.readouterr().err.startswith("read: 7, ")


def test_nothing_is_printed_for_a_job_without_an_update(capsys):
    with console.progress(0, "read"):
        pass
    assert capsys.readouterr() == ("", "")


BAR = """
console.configure(color={color})
with console.progress(100, "train", unit="steps") as bar:
    bar.update(50, loss=1.23456, remaining="50.0 %")
    console.info("a line [beside] the bar")
    console.out("result")
    bar.update(100, loss=0.5)
console.warn("careful")
"""


def test_terminal_shows_a_live_bar():
    printed = ESCAPES.sub("", on_terminal(BAR.format(color=True)))
    assert "loss 1.235, remaining 50.0 %" in printed or "loss 0.5" in printed
    assert "100/100" in printed
    assert "a line [beside] the bar" in printed
    assert "result" in printed


def test_colors_can_be_turned_off():
    assert COLORS.search(on_terminal(BAR.format(color=True)))
    assert not COLORS.search(on_terminal(BAR.format(color=False)))
    assert not COLORS.search(on_terminal(BAR.format(color=True), NO_COLOR="1"))
    assert COLORS.search(on_terminal(BAR.format(color=True), NO_COLOR=""))  # empty means unset


def test_dumb_terminal_gets_plain_lines():
    printed = on_terminal(BAR.format(color=True), TERM="dumb")
    assert "\x1b" not in printed
    assert "train: 100/100 (100%), loss 0.5" in printed


def test_results_reach_a_file_while_a_bar_is_live(tmp_path):
    results = tmp_path / "results"
    on_terminal(f"import sys; sys.stdout = open({str(results)!r}, 'w')\n{BAR.format(color=True)}")
    assert results.read_text() == "result\n"


def test_a_stream_that_cannot_encode_a_name_does_not_end_the_run():
    program = "from compresskit import console; console.configure(); console.out('Zürich \\u4eac')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Z\\xfcrich \\u4eac\n")


def test_one_of_several_speaks_in_plain_lines_under_its_name():
    code = (
        "console.configure()\nconsole.warn('careful')\n"
        "with console.progress(10, 'training', unit='steps') as bar: bar.update(10)\n"
        "with console.status('waiting'): pass"
    )
    lines = on_terminal(code, **{console.SPEAKER: "dense: "}).splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "dense: warning: careful",
        "dense: training: 10/10 (100%)",
        "dense: waiting",
    ]
