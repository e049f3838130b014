"""A prompt of your own, for models that write their answers (T5 and its kin, Mamba and other language models).

    python examples/custom_prompt.py

The prompt is kept in the checkpoint's manifest: whoever asks it later asks it in the same words.
docs/reference/generation.md describes the parts.
"""

from __future__ import annotations

from pathlib import Path

import compresskit as ck

# What the model reads, and what it writes where the passage does not tell. A language model, which goes on with a text,
# needs a `stop` (an answer ends there), and often a `lead` (the blank behind "Answer:").
PROMPT = ck.Prompt(
    template="Passage: {context}\nAsked: {question}\nAnswer:",
    unanswerable="not in the passage",
    stop=("\n",),
)
QUESTION, CONTEXT = "Where does Anna live?", "Anna lives in Rome. Ben lives in Oslo."


def main(folder: Path = Path("runs/custom-prompt"), steps: int = 300) -> ck.Answer:
    """Train with the prompt, and ask."""
    # demo/t5 is a small built-in model; "t5" or "mamba" take the same prompt.
    writer = ck.train(
        "demo/t5",
        train_data="demo",
        prompt_template=PROMPT,
        max_train_samples=16 * steps,
        max_steps=steps,
        batch_size=16,
        max_length=192,
        stride=64,
        output=folder,
        overwrite=True,
    )
    print("kept:", writer.steps[-1].config["prompt_template"])

    reader = writer.load()
    answer = reader.predict(QUESTION, CONTEXT, n_best=3)  # with PROMPT, as the manifest says
    print("answered:", answer.text or "(no answer)", [each.text for each in answer.n_best])

    # Another prompt can be given, for one question or for a whole evaluation: a name, a JSON file, or an object.
    print("by another prompt:", reader.predict(QUESTION, CONTEXT, prompt_template="plain").text or "(no answer)")
    return answer


if __name__ == "__main__":
    main()
