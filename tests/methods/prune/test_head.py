"""Whose question-answering head a pruned model has: the teacher's, its own, that of label words, or a new one."""

from pathlib import Path

import pytest
import torch

from compresskit.methods.prune.head import label_head, set_head
from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from tests import tiny
from tests.models.lstm import small
from tests.models.tiny import KINDS, Kind, save


def opened(folder: Path) -> TrainableModel:
    return load_trainable(resolve(str(folder)))


def is_own(student: TrainableModel) -> bool:
    """Whether the head is the one that `tiny.bert` started with."""
    own, first = student.model, tiny.bert()
    return all(torch.equal(own.get_parameter(name), first.get_parameter(name)) for name in HEAD)


HEAD = ("qa_outputs.weight", "qa_outputs.bias")


class Headless(EncoderFamily):
    """Models whose base gives the logits itself."""

    def head(self, model: object) -> set[str]:
        return set()


def test_the_teachers_head() -> None:
    student, teacher = tiny.loaded(missing_head=True), tiny.loaded(model=tiny.bert(seed=5))
    assert set_head(student, teacher) == "teacher"
    assert not student.missing_head
    for name in HEAD:
        assert torch.equal(student.model.get_parameter(name), teacher.model.get_parameter(name))
    own = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(student.model.get_parameter(own), teacher.model.get_parameter(own))


def test_the_own_head() -> None:
    student = tiny.loaded()
    assert set_head(student, None) == "base"
    assert is_own(student)


def test_a_wider_teacher_has_no_head_to_give() -> None:
    student = tiny.loaded()
    assert set_head(student, tiny.loaded(model=tiny.bert(hidden=32))) == "base"
    assert is_own(student)


@pytest.mark.parametrize(("missing", "chosen"), [(False, "base"), (True, "trained")])
def test_an_empty_head_is_not_copied(missing: bool, chosen: str, tmp_path: Path) -> None:
    """There is nothing that the teacher could give; every name of none is found in the teacher."""
    folder = tiny.checkpoint(tmp_path / "tiny")
    student = tiny.loaded(folder, family=Headless(), missing_head=missing)
    teacher = tiny.loaded(family=Headless(), model=tiny.bert(seed=5))
    assert set_head(student, teacher) == chosen
    assert student.missing_head == missing
    assert is_own(student)


def test_a_teacher_of_other_parameters_has_no_head_to_give(tmp_path: Path) -> None:
    student = tiny.loaded()
    assert set_head(student, small.loaded(tmp_path)) == "base"
    assert is_own(student)


def test_a_head_that_nobody_gives_is_trained(tmp_path: Path) -> None:
    student = opened(save("bert", tmp_path / "bert", head="none"))
    assert set_head(student, None) == "trained"
    assert student.missing_head


def test_a_head_of_label_words_is_not_missing(tmp_path: Path) -> None:
    student = opened(save("bert", tmp_path / "bert", head="mlm"))
    assert student.missing_head
    assert set_head(student, None) == "labels"
    assert not student.missing_head


# The label words' embeddings.


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_masked_lm_base_gets_the_embeddings_of_yes_and_no(kind: Kind, tmp_path: Path) -> None:
    loaded = opened(save(kind, tmp_path / kind, head="mlm"))
    assert loaded.missing_head
    assert label_head(tmp_path / kind, loaded.model, loaded.tokenizer)
    embeddings = loaded.model.get_input_embeddings().get_parameter("weight")
    yes, no = (loaded.tokenizer.get_vocab()[word] for word in ("yes", "no"))
    weight, bias = (loaded.model.get_parameter(f"qa_outputs.{name}") for name in ("weight", "bias"))
    assert torch.equal(weight, torch.stack((embeddings[yes], embeddings[no])))
    assert bias.tolist() == [0.0, 0.0]


REFUSED = [
    *(pytest.param(kind, "none", True, id=f"{kind} without a head") for kind in KINDS),
    pytest.param("electra", "mlm", True, id="embeddings of another width"),
    pytest.param("bert", "mlm", False, id="no such word"),
]


@pytest.mark.parametrize(("kind", "head", "knows_yes"), REFUSED)
def test_other_bases_keep_their_random_head(kind: Kind, head: str, knows_yes: bool, tmp_path: Path) -> None:
    folder = save(kind, tmp_path / kind, head=head)
    loaded = opened(folder)
    if not knows_yes:
        words = loaded.tokenizer.get_vocab()
        words["zzz"] = words.pop("yes")
        loaded.tokenizer = type(loaded.tokenizer)(vocab=words)
    before = {name: loaded.model.get_parameter(name).clone() for name in loaded.family.head(loaded.model)}
    assert not label_head(folder, loaded.model, loaded.tokenizer)
    assert all(torch.equal(loaded.model.get_parameter(name), value) for name, value in before.items())
