"""The built-in demo set: short invented passages and questions about them, from a seeded generator.

A passage tells several things about several people and towns, and the same kind of thing about more than one
of them, so a question can be answered only by matching the entity *and* the relation it names. A third of the
questions have no answer: the entity stands in the passage without that relation, or the relation without that
entity. No name of a person occurs in both splits.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compresskit.data import Split, reading
from compresskit.data import demo_language as words
from compresskit.data.checks import Place
from compresskit.data.demo_language import PERSON_RELATIONS, TOWN_RELATIONS, Relation
from compresskit.data.examples import ExampleSet
from compresskit.data.json_pieces import of_paragraph
from compresskit.data.pieces import Article, Piece


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Sizes and mixture of the demo set; rates are probabilities.

    A passage has `entities` (at least, at most) people and towns, each with `facts` (at least, at most) of
    the `relations` that its kind draws for the passage; two facts stand in one sentence at the rate `joined`.
    A sentence that follows one about the same entity names it by a pronoun, or a person by the surname, at
    the rates `pronouns` and `surnames`. A fact is told in a sentence that does not begin with its entity at
    the rate `inverted`. An unanswerable question asks for an entity that is absent at the rate `absent`, and
    of the absent people a share `near_names` has the first name of one who is not.
    """

    seed: int = 20
    train_questions: int = 32_000
    eval_questions: int = 600
    questions_per_passage: int = 3
    passages_per_article: int = 40
    entities: tuple[int, int] = (2, 3)
    facts: tuple[int, int] = (2, 2)
    relations: int = 2
    joined: float = 0.1
    pronouns: float = 0.05
    surnames: float = 0.05
    inverted: float = 0.05
    absent: float = 0.35
    near_names: float = 0.1


DEFAULT = DemoConfig()

_Pools = dict[tuple[Relation, ...], list[Relation]]


@dataclass(frozen=True, slots=True)
class Entity:
    """A person or a town; `short` and `pronoun` are what later sentences may call it."""

    name: str
    short: str
    pronoun: str
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """`relation` of `entity` is `value`, which stands at character `start` of the passage."""

    entity: str
    relation: str
    value: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question for `relation` of `entity`; `fact` is the one that answers it, None if there is none."""

    text: str
    entity: str
    relation: str
    fact: Fact | None


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, all that it tells, and the questions about it."""

    text: str
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]


def passages(split: Split, config: DemoConfig = DEFAULT) -> Iterator[Passage]:
    """The passages of a split; every third question of the split has no answer."""
    rng = random.Random(f"{config.seed} {split}")  # a string is hashed the same way on every machine
    total = config.train_questions if split == "train" else config.eval_questions
    for first in range(0, total, config.questions_per_passage):
        asked = range(first, min(first + config.questions_per_passage, total))
        yield _Author(rng, split, config).passage([index % 3 != 2 for index in asked])


def squad_json(split: Split, config: DemoConfig = DEFAULT) -> bytes:
    """A split as SQuAD 2.0 JSON; the same bytes for the same configuration on every machine."""
    return _json(_articles(split, config))


def _json(articles: list[dict[str, Any]]) -> bytes:
    return (json.dumps({"version": "v2.0", "data": articles}) + "\n").encode()


def _articles(split: Split, config: DemoConfig) -> list[dict[str, Any]]:
    """The articles of a split, as SQuAD has them."""
    articles: list[dict[str, Any]] = []
    number = 0
    paragraphs: list[dict[str, object]] = []
    for index, passage in enumerate(passages(split, config)):
        if index % config.passages_per_article == 0:
            paragraphs = []
            articles.append({"title": f"Chronicle {len(articles) + 1}", "paragraphs": paragraphs})
        qas = []
        for question in passage.questions:
            fact = question.fact
            answers = [] if fact is None else [{"text": fact.value, "answer_start": fact.start}]
            qas.append(
                {
                    "id": f"demo-{split}-{number:05d}",
                    "question": question.text,
                    "answers": answers,
                    "is_impossible": fact is None,
                }
            )
            number += 1
        paragraphs.append({"context": passage.text, "qas": qas})
    return articles


