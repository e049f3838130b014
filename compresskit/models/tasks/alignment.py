"""How a teacher's logits reach a student's windows: token by token where both have the same tokens, else by characters.

With other tokens, the logits are mapped through the characters of the context.
A teacher's token gives its start logit to the student's token that holds its first character, and its end logit to the
one that holds its last; where several meet, their probabilities add. Each of the student's windows is shown to the
teacher as a context of its own, cut into the teacher's windows where it is too long for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compresskit.data.examples import Example
from compresskit.models.answering import WindowOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.task import Ask, Kept, Lesson
from compresskit.models.tasks.windows import CHUNK, Windows, chunked, encode, null_position

# The teacher's windows, in its tokens: what encoders read at most, and the overlap that SQuAD's readers use.
LONGEST, STRIDE = 512, 128
# Texts whose tokens tell two tokenizers of the same vocabulary apart: case, accents, digits, punctuation.
_PROBES = ("Où est l'Élysée?", "The 2,000-year-old COLISEUM isn't in São Paulo.", "a_b c-d e.f 1990s")

_Floats = NDArray[np.float32]
_Offsets = NDArray[np.int64]


def same_tokens(teacher: LoadedModel, student: LoadedModel) -> bool:
    """Whether teacher and student cut every text into the same tokens, with the same numbers."""
    ours, theirs = student.tokenizer, teacher.tokenizer
    return theirs.get_vocab() == ours.get_vocab() and all(
        theirs.encode(text) == ours.encode(text) and theirs.tokenize(text) == ours.tokenize(text) for text in _PROBES
    )


class SameTokens:
    """A teacher whose tokens are the student's reads the student's own windows."""

    def key(self, lesson: Lesson) -> str:
        """Nothing beside the features."""
        return ""

    def kept(self, lesson: Lesson, ask: Ask) -> Iterator[tuple[int, Kept]]:
        """The teacher's own logits."""
        return ask(lesson.features, lesson.features.lengths)


@dataclass(frozen=True, slots=True)
class ThroughCharacters:
    """A teacher of other tokens reads what the student's windows show, and its logits are mapped through characters."""

    teacher: LoadedModel
    student: LoadedModel

    def key(self, lesson: Lesson) -> str:
        """The texts: words differ in them that are the same unknown one to the student."""
        return f"{lesson.examples.info.sha256} {len(lesson.examples)}"

    def kept(self, lesson: Lesson, ask: Ask) -> Iterator[tuple[int, Kept]]:
        """The teacher's logits at the tokens of each of the student's windows."""
        number = 0
        for chunk in chunked(lesson.examples, CHUNK):
            shown = show(self.teacher, self.student, chunk, lesson.windows)
            logits: list[_Floats] = []
            if shown.taught is not None:
                encoding = shown.taught.encoding
                pairs = zip(encoding["input_ids"], encoding["token_type_ids"], strict=True)
                windows = [{"input_ids": ids, "token_type_ids": types} for ids, types in pairs]
                answered = dict(ask(windows, np.array([len(window["input_ids"]) for window in windows])))
                logits = [answered[index]["teacher"] for index in range(len(windows))]
            for mapped in to_student(shown, logits, self.teacher, self.student):
                yield number, {"teacher": mapped}
                number += 1


@dataclass(frozen=True, slots=True)
class Shown:
    """What the teacher is shown of a chunk of examples.

    `windows` are the student's; `snippets` holds a question for each that shows any context, of the window `numbers`;
    `taught` are the teacher's windows of the snippets.
    """

    windows: Windows
    numbers: Sequence[int]
    snippets: Sequence[Example]
    taught: Windows | None


