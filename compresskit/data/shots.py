"""Examples before a question, which show a model how it is to answer (Brown et al. 2020, arXiv 2005.14165)."""

from __future__ import annotations

import itertools

import numpy as np

from compresskit import console
from compresskit.data.examples import Example, ExampleSet
from compresskit.errors import InputError
from compresskit.text import counted


def check_shown(examples: ExampleSet) -> None:
    """InputError where no example has an answer: a model would be shown that nothing is ever answered."""
    if examples.info.unanswerable == examples.info.questions:
        raise InputError(f"{examples.info.path} has no question with an answer to show; give other --shots-data")


def drawn(examples: ExampleSet, count: int, seed: int) -> list[Example]:
    """So many examples: half of them unanswerable, where there are such, in turn with the others.

    Which they are, and which sort begins, is drawn with the seed: small models copy the last one. Raises InputError
    where no example has an answer.
    """
    check_shown(examples)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(examples))
    first_sort = bool(generator.integers(2))
    sorts: dict[bool, list[Example]] = {True: [], False: []}
    for index in order:
        example = examples[int(index)]
        if len(sorts[bool(example.answers)]) < count:
            sorts[bool(example.answers)].append(example)
        if min(map(len, sorts.values())) >= count:
            break
    turns = itertools.zip_longest(sorts[first_sort], sorts[not first_sort])
    found = [example for turn in turns for example in turn if example is not None]
    if len(found) < count:
        console.warn(f"{examples.info.path} has {counted(len(found), 'example')} to show, {count} were asked for")
    return found[:count]
