"""The demo set, checked against the facts it was written from."""

import hashlib
import re
import string
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer

from compresskit.data import Split, demo, reading
from compresskit.data.demo import DemoConfig, Passage
from compresskit.data.demo_language import PERSON_RELATIONS, TOWN_RELATIONS

SMALL = DemoConfig(train_questions=900, eval_questions=300)
SPLITS: tuple[Split, Split] = ("train", "eval")


@pytest.fixture(scope="module")
def passages() -> dict[Split, list[Passage]]:
    return {split: list(demo.passages(split)) for split in SPLITS}


@pytest.fixture(scope="module")
def tokenizer() -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer({word: i for i, word in enumerate(demo.vocabulary())}, lowercase=True)


def test_facts_stand_where_they_say(passages: dict[Split, list[Passage]]) -> None:
    for passage in passages["train"]:
        assert all(passage.text.startswith(fact.value, fact.start) for fact in passage.facts)
        assert {fact.entity for fact in passage.facts if fact.entity not in passage.text} == set()
        assert max(Counter((fact.entity, fact.relation) for fact in passage.facts).values()) == 1
        assert max(Counter((fact.relation, fact.value) for fact in passage.facts).values()) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_one_fact_answers_or_none(passages: dict[Split, list[Passage]], split: Split) -> None:
    for passage in passages[split]:
        for question in passage.questions:
            assert question.entity in question.text
            matching = [
                fact for fact in passage.facts if (fact.entity, fact.relation) == (question.entity, question.relation)
            ]
            assert matching == ([] if question.fact is None else [question.fact])


def test_questions_need_entity_and_relation(passages: dict[Split, list[Passage]]) -> None:
    """Most answers have a rival of the same relation, and unanswerable questions are about what is told."""
    rivals, answerable, half_true, unanswerable = 0, 0, 0, 0
    for passage in passages["train"]:
        for question in passage.questions:
            same_relation = any(
                fact.relation == question.relation and fact.entity != question.entity for fact in passage.facts
            )
            same_entity = any(
                fact.entity == question.entity and fact.relation != question.relation for fact in passage.facts
            )
            if question.fact is None:
                unanswerable += 1
                half_true += same_relation or same_entity
            else:
                answerable += 1
                rivals += same_relation
                assert same_entity
    assert rivals / answerable > 0.5
    assert half_true == unanswerable


@pytest.mark.parametrize("split", SPLITS)
def test_a_third_has_no_answer(passages: dict[Split, list[Passage]], split: Split) -> None:
    asked = [question for passage in passages[split] for question in passage.questions]
    assert len(asked) == {"train": 32_000, "eval": 600}[split]
    assert sum(question.fact is None for question in asked) == len(asked) // 3


def test_odd_sizes() -> None:
    config = DemoConfig(eval_questions=11, questions_per_passage=2)
    found = demo.examples("eval", config)
    assert (found.info.questions, found.info.unanswerable, found.info.paragraphs) == (11, 3, 6)


def test_splits_share_no_passage_and_no_person(passages: dict[Split, list[Passage]]) -> None:
    texts = [{passage.text for passage in passages[split]} for split in SPLITS]
    assert not texts[0] & texts[1]
    people = [
        {
            fact.entity
            for passage in passages[split]
            for fact in passage.facts
            if fact.relation in ("job", "home", "born", "employer", "owns")
        }
        for split in SPLITS
    ]
    assert len(people[1]) > 200
    assert not people[0] & people[1]


def test_varied_and_short(passages: dict[Split, list[Passage]], tokenizer: BertWordPieceTokenizer) -> None:
    relations = {question.relation for passage in passages["eval"] for question in passage.questions}
    assert len(relations) == 10
    values = {fact.value for passage in passages["eval"] for fact in passage.facts}
    assert sum(" " in value for value in values) > len(values) / 3
    lengths = [
        len(tokenizer.encode(question.text, passage.text).ids)
        for passage in passages["train"]
        for question in passage.questions
    ]
    assert max(lengths) <= 128
    assert sorted(lengths)[len(lengths) // 2] <= 80


def test_same_bytes_on_every_machine(tmp_path: Path) -> None:
    train, evaluation = demo.write(tmp_path / "new", SMALL)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in (train, evaluation)]
    assert digests == ["8f40031c19fde011", "d8915ccaa1391c45"]
    assert demo.squad_json("train", SMALL) != demo.squad_json("train", DemoConfig(seed=1, train_questions=900))


def test_examples_are_those_of_the_file(tmp_path: Path) -> None:
    for split, path in zip(SPLITS, demo.write(tmp_path, SMALL), strict=True):
        found = demo.examples(split, SMALL)
        assert list(found) == list(reading.read(path))
        assert found.info.path == "demo"
        assert found.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert found.info.repaired == 0


def test_vocabulary_has_every_word_whole(
    passages: dict[Split, list[Passage]], tokenizer: BertWordPieceTokenizer
) -> None:
    vocabulary = demo.vocabulary()
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(vocabulary)) == len(vocabulary) < 1200
    assert vocabulary == demo.vocabulary()
    for passage in passages["train"] + passages["eval"]:
        for text in (passage.text, *(question.text for question in passage.questions)):
            tokens = tokenizer.encode(text, add_special_tokens=False).tokens
            assert tokens == re.findall(r"[a-z]+|[0-9]+|[^a-z0-9 ]", text.lower())


def test_words_are_told_by_whether_answers_have_them(passages: dict[Split, list[Passage]]) -> None:
    answers, others = demo.whole_words()
    assert not {*answers} & {*others}
    for passage in passages["train"] + passages["eval"]:
        assert {word for fact in passage.facts for word in fact.value.split()} <= {*answers}
        for text in (passage.text, *(question.text for question in passage.questions)):
            assert {word.strip(".,?") for word in text.split()} <= {*answers, *others}


def test_words_that_tell_a_relation() -> None:
    told, names = demo.telling_words(), [relation.name for relation in PERSON_RELATIONS + TOWN_RELATIONS]
    assert [names[number] for number in told["founded"]] == ["founded"]
    assert [names[number] for number in told["work"]] == ["job", "employer"]
    assert not {"the", "of", "is", "", "v"} & told.keys()


def test_vocabulary_spells_any_ascii(tokenizer: BertWordPieceTokenizer) -> None:
    for text in (string.printable, "Xylograph's q7z8 <a@b.c>", "snake_case \\ {~}"):
        tokens = tokenizer.encode(text, add_special_tokens=False).tokens
        assert "[UNK]" not in tokens
        joined = "".join(token.removeprefix("##") if len(token) > 1 else token for token in tokens)
        assert joined == "".join(text.lower().split())
