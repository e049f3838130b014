"""Gates derived from made reports: their limits, what is no gate, files that `eval` reads, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from compresskit.cli.app import main
from compresskit.evaluate.config import configured, read
from compresskit.evaluate.derive.proposing import Proposed, propose
from compresskit.evaluate.derive.source import read_source
from compresskit.evaluate.gate import gated, parse, parse_rules
from compresskit.evaluate.row import Dataset, Report, Row
from compresskit.evaluate.settings import EvalSettings
from compresskit.evaluate.slice import Slice
from compresskit.recipe.evaluation import Evaluation
from compresskit.recipe.recipe import read_recipe


def answerable(yes: float, no: float, lost: float = 0.0) -> Any:
    spans: dict[str, Any] = {} if not lost else {"delta_em_ci95": (-lost - 1.0, -lost + 1.0), "delta_em": -lost}
    return {
        "answerable": {"yes": Slice(1000, em=yes, **spans), "no": Slice(1000, em=no, **spans)},
        "question": {
            "when": Slice(200, em=yes, **spans, p_value_holm=0.01 if lost else None),
            "who": Slice(90, em=yes),
        },
    }


SETTINGS = {**EvalSettings().to_dict(), "max_length": 128, "stride": 32, "metrics": ["bleu"], "seed": 3}
DENSE = Row(
    "dense",
    "runs/dense",
    "encoder",
    "train",
    True,
    em=80.0,
    f1=84.0,
    deploy_bytes=400_000,
    slices=answerable(78.0, 82.0),
    settings=SETTINGS,
    beats_nothing=True,
)
SMALL = replace(
    DENSE,
    name="small",
    path="runs/small",
    baseline=False,
    em=78.0,
    delta_em=-2.0,
    delta_em_ci95=(-3.0, -1.0),
    f1=83.0,
    delta_f1=-1.0,
    delta_f1_ci95=(-1.5, -0.5),
    deploy_bytes=100_000,
    turns={"latency_ms_p50": [[5.0, 10.0], [5.2, 10.0], [4.8, 10.0], [5.0, 10.0], [5.1, 10.0], [4.9, 10.0]]},
    slices=answerable(75.0, 79.0, lost=3.0),
)
DATA = Dataset("dev.json", "0" * 64, 2000, 1000, nothing={"em": 50.0, "f1": 50.0})
REPORT = Report("2026-11-30T00:00:00+00:00", {}, {}, DATA, (DENSE, SMALL))


def saved(report: Report, folder: Path, runs: dict[str, list[Row]] | None = None) -> Path:
    """The report as a file, with runs as an evaluation of several seeds writes them."""
    value = json.loads(report.to_json())
    for row in value["rows"]:
        own = (runs or {}).get(row["name"])
        row["runs"] = None if own is None else [{**each.to_dict(), "runs": None, "sd": None} for each in own]
        row["sd"] = None if own is None else {"em": float(np.std([each.em or 0.0 for each in own], ddof=1))}
    path = folder / "eval.json"
    path.write_text(json.dumps(value))
    return path


def proposed(report: Report, folder: Path, *, runs: dict[str, list[Row]] | None = None, **more: Any) -> Proposed:
    return propose(read_source(saved(report, folder, runs), more.get("names", ())), more.get("sure", 0.95))


def rules_of(found: Proposed) -> dict[str, str]:
    """The limits by what they are about."""
    return {each.rule.partition("=base")[0].partition("<=")[0].rstrip(">"): each.rule for each in found.gates}


def seeds(values: list[float], row: Row = SMALL) -> list[Row]:
    return [replace(row, name=f"{row.name}-seed{n}", em=em, f1=em + 4) for n, em in enumerate(values)]


def test_the_limit_of_one_run_is_that_of_another_sample_of_questions(tmp_path: Path) -> None:
    found = proposed(REPORT, tmp_path)
    expected = -2.0 - stats.norm.ppf(0.95) * math.sqrt(2) * 2.0 / (2 * stats.norm.ppf(0.975))
    rule = parse(rules_of(found)["em"])
    assert rule.kind == "offset"
    assert rule.number == pytest.approx(expected, abs=0.011)
    assert rule.number <= expected
    (reason,) = [each.reason for each in found.gates if each.rule == rule.text]
    assert "EM 78.00, -2.00 against the baseline's; 95 % interval over paragraphs -3.00 to -1.00" in reason
    assert "On 2,000 other questions like these it stays at or above -3.19 with 95 %" in reason
    surer = parse(rules_of(proposed(REPORT, tmp_path, sure=0.99))["em"])
    assert surer.number < rule.number


def test_the_limit_of_several_runs_is_that_of_one_more_run(tmp_path: Path) -> None:
    values = [77.0, 78.0, 79.0]
    report = replace(REPORT, rows=(DENSE, replace(SMALL, slices=None, delta_em_ci95=None)))
    found = proposed(report, tmp_path, runs={"small": seeds(values)})
    expected = -2.0 - stats.t.ppf(0.95, 2) * 1.0 * math.sqrt(1 + 1 / 3)
    assert parse(rules_of(found)["em"]).number == pytest.approx(expected, abs=0.011)
    (reason,) = [each.reason for each in found.gates if each.rule.startswith("em>=")]
    assert "standard deviation 1.00 over 3 runs" in reason
    both = proposed(report, tmp_path, runs={"small": seeds(values), "dense": seeds([79.0, 80.0, 81.0], DENSE)})
    wider = -2.0 - stats.t.ppf(0.95, 4) * math.sqrt(2 * (1 + 1 / 3))
    assert parse(rules_of(both)["em"]).number == pytest.approx(wider, abs=0.011)


def seeded(row: Row, seed: int) -> Row:
    return replace(row, path=f"runs/{row.name}", manifest={"steps": [{"method": "train", "seed": seed}]})


def test_runs_of_one_seed_are_pairs(tmp_path: Path) -> None:
    """Seeds that are hard for both say nothing of the difference."""
    own = [seeded(row, seed) for seed, row in enumerate(seeds([77.0, 78.0, 79.5]))]
    base = [seeded(row, seed) for seed, row in enumerate(seeds([79.0, 80.0, 81.0], DENSE))]
    mean = replace(SMALL, slices=None, em=np.mean([77.0, 78.0, 79.5]).item())
    report = replace(REPORT, rows=(DENSE, mean))
    found = proposed(report, tmp_path, runs={"small": own[::-1], "dense": base})
    less = [-2.0, -2.0, -1.5]
    expected = np.mean(less) - stats.t.ppf(0.95, 2) * np.std(less, ddof=1) * math.sqrt(1 + 1 / 3)
    assert parse(rules_of(found)["em"]).number == pytest.approx(expected, abs=0.011)
    assert "standard deviation of the difference 0.29 over 3 pairs of one seed" in found.gates[0].reason
    loose = proposed(report, tmp_path, runs={"small": own, "dense": [seeded(row, 7) for row in base]})
    assert parse(rules_of(loose)["em"]).number < expected - 1, "seeds of which none is the other's"


def test_the_file_names_the_runs(tmp_path: Path) -> None:
    runs = {"small": seeds([77.0, 78.0]), "dense": seeds([79.0, 80.0], DENSE)}
    runs = {name: [seeded(row, seed) for seed, row in enumerate(each)] for name, each in runs.items()}
    target = tmp_path / "compresskit.yaml"
    assert main(["gates", "derive", str(saved(REPORT, tmp_path, runs)), "-o", str(target)]) == 0
    values = read(tmp_path)
    assert values["runs"] == ("dense=runs/dense-seed0,runs/dense-seed1", "small=runs/small-seed0,runs/small-seed1")
    assert (values["checkpoints"], values["baseline"]) == ((), "dense")
    assert "another seed" not in target.read_text()
    assert configured({}, tmp_path).gating.gates == values["gates"]


def test_every_gate_holds_for_the_report_and_fails_for_a_real_loss(tmp_path: Path) -> None:
    found = proposed(REPORT, tmp_path)
    assert set(rules_of(found)) == {
        *("em", "f1", "em[answerable=yes]", "em[answerable=no]", "size", "latency"),
    }
    rules = parse_rules([each.rule for each in found.gates], has_baseline=True)
    assert gated(REPORT, rules).passed
    silent = replace(
        SMALL,
        em=50.0,
        f1=50.0,
        delta_em=-30.0,
        slices={"answerable": {"yes": Slice(1000, em=0.0, delta_em=-78.0), "no": Slice(1000, em=100.0, delta_em=18.0)}},
        deploy_bytes=400_000,
        turns={"latency_ms_p50": [[10.0, 10.0]] * 6},
    )
    failed = {gate.rule.partition(">=")[0] for gate in gated(replace(REPORT, rows=(DENSE, silent)), rules).gates}
    assert failed >= {"em", "f1", "em[answerable=yes]"}
    passed = [gate.rule for gate in gated(replace(REPORT, rows=(DENSE, silent)), rules).gates if gate.passed]
    assert passed == [rules_of(found)["em[answerable=no]"]], "it stands beside those that answering nothing fails"


def test_no_gate_that_answering_nothing_would_hold(tmp_path: Path) -> None:
    wide = replace(SMALL, delta_em_ci95=(-40.0, 36.0))
    found = proposed(replace(REPORT, rows=(DENSE, wide)), tmp_path)
    assert "em" not in rules_of(found)
    assert any(each.startswith("em: a limit of ") and "answering nothing" in each for each in found.left_out)
    assert any(each.startswith("em[question=when]: ") and "as much as 100.00" in each for each in found.left_out)


def test_a_slice_that_lost_has_a_gate_where_answering_nothing_fails_it(tmp_path: Path) -> None:
    report = replace(REPORT, dataset=replace(DATA, unanswerable=0, nothing={"em": 0.0, "f1": 0.0}))
    found = rules_of(proposed(report, tmp_path))
    assert "em[question=when]" in found
    assert "em[question=who]" not in found, "it did not stand out"


def test_equal_answers_leave_room_for_one_question(tmp_path: Path) -> None:
    same = replace(SMALL, em=80.0, delta_em=0.0, delta_em_ci95=(0.0, 0.0))
    assert rules_of(proposed(replace(REPORT, rows=(DENSE, same)), tmp_path))["em"] == "em>=base-0.05"


def test_of_several_rows_the_weakest_limit_counts(tmp_path: Path) -> None:
    worse = replace(SMALL, name="worse", em=70.0, delta_em=-10.0, delta_em_ci95=(-11.0, -9.0), deploy_bytes=200_000)
    report = replace(REPORT, rows=(DENSE, SMALL, worse))
    found = proposed(report, tmp_path)
    assert parse(rules_of(found)["em"]).number < -10
    assert rules_of(found)["size"] == "size<=0.510x"
    assert all(each.reason.startswith("The weakest of 2 rows. ") for each in found.gates)
    assert gated(report, parse_rules([each.rule for each in found.gates], has_baseline=True)).passed
    one = proposed(report, tmp_path, names=("small",))
    assert rules_of(one)["size"] == "size<=0.255x"
    assert not any(each.reason.startswith("The weakest") for each in one.gates)


def test_time_by_its_rounds(tmp_path: Path) -> None:
    found = rules_of(proposed(REPORT, tmp_path))
    ratios = [0.5, 0.52, 0.48, 0.5, 0.51, 0.49]
    bound = np.mean(ratios) + stats.t.ppf(0.95, 5) * np.std(ratios, ddof=1) * math.sqrt(1 + 1 / 6)
    assert parse(found["latency"]).number == pytest.approx(bound, abs=0.0011)
    wild = replace(SMALL, turns={"latency_ms_p50": [[each, 10.0] for each in (3.0, 5.0, 9.0, 4.0, 6.0, 5.0)]})
    left = proposed(replace(REPORT, rows=(DENSE, wild)), tmp_path).left_out
    assert "latency: the 6 rounds of small differ by 60%; give more, or a quiet machine" in left
    assert any(each.startswith("memory: small was not measured in turns with the baseline; ") for each in left)
    once = replace(SMALL, turns={"peak_memory_bytes": [[5.0, 10.0]]})
    left = proposed(replace(REPORT, rows=(DENSE, once)), tmp_path).left_out
    assert any(each.startswith("memory: small was measured in one round alone; ") for each in left)


@pytest.mark.parametrize("name", ["compresskit.yaml", "pyproject.toml"])
def test_the_file_is_one_that_eval_reads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(REPORT, tmp_path)
    assert main(["gates", "derive", str(path), "-o", name]) == 0
    values = read(tmp_path)
    assert (values["checkpoints"], values["baseline"], values["data"]) == (("runs/small",), "runs/dense", "dev.json")
    found = proposed(REPORT, tmp_path)
    assert values["gates"] == tuple(each.rule for each in found.gates)
    config = configured({}, tmp_path)
    assert config.settings == EvalSettings(max_length=128, stride=32, metrics=("bleu",))
    lines = (tmp_path / name).read_text().splitlines()
    assert all(len(line) <= 104 for line in lines)
    assert sum(line.lstrip().startswith("# small: ") for line in lines) == len(found.gates)
    assert "what another seed gives is not in these limits" in " ".join(line.lstrip("# ") for line in lines)


def test_a_recipe_takes_the_block(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(REPORT, tmp_path)
    capsys.readouterr()
    assert main(["gates", "derive", str(path)]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    evaluation = Evaluation(read_recipe(tmp_path / "mine.yaml", []), tmp_path / "runs")
    evaluation.check()
    assert evaluation.settled is not None
    assert evaluation.settled.gating.gates == tuple(each.rule for each in proposed(REPORT, tmp_path).gates)


def test_only_derived_gates_are_replaced(tmp_path: Path, refused: Any) -> None:
    path, target = saved(REPORT, tmp_path), tmp_path / "gates.yaml"
    assert main(["gates", "derive", str(path), "-o", str(target)]) == 0
    first = target.read_bytes()
    assert "pass --overwrite" in refused(2, path, "-o", target)
    assert main(["gates", "derive", str(path), "-o", str(target), "--overwrite", "--row", "small"]) == 0
    assert target.read_bytes() == first
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\n")
    assert "no file of derived gates" in refused(2, path, "-o", project, "--overwrite")
    assert project.read_text() == "[project]\n"
    assert "ends with none of .yaml" in refused(2, path, "-o", tmp_path / "gates.json")
    assert "which is read" in refused(2, path.rename(tmp_path / "eval.yaml"), "-o", tmp_path / "eval.yaml")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    def command(code: int, *words: Any) -> str:
        capsys.readouterr()
        assert main(["gates", "derive", *map(str, words)]) == code
        shown = capsys.readouterr()
        (line,) = shown.err.splitlines()
        assert not shown.out
        return line

    return command


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ((DENSE,), "no row but the baseline dense"),
        ((SMALL,), "no row is the baseline"),
        ((replace(DENSE, em=None, error="broken", error_code=3), SMALL), "the baseline dense was not scored"),
        ((DENSE, replace(SMALL, error="broken", error_code=3)), "small was not scored"),
        ((replace(DENSE, beats_nothing=False), SMALL), "does not beat answering nothing"),
        ((DENSE, Row("small", "p", "-", "-", False, em=78.0)), "no gate can be derived: em: small was not compared"),
    ],
)
def test_reports_that_give_no_limits(rows: tuple[Row, ...], told: str, tmp_path: Path, refused: Any) -> None:
    assert told in refused(3, saved(replace(REPORT, rows=rows), tmp_path))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"rows": 3}', '{"schema": "compresskit.eval/1", "rows": [{"name": "a", "runs": "x"}]}', "\xff"],
)
def test_files_that_are_no_reports(text: str, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "eval.json").write_bytes(text.encode("latin-1"))
    assert str(tmp_path / "eval.json") in refused(3, tmp_path / "eval.json")


def test_other_wrong_usage(tmp_path: Path, refused: Any) -> None:
    path = saved(REPORT, tmp_path)
    assert "--row smal: no row to judge is called so; the report has small" in refused(2, path, "--row", "smal")
    assert "--sure 1 is not " in refused(2, path, "--sure", "1")
    assert "nowhere.json does not exist" in refused(3, tmp_path / "nowhere.json")
    lost = replace(SMALL, name="lost", error="broken", error_code=3)
    path = saved(replace(REPORT, rows=(DENSE, SMALL, lost)), tmp_path)
    assert main(["gates", "derive", str(path), "--row", "small"]) == 0


def test_figures_that_cannot_be(tmp_path: Path, refused: Any) -> None:
    odd = replace(
        SMALL,
        delta_em=-1e300,
        delta_f1_ci95=(5.0, -5.0),
        slices=None,
        deploy_bytes=10**300,
        turns={"latency_ms_p50": [[5.0, 1e-320]] * 6},
    )
    line = refused(3, saved(replace(REPORT, rows=(DENSE, odd)), tmp_path))
    assert line.count("cannot be") == 3
    assert "the rounds of small tell no times" in line


def test_runs_that_are_no_rows(tmp_path: Path, refused: Any) -> None:
    path = saved(REPORT, tmp_path, {"small": seeds([77.0, 78.0])})
    value = json.loads(path.read_text())
    value["rows"][1]["runs"][0]["em"] = 700
    path.write_text(json.dumps(value))
    assert "rows[1].runs[0].em: 700" in refused(3, path)
