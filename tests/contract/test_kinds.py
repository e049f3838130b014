"""What every kind of checkpoint must fulfil. A new one is tested by being registered (see makers.py)."""

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compresskit.checkpoint.manifest import FILE, Manifest
from compresskit.cli.app import main
from compresskit.errors import InputError
from compresskit.models.answering import AnswerOptions
from compresskit.models.kind import Kind
from compresskit.models.kinds import KINDS, base_source, checkpoint_files, fingerprint, kind_of
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load, load_trainable
from compresskit.models.source import Source
from tests import tiny
from tests.contract import makers
from tests.listing import unlisted

NAMES = [kind.name for kind in KINDS]


@dataclass(frozen=True)
class Case:
    """A checkpoint of a kind, as numbered by whoever made it."""

    kind: Kind
    folder: Path
    counted: makers.Counted

    @property
    def source(self) -> Source:
        return Source(str(self.folder), self.folder)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """One checkpoint of each kind, made when it is asked for; all of them beside their base."""
    root = tmp_path_factory.mktemp("kinds")
    base = tiny.checkpoint(root / "base", hidden=64)  # what bitsandbytes packs is blocks of 64 weights
    known: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in known:
            counted = makers.of_kind(name, base, root / name)
            known[name] = Case(next(kind for kind in KINDS if kind.name == name), root / name, counted)
        return known[name]

    return case


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


@pytest.fixture
def copy(case: Case, tmp_path: Path) -> Case:
    """The checkpoint with its base, to be changed."""
    shutil.copytree(case.folder.parent, tmp_path / "all")
    folder = tmp_path / "all" / case.folder.name
    for path in folder.glob("adapter_config.json"):  # PEFT writes the base's whole path
        path.write_text(path.read_text().replace(str(case.folder.parent), str(tmp_path / "all")))
    return Case(case.kind, unlisted(folder), case.counted)


def test_a_kind_without_a_maker_is_told() -> None:
    with pytest.raises(pytest.fail.Exception, match="register a maker for the kind nobody"):
        makers.of_kind("nobody", Path(), Path())


def test_names_are_unlike() -> None:
    assert len(set(NAMES)) == len(KINDS)


def test_it_owns_exactly_its_folders(case: Case, cases: Callable[[str], Case]) -> None:
    assert kind_of(case.source) is case.kind
    last = KINDS[-1]  # it is asked last, and owns what is left
    for other in map(cases, NAMES):
        owned = case.kind.owns(other.folder, other.source.manifest)
        assert owned == (case.kind in (other.kind, last))


def test_a_manifest_says_it_all(case: Case, tmp_path: Path) -> None:
    Manifest("encoder", case.kind.name, None, []).write(tmp_path)
    assert kind_of(Source("bare", tmp_path)) is case.kind


def test_it_opens_and_answers(case: Case) -> None:
    loaded = load(str(case.folder), device="cpu")
    assert loaded.kind is case.kind
    assert (loaded.ref, loaded.path) == (str(case.folder), case.folder)
    assert not loaded.missing_head
    assert set(loaded.files) == set(checkpoint_files(case.source))
    questions = tiny.examples(3)
    found = list(loaded.task.answer(loaded, questions, AnswerOptions(48, 8, null_threshold=1e9)))
    assert [each.id for each in found] == [question.id for question in questions]
    assert all(each.text for each in found)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_weight_that_is_not_finite_is_told_by_name(copy: Case, number: float) -> None:
    files = sorted(copy.folder.glob("*.safetensors"))
    if not files:
        pytest.skip("a graph is opened by onnxruntime, which does not tell its weights")
    file = files[-1]  # of a mask: what was learned beside it
    tensors = load_file(file)
    name = max(name for name, tensor in tensors.items() if tensor.is_floating_point() and ".absmax" not in name)
    tensors[name].view(-1)[-1] = number
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="has weights that are not numbers") as caught:
        load(str(copy.folder), device="cpu")
    parts = name.removeprefix("base_model.model.").split(".")
    assert ".".join(parts[:-2]) in str(caught.value)
    assert parts[-2] in str(caught.value)


def test_it_stands_on_what_it_says(copy: Case) -> None:
    base = base_source(copy.source)
    assert (base is None) == (not copy.kind.stands_on)
    if base is None:
        return
    assert kind_of(base).name in copy.kind.stands_on
    for name in set(NAMES) - copy.kind.stands_on:
        Manifest("encoder", next(kind.name for kind in KINDS if kind.name == name), None, []).write(base.path)
        with pytest.raises(InputError, match=f"of kind {name}") as caught:
            base_source(Source(str(copy.folder), copy.folder))
        assert caught.value.exit_code == 3
        (base.path / FILE).unlink()
    shutil.rmtree(base.path)
    with pytest.raises(InputError, match="base"):
        load(str(copy.folder), device="cpu")


def test_it_is_trained_or_says_what_is(case: Case) -> None:
    if case.kind.trainable:
        loaded = load_trainable(case.source)
        assert isinstance(loaded, TrainableModel)
        assert any(parameter.requires_grad for parameter in loaded.model.parameters())
        return
    with pytest.raises(InputError) as caught:
        load_trainable(case.source)
    assert caught.value.exit_code == 3
    assert case.kind.instead
    assert str(caught.value).endswith(case.kind.instead.format(ref=case.folder))


def test_contents_are_told_without_a_model(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(*_: Any, **__: Any) -> Any:
        pytest.fail("a model was built")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", built)
    monkeypatch.setattr(transformers.AutoModelForQuestionAnswering, "from_pretrained", built)
    monkeypatch.setattr(torch.nn.Module, "__init__", built)
    found = case.kind.contents(case.source)
    assert found.matrices or found.facts
    for matrix in found.matrices:
        assert matrix.size == torch.Size(matrix.shape).numel()
        assert matrix.remaining is None or 0 <= matrix.remaining <= matrix.size


def test_inspect_shows_it(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(case.folder)]) == 0
    assert re.search(rf"^kind +{case.kind.name}\b", capsys.readouterr().out, re.MULTILINE)


def test_its_parameters_are_counted(case: Case) -> None:
    stored = case.kind.stored(load(str(case.folder), device="cpu"))
    assert (stored.total, stored.nonzero) == (case.counted.total, case.counted.nonzero)


def fingerprint_or_error(case: Case) -> str:
    """An overlay whose base is another one now has no fingerprint."""
    try:
        return fingerprint(str(case.folder))
    except InputError as error:
        return str(error)


def test_its_fingerprint_is_that_of_what_it_needs(copy: Case) -> None:
    before, files = fingerprint(str(copy.folder)), checkpoint_files(copy.source)
    assert any(path.parent == copy.folder for path in files)
    for name in ("log.jsonl", ".hidden"):
        (copy.folder / name).write_text("{}\n")
    assert fingerprint(str(copy.folder)) == before
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert fingerprint_or_error(copy) != before, path
        path.write_bytes(content)
    assert fingerprint(str(copy.folder)) == before
