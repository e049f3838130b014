"""Questions per second of `eval` against the obvious loop: one question at a time, padded to the window's length.

    python -m benchmarks.eval_speed CKPT --data EVAL.json [--questions 4000 --rounds 5 --dtype bfloat16]

Both take turns, round by round; the first run, which meets every shape of a batch for the first time, is told apart.
How long the GPU works is measured in a round of its own, under a profiler. The loop tokenizes a question, pads it to
384 tokens, runs the model, copies the logits to the CPU and searches the best span there, as many examples on the web
do. Both use the same checkpoint; answers are compared.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from benchmarks.machine import gpu_seconds, headline, seconds_of, share, told
from compresskit.data.examples import Example
from compresskit.data.load import load as load_data
from compresskit.models.answering import AnswerOptions
from compresskit.models.loaded import LoadedModel
from compresskit.models.registry import load


def main() -> None:
    """Time both ways in turns, and print their ratio in the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", default="demo")
    parser.add_argument("--questions", type=int, default=4000)
    parser.add_argument("--loop-questions", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    loaded = load(arguments.checkpoint, dtype=arguments.dtype)
    device, options = loaded.device, AnswerOptions()
    questions = load_data(arguments.data, "eval")
    examples = list(questions.sample(min(arguments.questions, len(questions)), seed=0))
    few = examples[: arguments.loop_questions]
    print(headline(device))
    print(f"{arguments.checkpoint}, {len(examples)} questions of {arguments.data}, {arguments.dtype}")
    ours, theirs = [""], [""]

    def fast() -> None:
        ours[:] = [prediction.text for prediction in loaded.family.task.answer(loaded, examples, options)]

    def slow() -> None:
        theirs[:] = [one_by_one(loaded, example, options) for example in few]

    list(loaded.family.task.answer(loaded, examples[:64], options))
    print(f"first  {len(examples) / seconds_of(fast, device):9.1f} questions/s, with shapes that are new")
    [one_by_one(loaded, example, options) for example in few[:8]]
    rounds = [(seconds_of(fast, device), seconds_of(slow, device)) for _ in range(arguments.rounds)]
    rates = [len(examples) / seconds for seconds, _ in rounds]
    loops = [len(few) / seconds for _, seconds in rounds]
    same = np.mean([a == b for a, b in zip(ours, theirs, strict=False)])
    working = share(gpu_seconds(fast, device), [seconds for seconds, _ in rounds])
    idle = share(gpu_seconds(slow, device), [seconds for _, seconds in rounds])
    print(f"median of {arguments.rounds} rounds (half of them)")
    print(f"eval   {told(rates)} questions/s, batches of {options.batch_size}; the GPU works {working} of the time")
    print(f"loop   {told(loops)} questions/s, one at a time, padded to {options.max_length}; GPU {idle}")
    print(f"ratio  {told([a / b for a, b in zip(rates, loops, strict=True)])}   same answers: {same:.1%}")


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
        start, end = outputs.start_logits[0].float().cpu().numpy(), outputs.end_logits[0].float().cpu().numpy()
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