def write(directory: Path, config: DemoConfig = DEFAULT) -> tuple[Path, Path]:
    """Write both splits to `directory` as demo-train.json and demo-eval.json; their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    train, eval = directory / "demo-train.json", directory / "demo-eval.json"
    train.write_bytes(squad_json("train", config))
    eval.write_bytes(squad_json("eval", config))
    return train, eval


@functools.lru_cache(maxsize=2)  # a process that makes several checkpoints asks for it again and again
def examples(split: Split, config: DemoConfig = DEFAULT) -> ExampleSet:
    """A split, as it is read from its JSON; its info calls it "demo" and has the hash of that JSON."""
    articles = _articles(split, config)

    def pieces() -> Iterator[Piece]:
        for number, article in enumerate(articles):
            for paragraph in article["paragraphs"]:
                yield from of_paragraph(paragraph, Place(f"article {number}"))
            yield Article(article["title"])

    store, counts = reading.built(pieces, "demo", "mend")
    return ExampleSet(store, "demo", hashlib.sha256(_json(articles)).hexdigest(), counts=counts)


def vocabulary() -> list[str]:
    """A WordPiece vocabulary for the demo set, lower case: special tokens, single characters, whole words.

    Every printable ASCII text can be spelled with it, but for words beyond the tokenizer's own length limit.
    """
    characters = string.ascii_lowercase + string.digits
    known = [*string.punctuation, *characters, *(f"##{c}" for c in characters)]
    found: set[str] = set()
    thousands = map(str, (*words.THOUSANDS, *words.HUNDREDS))
    for text in (*_answer_parts(), *thousands, *_other_parts()):
        found.update(re.findall(r"[a-z]+|[0-9]+", text.lower()))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + known + sorted(found - set(known))


def whole_words() -> tuple[list[str], list[str]]:
    """Whole words as the demo set writes them, without punctuation around them: those that answers have, and others."""
    answers = {word for text in _answer_parts() for word in text.split()}
    answers.update(f"{thousands},{hundreds}" for thousands in words.THOUSANDS for hundreds in words.HUNDREDS)
    others = {word.strip(string.punctuation) for text in _other_parts() for word in text.split()}
    return sorted(answers), sorted(others - answers - {""})


def telling_words() -> dict[str, list[int]]:
    """Words that tell what a sentence or a question is about, with the numbers of the relations that have them.

    A word that more than two relations have tells nothing.
    """
    found: dict[str, list[int]] = {}
    for number, relation in enumerate((*PERSON_RELATIONS, *TOWN_RELATIONS)):
        patterns = " ".join((*relation.predicates, *relation.sentences, *relation.questions))
        for word in {word.strip(string.punctuation) for word in re.sub(r"\{\w+\}", " ", patterns).split()} - {""}:
            found.setdefault(word, []).append(number)
    return {word: numbers for word, numbers in sorted(found.items()) if len(numbers) <= 2}


def _answer_parts() -> Iterator[str]:
    """Everything that an answer can be made of."""
    for names in (words.WOMEN, words.MEN, words.SURNAMES, words.TOWNS, words.TOWN_PREFIXES):
        yield from names
    for names in (words.JOBS, words.EMPLOYER_NAMES, words.EMPLOYER_KINDS, words.MONTHS, words.RIVERS):
        yield from names
    yield from (*words.MATERIALS, *words.GOODS)
    for numbers in (words.BIRTH_YEARS, words.FOUNDING_YEARS, words.DAYS, words.COUNTS):
        yield from map(str, numbers)


def _other_parts() -> Iterator[str]:
    """Everything else that a passage or a question can be made of."""
    yield from (*words.THINGS, "a", "an", "and", "She", "He", "It")
    for relation in (*PERSON_RELATIONS, *TOWN_RELATIONS):
        for pattern in (*relation.predicates, *relation.sentences, *relation.questions):
            yield re.sub(r"\{\w+\}", " ", pattern)


class _Author:
    """Writes one passage; every name and every value of a relation occurs once in it."""

    def __init__(self, rng: random.Random, split: Split, config: DemoConfig) -> None:
        self._rng = rng
        self._split = split
        self._config = config
        self._thing = rng.choice(words.THINGS)
        self._used: set[str] = set()
        self._text = ""
        self._facts: list[Fact] = []

    def passage(self, answerable: list[bool]) -> Passage:
        """A passage with one question for each item: with an answer where it is True."""
        rng, config = self._rng, self._config
        people, towns = self._cast()
        pools: _Pools = {kind: rng.sample(kind, config.relations) for kind in (PERSON_RELATIONS, TOWN_RELATIONS)}
        told: list[tuple[Entity, list[Relation]]] = []
        for entity in people + towns:
            pool = pools[entity.relations]
            told.append((entity, rng.sample(pool, min(rng.randint(*config.facts), len(pool)))))
        rng.shuffle(told)
        for entity, relations in told:
            self._tell(entity, relations)
        answers = rng.sample(self._facts, sum(answerable))
        questions = [
            self._ask_for(answers.pop(), people + towns) if wanted else self._unanswerable(told, pools)
            for wanted in answerable
        ]
        return Passage(self._text, tuple(self._facts), tuple(questions))

    # Entities

    def _cast(self) -> tuple[list[Entity], list[Entity]]:
        """People, at least one, and towns."""
        count = self._rng.randint(*self._config.entities)
        people = self._rng.randint(1, count)
        return [self._person() for _ in range(people)], [self._town() for _ in range(count - people)]

    def _fresh(self, names: Sequence[str]) -> str:
        name = self._rng.choice([name for name in names if name not in self._used])
        self._used.add(name)
        return name

    def _person(self, first: str | None = None) -> Entity:
        """A person whose surname is new to the passage, and the first name too unless it is given.

        One pairing of first name and surname in five belongs to the eval split, the others to the train
        split.
        """
        first = first or self._fresh(self._rng.choice((words.WOMEN, words.MEN)))
        order = (words.WOMEN + words.MEN).index(first)
        surnames = [
            surname
            for index, surname in enumerate(words.SURNAMES)
            if ((order + index) % 5 == 0) == (self._split == "eval")
        ]
        surname = self._fresh(surnames)
        pronoun = "She" if first in words.WOMEN else "He"
        return Entity(f"{first} {surname}", surname, pronoun, PERSON_RELATIONS)

    def _town(self) -> Entity:
        name = self._fresh(words.TOWNS)
        if self._rng.random() < 0.3:
            name = f"{self._rng.choice(words.TOWN_PREFIXES)} {name}"
        return Entity(name, name, "It", TOWN_RELATIONS)

    # Facts

    def _value(self, relation: str) -> str:
        """A value for `relation` that none of the passage's entities has yet."""
        while True:
            value = self._any_value(relation)
            if not any(fact.value == value for fact in self._facts):
                return value

    def _any_value(self, relation: str) -> str:
        choice = self._rng.choice
        match relation:
            case "job":
                return choice(words.JOBS)
            case "home":
                return self._town().name
            case "born":
                return f"{choice(words.DAYS)} {choice(words.MONTHS)} {choice(words.BIRTH_YEARS)}"
            case "employer":
                return f"{choice(words.EMPLOYER_NAMES)} {choice(words.EMPLOYER_KINDS)}"
            case "owns":
                return str(choice(words.COUNTS))
            case "founded":
                return str(choice(words.FOUNDING_YEARS))
            case "river":
                return choice(words.RIVERS)
            case "people":
                return f"{choice(words.THOUSANDS)},{choice(words.HUNDREDS)}"
            case "mayor":
                return self._person().name
            case "goods":
                return f"{choice(words.MATERIALS)} {choice(words.GOODS)}"
        raise ValueError(relation)

    def _tell(self, entity: Entity, relations: list[Relation]) -> None:
        """Sentences that tell these relations of `entity`, the first of them by its full name."""
        config, rng = self._config, self._rng
        subject = entity.name
        waiting = list(relations)
        while waiting:
            relation = waiting.pop(0)
            if self._text:
                self._text += " "
            if rng.random() < config.inverted:
                self._append(entity, relation, rng.choice(relation.sentences))
            else:
                self._append(entity, relation, f"{subject} {rng.choice(relation.predicates)}")
                if waiting and rng.random() < config.joined:
                    relation = waiting.pop(0)
                    self._append(entity, relation, f" and {rng.choice(relation.predicates)}")
                self._text += "."
            subject = self._later_subject(entity)

    def _later_subject(self, entity: Entity) -> str:
        chance = self._rng.random()
        if chance < self._config.pronouns:
            return entity.pronoun
        return entity.short if chance < self._config.pronouns + self._config.surnames else entity.name

    def _append(self, entity: Entity, relation: Relation, pattern: str) -> None:
        """Add `pattern` to the text, filled, and note the fact."""
        value = self._value(relation.name)
        before, after = pattern.split("{v}")
        fill = {"s": entity.name, "a": "an" if value[0] in "aeiou" else "a", "thing": self._thing}
        self._text += before.format(**fill)
        self._facts.append(Fact(entity.name, relation.name, value, len(self._text)))
        self._text += value + after.format(**fill)

    # Questions

    def _ask(self, entity: str, relation: Relation, fact: Fact | None) -> Question:
        text = self._rng.choice(relation.questions).format(s=entity, thing=self._thing)
        return Question(text, entity, relation.name, fact)

    def _ask_for(self, fact: Fact, entities: list[Entity]) -> Question:
        entity = next(entity for entity in entities if entity.name == fact.entity)
        relation = next(relation for relation in entity.relations if relation.name == fact.relation)
        return self._ask(entity.name, relation, fact)

    def _unanswerable(
        self,
        told: list[tuple[Entity, list[Relation]]],
        pools: _Pools,
    ) -> Question:
        """A question about an absent entity, or for what is told of others but not of the entity it names."""
        rng = self._rng
        untold = [
            (entity, relation)
            for entity, relations in told
            for relation in pools[entity.relations]
            if relation not in relations
        ]
        if not untold or rng.random() < self._config.absent:
            entity, relations = rng.choice(told)
            return self._ask(self._absent(entity).name, rng.choice(relations), None)
        told_names = {fact.relation for fact in self._facts}
        hard = [(entity, relation) for entity, relation in untold if relation.name in told_names]
        entity, relation = rng.choice(hard or untold)
        return self._ask(entity.name, relation, None)

    def _absent(self, like: Entity) -> Entity:
        """An entity that the passage does not name, of the kind of `like`."""
        if like.relations is TOWN_RELATIONS:
            return self._town()
        near = self._rng.random() < self._config.near_names
        return self._person(like.name.split()[0] if near else None)
