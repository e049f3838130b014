"""What a check of data tells a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compresskit.data.checks import Place
from compresskit.data.findings import KINDS, Findings
from compresskit.text import counted


def lines(found: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    """A summary of `compresskit.data.check` in words, then the first findings of each kind."""
    split = f", split {found['split']}" if found["split"] else ""
    yield f"data        {found['data']}{split}" + (f" (sha256 {found['sha256'][:12]})" if found["sha256"] else "")
    yield f"questions   {found['questions']:,}, of which {found['unanswerable']:,} have no answer"
    yield f"passages    {found['paragraphs']:,} in {counted(found['articles'], 'article')}"
    several = [f"{counted(count, 'question')} with {number}" for number, count in found["answers_per_question"].items()]
    yield f"answers     {', '.join(several) or 'none'}"
    yield f"characters  {_lengths(found['characters'])}"
    yield from _tokens(found.get("tokens"))
    if (overlap := found.get("overlap")) is not None:
        yield (
            f"overlap     {counted(overlap['questions'], 'question')} and {counted(overlap['paragraphs'], 'passage')} "
            f"of these stand in {overlap['against']}"
        )
    refused = "" if found["readable"] else "refused until all can be read; without what cannot, "
    yield f"training    {refused}{_training(found['training'])}"
    if found["offsets_count"] != "characters":
        yield f"offsets     all agree on {found['offsets_count']}, and are read so"
    for kind, told in KINDS.items():
        if count := findings.counts[kind]:
            yield f"\n{told}: {count:,}"
            first = findings.first[kind]
            yield from (f"  {Place(each['place'], each['path'])}{each['message']}" for each in first)
            if count > len(first):
                yield f"  … and {count - len(first):,} more; -o FILE or --json has all"


def _tokens(tokens: Mapping[str, Any] | None) -> Iterator[str]:
    if tokens is None:
        return
    yield f"tokens      {_lengths(tokens)} (of {tokens['model']})"
    windows = tokens["windows"]
    of_each = f"; of a question: {_spread(windows['of_a_question'])}" if windows["of_a_question"] else ""
    how = f"--max-length {tokens['max_length']} --stride {tokens['stride']}"
    yield f"windows     {windows['all']:,} at {how}{of_each}"
    most = tokens["max_answer_length"]
    yield f"too long    the answers to {counted(tokens['too_long'], 'question')} at --max-answer-length {most}"


def _training(training: Mapping[str, Any]) -> str:
    parts = [
        f"{way} learns from {counted(training[way]['questions'], 'question')}, leaves out {training[way]['left_out']:,}"
        for way in ("mend", "skip")
    ]
    parts.append(f"stop {'reads all' if training['stop'] else 'ends at the first answer that is elsewhere'}")
    return f"by --bad-data: {'; '.join(parts)}"


def _lengths(lengths: Mapping[str, Any]) -> str:
    told = [f"{name}: {_spread(lengths[name])}" for name in ("context", "question", "answer") if lengths[name]]
    return "; ".join(told) or "none"


def _spread(spread: Mapping[str, float]) -> str:
    return f"median {spread['median']:,.0f}, 95 % up to {spread['p95']:,.0f}, most {spread['most']:,}"