def teacher_windows(teacher: LoadedModel) -> WindowOptions:
    """How the teacher's windows are cut, in its tokens."""
    length = min(teacher.family.max_positions(teacher.model.config) or LONGEST, LONGEST)
    return WindowOptions(length, min(STRIDE, length // 4))


def show(teacher: LoadedModel, student: LoadedModel, examples: Sequence[Example], options: WindowOptions) -> Shown:
    """Cut a chunk of examples into the student's windows, and each of those into the teacher's."""
    windows = encode(student.tokenizer, examples, options)
    numbers, snippets = [], []
    for window, offsets in enumerate(_context_offsets(windows)):
        if len(offsets):
            example = examples[windows.example[window]]
            numbers.append(window)
            snippets.append(replace(example, context=example.context[offsets[0, 0] : offsets[-1, 1]], answers=()))
    taught = encode(teacher.tokenizer, snippets, teacher_windows(teacher)) if snippets else None
    return Shown(windows, numbers, snippets, taught)


def to_student(
    shown: Shown, logits: Sequence[_Floats], teacher: LoadedModel, student: LoadedModel
) -> Iterator[_Floats]:
    """The teacher's logits at the tokens of each of the student's windows, shape (length, 2), -inf where it has none.

    `logits` are those of the teacher's windows, shape (length, 2) each. "No answer" has the least start and the
    least end logit of the teacher's windows; a window that shows no context is unanswerable for certain.
    """
    found = _by_snippet(shown, logits, teacher.tokenizer)
    numbers = {window: snippet for snippet, window in enumerate(shown.numbers)}
    for window, offsets in enumerate(_context_offsets(shown.windows)):
        ids = shown.windows.encoding["input_ids"][window]
        mapped = np.full((len(ids), 2), -np.inf, np.float32)
        null = np.zeros(2, np.float32)
        if window in numbers:
            context = mapped[shown.windows.context_start[window] : shown.windows.context_end[window]]
            nulls = []
            for theirs, values, null_logits in found[numbers[window]]:
                np.maximum(context, spread(theirs + offsets[0, 0], values, offsets), out=context)
                nulls.append(null_logits)
            null = np.min(nulls, axis=0)
        mapped[null_position(student.tokenizer, ids)] = null
        yield mapped


def spread(theirs: _Offsets, values: _Floats, ours: _Offsets) -> _Floats:
    """Logits (n, 2) of tokens with characters `theirs` (n, 2) at the tokens with characters `ours` (m, 2): (m, 2).

    A start in white space belongs to the token after it, an end to the token before it. Of several tokens of one
    character (its bytes) the first is meant, as in the labels; tokens without characters get nothing. Meeting logits
    are joined by the logarithm of the sum of their exponentials; a token that none belongs to has -inf.
    """
    mapped = np.full((len(ours), 2), -np.inf, np.float32)
    solid = np.flatnonzero(ours[:, 1] > ours[:, 0])
    if not len(solid):
        return mapped
    begins, ends = ours[solid].T
    last = theirs[:, 1] - 1
    # The first token that ends after a character holds it, or is the next one.
    at_start, at_end = (np.searchsorted(ends, where, side="right") for where in (theirs[:, 0], last))
    at_end -= begins[at_end.clip(max=len(solid) - 1)] > last
    for side, places in enumerate((at_start, at_end)):
        first = np.searchsorted(ends, ends[places.clip(0, len(solid) - 1)])
        np.logaddexp.at(mapped[:, side], solid[first], values[:, side])
    return mapped


def _by_snippet(
    shown: Shown, logits: Sequence[_Floats], tokenizer: PreTrainedTokenizerFast
) -> list[list[tuple[_Offsets, _Floats, _Floats]]]:
    """For each snippet and each window of it: characters and logits of the context's tokens, and the null logits."""
    found: list[list[tuple[_Offsets, _Floats, _Floats]]] = [[] for _ in shown.snippets]
    if shown.taught is None:
        return found
    for window, offsets in enumerate(_context_offsets(shown.taught)):
        inside = slice(shown.taught.context_start[window], shown.taught.context_end[window])
        null = null_position(tokenizer, shown.taught.encoding["input_ids"][window])
        values = logits[window]
        found[shown.taught.example[window]].append((offsets, values[inside], values[null]))
    return found


def _context_offsets(windows: Windows) -> Iterator[_Offsets]:
    """The characters [begin, end) of the context's tokens of each window, shape (tokens, 2)."""
    encodings = windows.encoding.encodings
    assert encodings is not None
    for encoding, first, last in zip(encodings, windows.context_start, windows.context_end, strict=True):
        yield np.asarray(encoding.offsets[first:last], np.int64).reshape(-1, 2)
