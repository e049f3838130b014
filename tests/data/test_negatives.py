"""Constructed negatives against a naive BM25, and what they must never be: answerable."""

import json
import math
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compresskit.data import negatives, reading
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.negatives import SUFFIX, Index, with_negatives, words
from compresskit.errors import InputError, UsageError

WORDS = [f"w{i}" for i in range(60)]


def example_set(folder: Path, paragraphs: list[tuple[str, list[tuple[str, str]]]]) -> ExampleSet:
    """A set of (context, [(question, answer text)]); an empty answer text makes a question unanswerable."""
    content = []
    for number, (context, asked) in enumerate(paragraphs):
        qas = []
        for i, (question, text) in enumerate(asked):
            answers = [{"text": text, "answer_start": context.index(text)}] if text else []
            qas.append({"id": f"{number}-{i}", "question": question, "answers": answers, "is_impossible": not text})
        content.append({"context": context, "qas": qas})
    path = folder / "set.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": content}]}))
    return reading.read(path)


def random_set(folder: Path, seed: int = 0) -> ExampleSet:
    rng = random.Random(seed)
    paragraphs = []
    for _ in range(40):
        context = " ".join(rng.choices(WORDS, k=rng.randint(3, 30)))
        asked = []
        for i in range(4):
            question = " ".join(rng.choices(WORDS, k=rng.randint(1, 8)))
            asked.append((question, rng.choice(context.split()) if i else ""))
        paragraphs.append((context, asked))
    return example_set(folder, paragraphs)


def naive_scores(query: str, documents: list[str]) -> list[float]:
    split = [re.findall(r"\w+", document.casefold()) for document in documents]
    average = sum(map(len, split)) / len(split)
    scores = []
    for document in split:
        score = 0.0
        for word in set(re.findall(r"\w+", query.casefold())):
            count = document.count(word)
            holding = sum(word in other for other in split)
            idf = math.log(1 + (len(split) - holding + 0.5) / (holding + 0.5))
            score += idf * count / (count + 1.2 * (0.25 + 0.75 * len(document) / average))
        scores.append(score)
    return scores


def test_scores_are_those_of_the_formula(tmp_path: Path) -> None:
    documents = [context for _, context in random_set(tmp_path).paragraphs()]
    documents += ["", "Ünïcode w1 W1, w1!", "w1"]
    index = Index(documents)
    for query in ("w1 w2 w2 w3", "W5", "absent", "", "ünïcode w59"):
        assert index.scores(query).tolist() == pytest.approx(naive_scores(query, documents), rel=1e-5)


def test_similarity_is_jaccard() -> None:
    index = Index(["a b c c", "b c d", "e", ""])
    assert index.similarity(0, 1) == 2 / 4
    assert index.similarity(0, 2) == 0
    assert index.similarity(3, 3) == 1


def originals(examples: ExampleSet) -> dict[str, Example]:
    return {example.id: example for example in examples}


def constructed(examples: ExampleSet) -> list[Example]:
    return [example for example in examples if example.id.endswith(SUFFIX)]


def test_each_is_put_to_the_best_paragraph_without_its_answer(tmp_path: Path) -> None:
    examples = random_set(tmp_path)
    found = constructed(with_negatives(examples, 0.9, seed=3))
    assert len(found) == round(0.9 * 120)
    contexts = dict(examples.paragraphs())
    index = Index(contexts.values())
    for negative in found:
        source = originals(examples)[negative.id.removesuffix(SUFFIX)]
        assert negative.question == source.question
        assert negative.is_impossible
        answer = source.answers[0].text
        scores = naive_scores(source.question, list(contexts.values()))
        eligible = [
            scores[number]
            for number, context in contexts.items()
            if number != source.paragraph
            and answer not in context
            and index.similarity(number, source.paragraph) < negatives.NEAR_DUPLICATE
        ]
        assert negative.context == contexts[negative.paragraph]
        assert negative.paragraph != source.paragraph
        assert answer not in negative.context
        assert scores[negative.paragraph] == pytest.approx(max(eligible), rel=1e-5)


