"""Figure 2: the scan as a parallel prefix, a tree of combinations; and our scan, chunk after chunk."""

from __future__ import annotations

from collections.abc import Sequence

from compresskit.models.mamba.scan import CHUNK
from docs.concepts.figures.svg import Sheet

Level = Sequence[tuple[int, int]]

_TOKENS, _LONG = 8, 2048
_LEFT, _TOP, _COLUMN, _LEVEL = 120.0, 104.0, 44.0, 34.0
_BEGIN, _CHUNKS, _SHOWN = 26.0, 4, 4
_NOTES = 466.0


def schedule(count: int) -> list[Level]:
    """Which steps are combined, level by level, for a power of two of them: in each pair, right becomes left ∘ right.

    The pairs of one level are independent. Up the tree, totals of 2, 4, 8, … steps are made, and down it those
    of all others (Ladner & Fischer 1980 call it a prefix computation; this one is Brent & Kung's, 1982).
    """
    levels: list[Level] = []
    distance = 1
    while distance < count:
        levels.append([(right - distance, right) for right in range(2 * distance - 1, count, 2 * distance)])
        distance *= 2
    distance //= 4
    while distance:
        levels.append([(right - distance, right) for right in range(3 * distance - 1, count, 2 * distance)])
        distance //= 2
    return levels


def figure() -> Sheet:
    """The tree above, the chunks below."""
    levels = schedule(_TOKENS)
    sheet = Sheet(
        760,
        500,
        f"Above, the steps of {_TOKENS} tokens are combined in {len(levels)} levels, so that each token has the "
        "combination of all up to it. Below, our scan goes from chunk to chunk, and keeps the states between them.",
    )
    sheet.text(20, 30, "A parallel prefix: every token gets all steps up to it", "head")
    sheet.text(20, 50, "a step is a pair (a, b): it makes a · h + b of h; first the left one, then the right:", "note")
    sheet.text(20, 68, "(a, b) then (a', b')  is  (a' · a,  a' · b + b')", "text")
    _draw_tree(sheet, levels)
    _draw_notes(sheet, levels)
    _draw_chunks(sheet, _TOP + _LEVEL * (len(levels) + 1) + 34)
    return sheet


def _draw_tree(sheet: Sheet, levels: Sequence[Level]) -> None:
    across = [_LEFT + _COLUMN * token for token in range(_TOKENS)]
    bottom = _TOP + _LEVEL * len(levels)
    for token, x in enumerate(across):
        sheet.text(x, _TOP - 10, str(token), "note", "middle")
        sheet.line(((x, _TOP), (x, bottom)), "grid")
    sheet.text(20, _TOP - 10, "token", "note")
    for number, level in enumerate(levels, 1):
        y = _TOP + _LEVEL * number
        sheet.text(20, y + 4, f"level {number}", "note")
        for left, right in level:
            sheet.line(((across[left], y - _LEVEL), (across[right], y)), "flow")
            sheet.dot(across[left], y - _LEVEL, "dot", 2.5)
    for x in across:
        sheet.dot(x, _TOP, "dot", 3.5)
    for number, level in enumerate(levels, 1):
        for _, right in level:
            sheet.dot(across[right], _TOP + _LEVEL * number, "dot accent", 4.5)


def _draw_notes(sheet: Sheet, levels: Sequence[Level]) -> None:
    done, long = sum(map(len, levels)), schedule(_LONG)
    up = len(levels) // 2 + 1
    sheet.text(_NOTES, _TOP + 22, f"levels 1 to {up}: totals of 2, 4, 8 tokens", "note")
    sheet.text(_NOTES, _TOP + 40, f"levels {up + 1} to {len(levels)}: all others, from these", "note")
    sheet.text(_NOTES, _TOP + 72, f"{_TOKENS} tokens: {done} combinations in {len(levels)} levels;", "text")
    sheet.text(_NOTES, _TOP + 90, f"one by one: {_TOKENS - 1} in {_TOKENS - 1}", "text")
    sheet.text(_NOTES, _TOP + 122, f"{_LONG:,} tokens: {sum(map(len, long)):,} in {len(long)} levels;", "note accent")
    sheet.text(_NOTES, _TOP + 140, f"one by one: {_LONG - 1:,} in {_LONG - 1:,}", "note accent")


def _draw_chunks(sheet: Sheet, top: float) -> None:
    """The tokens in chunks; the states between chunks are filled, those inside are hollow."""
    sheet.text(20, top, "Our scan: chunk after chunk", "head")
    sheet.text(20, top + 20, f"drawn with chunks of {_SHOWN} tokens; in use on a CPU are chunks of {CHUNK}", "note")
    width, y = _COLUMN * 2.2, top + 56
    starts = [_BEGIN + chunk * width for chunk in range(_CHUNKS + 1)]
    for chunk, left in enumerate(starts[:-1]):
        sheet.box(left + 8, y - 18, width - 16, 36, "box")
        sheet.text(left + width / 2, y + 36, f"chunk {chunk}", "note", "middle")
        sheet.line(((left, y), (left + width, y)), "grid")
        for state in range(1, _SHOWN):
            sheet.dot(left + state * width / _SHOWN, y, "dot", 3.5)
    for start in starts:
        sheet.dot(start, y, "dot accent", 5)
    for name, ends, down in (("forward", (starts[0], starts[-1]), 56), ("backward", (starts[-1], starts[0]), 78)):
        sheet.text(starts[0], y + down + 4, name, "note")
        from_, to = (end if end != starts[0] else starts[0] + 66 for end in ends)
        sheet.line(((from_, y + down), (to, y + down)), "flow", arrow=True)
    kept = 512 // CHUNK
    sheet.dot(_NOTES + 4, y - 14, "dot accent", 5)
    sheet.text(_NOTES + 16, y - 10, "kept: where a chunk starts or ends", "text")
    sheet.dot(_NOTES + 4, y + 10, "dot", 3.5)
    sheet.text(_NOTES + 16, y + 14, "made, used, and dropped;", "text")
    sheet.text(_NOTES + 16, y + 31, "the backward pass makes them again", "text")
    sheet.text(_NOTES, y + 62, f"512 tokens: {kept} states kept instead of 512,", "note accent")
    sheet.text(_NOTES, y + 80, f"and those of {CHUNK} tokens at a time", "note accent")
