"""Every reference to a data set finds its reader, and every wrong one a single clear line."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compresskit.data import hub
from compresskit.data.examples import Answer
from compresskit.data.load import load
from compresskit.errors import InputError, MissingError
from compresskit.evaluate.questions import read_questions

ROWS: list[dict[str, Any]] = [
    {
        "id": f"q{i}",
        "title": f"t{i // 3}",
        "context": f"Context {i // 2} tells of Kelby.",
        "question": "Of what?",
        "answers": {"text": ["Kelby"], "answer_start": [19]} if i % 2 else {"text": [], "answer_start": []},
    }
    for i in range(6)
]


def folder_of(path: Path, rows: list[dict[str, Any]], name: str = "validation") -> str:
    path.mkdir(exist_ok=True)
    (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_file_whatever_the_split(tmp_path: Path) -> None:
    path = tmp_path / "set"
    qas = [{"id": "a", "question": "?", "answers": [], "is_impossible": True}]
    path.write_text(json.dumps({"data": [{"title": "", "paragraphs": [{"context": "x", "qas": qas}]}]}))
    assert list(load(str(path), "train")) == list(load(str(path), "eval"))
    assert load(str(path), "eval").info.path == str(path)


def test_what_was_mended_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set"
    path.write_text('{"context": "Ada wrote.", "question": "Who?", "answers": [{"text": "wrote", "answer_start": 0}]}')
    for split in ("train", "eval", "train"):
        load(str(path), split)
    assert "answers elsewhere than their offset says (taken: the nearest occurrence): 1\n" in (
        told := capsys.readouterr().err
    )
    assert told.count("elsewhere") == 1
    with pytest.raises(InputError, match="its first occurrence is at 4"):
        load(str(path), "train", "stop")
    assert load(str(path), "eval")[0].answers == (Answer("wrote", 4),)


def test_the_demo() -> None:
    assert load("demo", "eval").info.path == "demo"
    assert load("demo", "eval").info.questions < load("demo", "train").info.questions


@pytest.mark.parametrize("name", ["validation", "rows"])  # the second is read by `datasets`, as train
def test_rows_of_a_data_set(tmp_path: Path, name: str) -> None:
    split: Any = "eval" if name == "validation" else "train"
    found = load(folder_of(tmp_path / "rows", ROWS, name), split)
    assert [example.id for example in found] == [row["id"] for row in ROWS]
    assert [example.context for example in found] == [row["context"] for row in ROWS]
    assert [example.title for example in found] == [row["title"] for row in ROWS]
    assert found[0].is_impossible
    assert found[1].answers == (Answer("Kelby", 19),)
    assert [example.paragraph for example in found] == [0, 0, 1, 2, 3, 3]  # a title ends a paragraph, too
    info = found.info
    assert (info.questions, info.unanswerable, info.articles, info.paragraphs) == (6, 3, 2, 4)
    assert info.sha256 == load(folder_of(tmp_path / "rows", ROWS, name), split).info.sha256
    assert info.sha256 != load(folder_of(tmp_path / "other", ROWS[:5], name), split).info.sha256


def changed(index: int, **fields: object) -> list[dict[str, Any]]:
    return [{**row, **fields} if i == index else row for i, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            changed(3, answers={"text": ["Kelby"], "answer_start": []}),
            "line 4, question 'q3': 'answers' does not",
        ),
        (changed(3, context=" "), "line 4, question 'q3': 'context' is empty"),
        (changed(3, id="q1"), "question 3, question 'q1': the id stands already in question 1"),
        ([{**row, "answers": 7} for row in ROWS], "line 1, question 'q0': 'answers' is the number 7"),
        ([{"id": "a", "title": "t", "question": "?"}], "line 1, question 'a': the key 'context' is missing"),
    ],
)
def test_invalid_rows(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    ref = folder_of(tmp_path / "rows", rows)
    with pytest.raises(InputError) as caught:
        load(ref, "eval")
    assert str(caught.value).startswith(f"{ref}: {said}")


def test_further_columns_go_along_and_the_hash_is_that_of_the_usual_ones(tmp_path: Path) -> None:
    plain = hub.read(folder_of(tmp_path / "plain", ROWS), "validation", "score")
    ref = folder_of(tmp_path / "more", [{**row, "topic": f"t{index}"} for index, row in enumerate(ROWS)])
    found = hub.read(ref, "validation", "score", ("topic", "none"))
    assert found.kept() == [[f"t{index}", None] for index in range(len(ROWS))]
    assert found.info.sha256 == plain.info.sha256


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the split 'train' cannot be loaded: .*validation"):
        load(folder_of(tmp_path / "rows", ROWS), "train")


@pytest.mark.parametrize("ref", ["missing.json", "squad/train.json.gz", "/nowhere/set", "./set", "a/b/c", "a b"])
def test_no_such_file(ref: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(ref, "train")


def _raises(error: Exception) -> Callable[..., None]:
    def load_dataset(path: str, split: str) -> None:
        assert (path, split) == ("owner/name", "validation")
        raise error

    return load_dataset


def test_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", _raises(ConnectionError("Couldn't reach it\nat all")))
    with pytest.raises(MissingError) as caught:
        load("owner/name", "eval")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("owner/name: the Hugging Face Hub cannot be reached; download")
    assert "demo" in message


def test_no_such_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    error = datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub")
    monkeypatch.setattr(datasets, "load_dataset", _raises(error))
    with pytest.raises(InputError, match="owner/name: no such file, and no such data set"):
        load("owner/name", "eval")


def test_the_real_client_offline() -> None:
    with pytest.raises(MissingError, match="Hub cannot be reached"):
        load("owner/surely-not-in-any-cache", "eval")


def test_without_network_the_client_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_names(host: str, port: None) -> None:
        raise OSError("Name or service not known")

    environment: dict[str, str] = {}
    monkeypatch.setattr(hub, "os", types.SimpleNamespace(environ=environment))
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    hub._stay_offline_without_network()
    assert environment == {}  # too late: the client is imported
    monkeypatch.delitem(sys.modules, "huggingface_hub")
    hub._stay_offline_without_network()
    assert environment == {"HF_HUB_OFFLINE": "1"}


def test_a_path_that_is_not_there_is_no_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "validation.json").write_text("{}")
    for ref in ("data/validaton.json", "data/validation.jsn", "daat/validation.json"):
        with pytest.raises(InputError, match=rf"^{ref}: no such file; did you mean data/validation.json\?$"):
            load(ref, "eval")
    with pytest.raises(InputError, match=r"^data/squad: no such file; DATA is"):
        load("data/squad", "eval")
    with pytest.raises(InputError, match=r"validaton.json does not exist, but .*data/validation.json does; check"):
        read_questions(tmp_path / "data" / "validaton.json")


def test_a_data_set_that_the_hub_does_not_give_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(ref: str, split: str) -> None:
        raise MissingError(f"no {ref}")

    monkeypatch.setattr(hub, "_load", unreachable)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "squad").mkdir(parents=True)
    with pytest.raises(MissingError, match=r"^no daat/squad; or did you mean data/squad\?$"):
        load("daat/squad", "eval")
    with pytest.raises(MissingError, match=r"^no someone/answers$"):
        load("someone/answers", "eval")
