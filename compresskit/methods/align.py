"""Logits of a teacher at the tokens of a student that has another tokenizer, mapped through the context's characters.

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
from compresskit.data.features import WindowOptions, Windows, encode, null_position
from compresskit.models.family import LoadedModel

# The teacher's windows, in its tokens: what encoders read at most, and the overlap that SQuAD's readers use.
LONGEST, STRIDE = 512, 128

_Floats = NDArray[np.float32]
_Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the teacher is asked about a chunk of examples.

    `windows` are the student's; `snippets` holds a question for each that shows any context, of the window numbers
    `shown`; `taught` are the teacher's windows of the snippets.
    """

    windows: Windows
    shown: Sequence[int]
    snippets: Sequence[Example]
    taught: Windows | None


def teacher_windows(teacher: LoadedModel) -> WindowOptions:
    """How the teacher's windows are cut, in its tokens."""
    length = min(teacher.family.max_positions(teacher.model.config) or LONGEST, LONGEST)
    return WindowOptions(length, min(STRIDE, length // 4))


def ask(teacher: LoadedModel, student: LoadedModel, examples: Sequence[Example], options: WindowOptions) -> Asked:
    """Cut a chunk of examples into the student's windows, and each of those into the teacher's."""
    windows = encode(student.tokenizer, examples, options)
    shown, snippets = [], []
    for window, offsets in enumerate(_context_offsets(windows)):
        if len(offsets):
            example = examples[windows.example[window]]
            shown.append(window)
            snippets.append(replace(example, context=example.context[offsets[0, 0] : offsets[-1, 1]], answers=()))
    taught = encode(teacher.tokenizer, snippets, teacher_windows(teacher)) if snippets else None
    return Asked(windows, shown, snippets, taught)


def to_student(
    asked: Asked, logits: Sequence[_Floats], teacher: LoadedModel, student: LoadedModel
) -> Iterator[_Floats]:
    """The teacher's logits at the tokens of each of the student's windows, shape (length, 2), -inf where it has none.

    `logits` are those of the teacher's windows, shape (length, 2) each. "No answer" has the least start and the
    least end logit of the teacher's windows; a window that shows no context is unanswerable for certain.
    """
    found = _by_snippet(asked, logits, teacher.tokenizer)
    numbers = {window: snippet for snippet, window in enumerate(asked.shown)}
    for window, offsets in enumerate(_context_offsets(asked.windows)):
        ids = asked.windows.encoding["input_ids"][window]
        mapped = np.full((len(ids), 2), -np.inf, np.float32)
        null = np.zeros(2, np.float32)
        if window in numbers:
            context = mapped[asked.windows.context_start[window] : asked.windows.context_end[window]]
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
    asked: Asked, logits: Sequence[_Floats], tokenizer: PreTrainedTokenizerFast
) -> list[list[tuple[_Offsets, _Floats, _Floats]]]:
    """For each snippet and each window of it: characters and logits of the context's tokens, and the null logits."""
    found: list[list[tuple[_Offsets, _Floats, _Floats]]] = [[] for _ in asked.snippets]
    if asked.taught is None:
        return found
    for window, offsets in enumerate(_context_offsets(asked.taught)):
        inside = slice(asked.taught.context_start[window], asked.taught.context_end[window])
        null = null_position(tokenizer, asked.taught.encoding["input_ids"][window])
        values = logits[window]
        found[asked.taught.example[window]].append((offsets, values[inside], values[null]))
    return found


def _context_offsets(windows: Windows) -> Iterator[_Offsets]:
    """The characters [begin, end) of the context's tokens of each window, shape (tokens, 2)."""
    encodings = windows.encoding.encodings
    assert encodings is not None
    for encoding, first, last in zip(encodings, windows.context_start, windows.context_end, strict=True):
        yield np.asarray(encoding.offsets[first:last], np.int64).reshape(-1, 2)
