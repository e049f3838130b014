"""Prompts: what a template must hold, and what is read from files."""

import json
from pathlib import Path

import pytest

from compresskit.errors import InputError
from compresskit.models.prompt import PROMPTS, Prompt, read_prompt


def test_the_default_is_that_of_t5() -> None:
    assert PROMPTS["t5"].text("Who?", "Ada {question}.") == "question: Who?  context: Ada {question}."


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_its_parts(name: str) -> None:
    prompt = read_prompt(name)
    assert prompt.text("Q", "C") == prompt.template.replace("{question}", "Q").replace("{context}", "C")
    assert prompt.text("Q {context}", "C {question}").count("{") == 2
    assert prompt.answer(prompt.target("Ada")) == "Ada"
    assert Prompt.from_dict(json.loads(json.dumps(prompt.to_dict())), "there") == prompt


def test_an_answer_ends_at_the_first_stop() -> None:
    prompt = Prompt("{question} {context}", stop=("\n", " Question:"))
    assert prompt.answer(" Ada Question: more\nthan") == "Ada"
    assert prompt.answer("Ada\nQuestion: more") == "Ada"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"template": "F: {question} K: {context} A:", "unanswerable": "keine", "stop": ["\n"]}))
    assert read_prompt(str(path)) == Prompt("F: {question} K: {context} A:", "keine", ("\n",))


BROKEN: dict[str, tuple[object, str]] = {
    "no context": ({"template": "{question}"}, r"holds \{context\} not once; write it there once"),
    "a question twice": ({"template": "{question} {question} {context}"}, r"holds \{question\} not once"),
    "no template": ({"unanswerable": "no"}, "'template' is missing"),
    "an unknown key": (
        {"template": "{question}{context}", "system": "x"},
        "'system' is unknown; take of template, unan",
    ),
    "a stop that is a text": ({"template": "{question}{context}", "stop": "x"}, "stop is a list of texts"),
    "an empty stop": ({"template": "{question}{context}", "stop": [""]}, "is empty; leave it out"),
    "an empty word": ({"template": "{question}{context}", "unanswerable": " "}, "word for unanswerable is empty"),
    "a number": ({"template": 7}, "stop is a list of texts, all else are texts"),
    "a list": ([], "is not a prompt: write an object with the keys"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_a_prompt(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as raised:
        read_prompt(str(path))
    assert f"--prompt-template {path}" in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; give one, or a name of t5, lines, plain"):
        read_prompt(str(tmp_path / "nothing"))
    for content in (b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "p.json").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_prompt(str(tmp_path / "p.json"))
