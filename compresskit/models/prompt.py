"""Prompts: how a question and its context become the text that a model reads, and what it is to write.

A prompt is one object, so that training, scoring and the manifest cannot differ in a blank. It comes by name, or from a
file of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compresskit.checkpoint.reading import read_text
from compresskit.errors import InputError
from compresskit.text import from_json

QUESTION, CONTEXT = "{question}", "{context}"
_KEYS = ("template", "unanswerable", "stop", "lead")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that a model reads, and the texts that it writes.

    `template` holds `{question}` and `{context}`. `unanswerable` is what the model writes where the context does not
    answer the question. An answer ends at the first of the texts in `stop`, beside the end of the sequence. `lead` is
    what stands before an answer, such as the blank after a colon. `front` stands before everything, as examples do; a
    file of a prompt has none. `file` is where it was read, which is no part of what it says.
    """

    template: str
    unanswerable: str = "unanswerable"
    stop: tuple[str, ...] = ()
    lead: str = ""
    front: str = ""
    file: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for part in (QUESTION, CONTEXT):
            if self.template.count(part) != 1:
                raise InputError(f"the prompt template {self.template!r} holds {part} not once; write it there once")
        if not self.unanswerable.strip():
            raise InputError("the prompt's word for unanswerable is empty; write one")
        if not all(self.stop):
            raise InputError("a text at which the prompt's answers stop is empty; leave it out")

    @property
    def frame(self) -> tuple[str, str, str]:
        """The texts before, between and after question and context."""
        first, second = sorted((QUESTION, CONTEXT), key=self.template.index)
        before, _, rest = self.template.partition(first)
        between, _, after = rest.partition(second)
        return before, between, after

    def text(self, question: str, context: str) -> str:
        """What the model reads."""
        before, between, after = self.frame
        turned = self.template.index(CONTEXT) < self.template.index(QUESTION)
        first, second = (context, question) if turned else (question, context)
        return f"{self.front}{before}{first}{between}{second}{after}"

    def target(self, answer: str) -> str:
        """What the model is to write for an answer."""
        return f"{self.lead}{answer}"

    def answer(self, written: str) -> str:
        """The answer in what a model wrote: up to the first stop, without white space around it."""
        for stop in self.stop:
            written = written.partition(stop)[0]
        return written.strip()

    def to_dict(self) -> dict[str, Any]:
        """The prompt as JSON has it."""
        return {**{name: value for name, value in asdict(self).items() if name in _KEYS}, "stop": list(self.stop)}

    @classmethod
    def from_dict(cls, raw: object, where: str) -> Prompt:
        """The prompt of a JSON object; InputError, naming `where` it stands, for anything else."""
        if not isinstance(raw, Mapping):
            raise InputError(f"{where} is not a prompt: write an object with the keys {', '.join(_KEYS)}")
        unknown = raw.keys() - set(_KEYS)
        if unknown:
            raise InputError(f"{where}: the key {min(map(str, unknown))!r} is unknown; take of {', '.join(_KEYS)}")
        values = dict(raw)
        stop = values.pop("stop", [])
        if not isinstance(stop, list | tuple) or not all(isinstance(each, str) for each in (*stop, *values.values())):
            raise InputError(f"{where}: stop is a list of texts, all else are texts; correct it")
        if "template" not in values:
            raise InputError(f"{where}: the key 'template' is missing; write the text with {QUESTION} and {CONTEXT}")
        try:
            return cls(**values, stop=tuple(stop))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


# That of the T5 paper (Raffel et al. 2020) and of most readers that were fine-tuned from it since.
T5 = Prompt(f"question: {QUESTION}  context: {CONTEXT}")
# That of a language model, which goes on with a text: a line for each part, and the answer in the last one.
LINES = Prompt(
    f"Context: {CONTEXT}\nQuestion: {QUESTION}\nAnswer:", unanswerable="I don't know", stop=("\n",), lead=" "
)
PROMPTS: Mapping[str, Prompt] = {
    "t5": T5,
    "lines": LINES,
    "plain": Prompt(f"{QUESTION}\n{CONTEXT}"),
    "flan": Prompt(
        f"Answer the question by the text, or write unanswerable.\n\nQuestion: {QUESTION}\nText: {CONTEXT}\nAnswer:"
    ),
}


_MEND = "--prompt-template takes a JSON file, or a name"


def read_prompt(named: str) -> Prompt:
    """The prompt of a name, or of a JSON file.

    Raises InputError for a file that is not there or does not hold a prompt, naming it.
    """
    if named in PROMPTS:
        return PROMPTS[named]
    path = Path(named)
    if not path.exists():
        names = ", ".join(PROMPTS)
        raise InputError(f"--prompt-template {named}: there is no such file; give one, or a name of {names}")
    try:
        raw = from_json(read_text(path, _MEND))
    except ValueError as error:
        raise InputError(f"--prompt-template {named}: cannot be read as JSON ({error}); correct the file") from error
    return replace(Prompt.from_dict(raw, f"--prompt-template {named}"), file=path)
