"""Questions per second of `eval` against the obvious loop: one question at a time, padded to the window's length.

    python benchmarks/eval_speed.py CKPT --data EVAL.json [--questions 1000]

The loop tokenizes a question, pads it to 384 tokens, runs the model, copies the logits to the CPU and searches the best
span there, as many examples on the web do. Both use fp32 and the same checkpoint; answers are compared.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from benchmarks.machine import headline
from compresskit.data.examples import Example
from compresskit.data.load import load as load_data
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load


def main() -> None:
    """Time both ways and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--questions", type=int, default=1000)
    arguments = parser.parse_args()
    loaded = load(arguments.checkpoint)
    questions = load_data(arguments.data, "eval")
    examples = list(questions.sample(min(arguments.questions, len(questions)), seed=0))
    print(headline(loaded.device))
    options = AnswerOptions()
    list(loaded.family.task.answer(loaded, examples[:64], options))
    start = time.perf_counter()
    ours = [prediction.text for prediction in loaded.family.task.answer(loaded, examples, options)]
    fast = len(examples) / (time.perf_counter() - start)
    loop = examples[: max(len(examples) // 4, 1)]
    [one_by_one(loaded, example, options) for example in loop[:8]]
    start = time.perf_counter()
    theirs = [one_by_one(loaded, example, options) for example in loop]
    slow = len(loop) / (time.perf_counter() - start)
    same = np.mean([a == b for a, b in zip(ours, theirs, strict=False)])
    print(f"{arguments.checkpoint}, {len(examples)} questions of {arguments.data}")
    print(f"eval   {fast:9.1f} questions/s, batches of {options.batch_size}")
    print(f"loop   {slow:9.1f} questions/s, one at a time, padded to {options.max_length}")
    print(f"ratio  {fast / slow:9.1f}   same answers: {same:.1%}")


@torch.no_grad()
def one_by_one(loaded: LoadedModel, example: Example, options: AnswerOptions) -> str:
    """The obvious way to answer one question."""
    encoding = loaded.tokenizer(
        example.question,
        example.context,
        truncation="only_second",
        max_length=options.max_length,
        stride=options.stride,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = encoding.pop("offset_mapping")
    encoding.pop("overflow_to_sample_mapping")
    best, null, text = -np.inf, np.inf, ""
    for window in range(len(offsets)):
        inputs = {name: tensor[window : window + 1].to(loaded.device) for name, tensor in encoding.items()}
        outputs = loaded.model(**inputs)
        start, end = outputs.start_logits[0].cpu().numpy(), outputs.end_logits[0].cpu().numpy()
        null = min(null, float(start[0] + end[0]))
        context = [token for token, segment in enumerate(encoding.sequence_ids(window)) if segment == 1]
        for first in context:
            for last in range(first, min(first + options.max_answer_length, context[-1] + 1)):
                if start[first] + end[last] > best:
                    best = float(start[first] + end[last])
                    text = example.context[int(offsets[window][first][0]) : int(offsets[window][last][1])]
    return "" if null - best > options.null_threshold else text


if __name__ == "__main__":
    main()