def test_the_set_is_extended_and_told(tmp_path: Path) -> None:
    examples = random_set(tmp_path)
    found = with_negatives(examples, 0.5, seed=1)
    assert list(found)[: len(examples)] == list(examples)
    assert found.info.questions == 160 + 60
    assert found.info.unanswerable == 40 + 60
    assert (found.info.path, found.info.sha256) == (examples.info.path, examples.info.sha256)
    assert list(found.select([219, 0])) == [found[219], found[0]]
    assert with_negatives(examples, 0, seed=1) is examples


def test_deterministic_for_a_seed(tmp_path: Path) -> None:
    examples = random_set(tmp_path)
    first = list(with_negatives(examples, 0.5, seed=1))
    assert first == list(with_negatives(examples, 0.5, seed=1))
    assert first != list(with_negatives(examples, 0.5, seed=2))


def test_of_a_part_only_its_paragraphs_are_used(tmp_path: Path) -> None:
    part = random_set(tmp_path).select(range(60, 120))
    found = with_negatives(part, 0.9, seed=1)
    assert {example.paragraph for example in found} <= set(range(15, 30))
    assert found.info.questions == 60 + round(0.9 * 45)


def test_an_answer_in_other_writing_disqualifies(tmp_path: Path) -> None:
    examples = example_set(
        tmp_path,
        [
            ("The tower of Kelby rose in the 1990s.", [("When did the tower of Kelby rise?", "the 1990s")]),
            ("In Kelby the tower has no rival since 1990s.", [("Is it near?", "")]),
            ("The tower of Kelby, they say, THE 1990S.", [("Is it near?", "")]),
            ("A far tower.", [("Is it near?", "")]),
        ],
    )
    assert constructed(with_negatives(examples, 0.9, seed=0))[0].context == "A far tower."


@pytest.mark.parametrize("other", ["In Kelby the tower has no rival since 1990s.", "The tower of Kelby: THE 1990S"])
def test_only_paragraphs_with_the_answer(tmp_path: Path, other: str) -> None:
    examples = example_set(
        tmp_path,
        [
            ("A tower of Kelby rose in the 1990s.", [("When did the tower of Kelby rise?", "the 1990s")]),
            (other, [("Is it near?", "")]),
        ],
    )
    with pytest.raises(InputError, match="lacks its answers"):
        with_negatives(examples, 0.9, seed=0)


def test_near_duplicates_are_passed_over(tmp_path: Path) -> None:
    twin = "Marta Velsen was born in {} in a small house by the sea near Kelby."
    examples = example_set(
        tmp_path,
        [
            (twin.format(1952), [("When was Marta Velsen born?", "1952")]),
            (twin.format(1953), [("Who?", "")]),
            ("Nobody was there when it began.", [("Who was there?", "")]),
        ],
    )
    assert constructed(with_negatives(examples, 0.9, seed=0))[0].context == "Nobody was there when it began."


def test_refusals(tmp_path: Path) -> None:
    examples = random_set(tmp_path)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="--negatives"):
            with_negatives(examples, fraction, seed=0)
    with pytest.raises(InputError, match="at least two paragraphs"):
        with_negatives(examples.select([0, 1, 2, 3]), 0.5, seed=0)


def test_real_questions(shared: Path) -> None:
    examples = reading.read(shared / "data/squad/train.json.gz")
    began = time.process_time()
    found = with_negatives(examples, 0.99, seed=0)
    assert time.process_time() - began < 20
    assert found.info.questions == 22548 + round(0.99 * 18958)
    for index in range(len(examples), len(found), 101):
        negative = found[index]
        assert negative.is_impossible
        assert len(set(words(negative.question)) & set(words(negative.context))) >= 1


def test_jax_is_left_alone(tmp_path: Path) -> None:
    """bm25s starts JAX where it is installed, which takes three quarters of a GPU's memory for itself."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text("raise SystemExit('JAX was imported')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from compresskit.data.negatives import Index\n"
        "assert Index(['one two', 'three']).scores('three').argmax() == 1\n"
        "assert 'jax' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
