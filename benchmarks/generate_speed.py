"""Questions per second of a model that writes its answers, against transformers' `generate`.

    python -m benchmarks.generate_speed CKPT --data EVAL.json [--questions 1000] [--dtype bfloat16] [--rounds 3]

`generate` runs greedily, for one question after the other, and on batches of 32 in the order of the data, padded to the
longest. Only questions that fit into one window are asked. Ours scores "unanswerable" beside; texts are compared where
`generate` writes one. All ways use the same model in the same numbers, tokenization included. They take turns, round by
round; ratios are of medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.machine import headline
from compresskit.data.examples import Example
from compresskit.data.load import load as load_data
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.prompt import Prompt
from compresskit.models.registry import load
from compresskit.models.tasks.text_answers import prompt_of

BATCH = 32
# The loop over single questions is slow: it gets a part of them.
LOOP_PART = 8


def main() -> None:
    """Time the three ways in turn and print questions a second, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    loaded = load(arguments.checkpoint, dtype=arguments.dtype, device=arguments.device)
    options = AnswerOptions()
    prompt = prompt_of(loaded, None)
    examples = fitting(loaded, prompt, options, load_data(arguments.data, "eval"), arguments.questions)
    print(headline(loaded.device))
    print(f"{arguments.checkpoint}, {arguments.dtype}, {len(examples)} questions of {arguments.data}")

    def ours(asked: Sequence[Example]) -> list[str]:
        return [prediction.span_text for prediction in loaded.task.answer(loaded, asked, options)]

    def theirs(size: int) -> Callable[[Sequence[Example]], list[str]]:
        return lambda asked: list(generated(loaded, prompt, options, asked, size))

    part = examples[: max(len(examples) // LOOP_PART, 1)]
    ways = {"ours": (ours, examples), "generate, one": (theirs(1), part)}
    ways[f"generate, {BATCH}"] = (theirs(BATCH), examples)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[str]] = {}
    for _ in range(arguments.rounds):
        for name, (way, asked) in ways.items():
            texts[name], rate = timed(way, asked)
            rates[name].append(rate)
    own = statistics.median(rates["ours"])
    for name, found in rates.items():
        each = ", ".join(f"{rate:.1f}" for rate in found)
        pairs = zip(texts[name], texts["ours"], strict=False)  # the loop has a part of them
        written = [pair for pair in pairs if pair[0] not in ("", prompt.unanswerable)]
        same = sum(one == two for one, two in written) / max(len(written), 1)
        ratio = own / statistics.median(found)
        print(f"{name:<16} {each} questions/s; ours is {ratio:.2f} times that; same texts: {same:.1%}")


def fitting(loaded: LoadedModel, prompt: Prompt, options: AnswerOptions, data: Any, count: int) -> list[Example]:
    """The first questions of a sample whose prompts fit into one window."""
    sample = data.sample(min(2 * count, len(data)), seed=0)
    lengths = (len(loaded.tokenizer(prompt.text(each.question, each.context))["input_ids"]) for each in sample)
    return [each for each, length in zip(sample, lengths, strict=True) if length <= options.max_length][:count]


def timed(answer: Callable[[Sequence[Example]], list[str]], examples: Sequence[Example]) -> tuple[list[str], float]:
    """The answers, and how many of them came in a second; some questions are asked before, untimed."""
    answer(examples[: 2 * BATCH])
    start = time.perf_counter()
    texts = answer(examples)
    return texts, len(examples) / (time.perf_counter() - start)


@torch.inference_mode()
def generated(
    loaded: LoadedModel, prompt: Prompt, options: AnswerOptions, examples: Sequence[Example], size: int
) -> Iterator[str]:
    """The texts that `generate` writes, in padded batches of `size`."""
    model: Any = loaded.model
    iterator = iter(examples)
    while chunk := list(itertools.islice(iterator, size)):
        texts = [prompt.text(each.question.strip(), each.context) for each in chunk]
        inputs = loaded.tokenizer(texts, return_tensors="pt", padding=True).to(loaded.device)
        inputs.pop("token_type_ids", None)
        out = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=options.max_answer_length)
        yield from map(prompt.answer, loaded.tokenizer.batch_decode(out, skip_special_tokens=True))


if __name__ == "__main__":
    main()
