"""`compresskit data check`: every fault of a data set, and what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresskit.cli.flags import with_flags
from compresskit.data import Split
from compresskit.models.answering import AnswerOptions, WindowOptions
from compresskit.options import check, like, option, refuse

if TYPE_CHECKING:
    from compresskit.data.examples import ExampleSet


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is checked, by which model its lengths are measured, and where the findings go."""

    data: str = option(
        MISSING, "A file of questions, a folder, a Hub data set id, or demo.", metavar="DATA", argument=True
    )
    split: Split | None = option(None, "Which split, where DATA has several.", shown="train")
    against: str | None = option(
        None,
        "Count the questions and passages that stand in these data too: in their training split, or in the other one "
        "than DATA's.",
        metavar="OTHER",
    )
    model: str | None = option(None, "Measure lengths in the tokens of this checkpoint, too.", metavar="CKPT")
    max_length: int | None = like(WindowOptions, "max_length", default=None, shown="384", panel=None)
    stride: int | None = like(WindowOptions, "stride", default=None, shown="128", panel=None)
    max_answer_length: int | None = like(
        AnswerOptions, "max_answer_length", default=None, shown="30", help="Count answers of more tokens than these."
    )
    show: int = option(5, "Findings of each kind that are printed.", metavar="N", least=0)
    json: bool = option(False, "Print everything as JSON, with every finding.")
    output: Path | None = option(None, "Write that JSON there too.", short="-o", metavar="FILE")

    def __post_init__(self) -> None:
        check(self)
        from compresskit.data.load import has_splits

        if not has_splits(self.data):
            refuse(self, ("split",), "with a file, which is read as a whole")
        if self.model is None:
            refuse(self, ("max_length", "stride", "max_answer_length"), "without --model")

    def check_output(self) -> None:
        """UsageError where the findings would be written over what is read, or cannot be."""
        if self.output is not None:
            from compresskit.checkpoint.outputs import check_file
            from compresskit.data.load import local_files
            from compresskit.evaluate.reading import checkpoint_places

            read = [file for ref in (self.data, self.against) if ref for file in local_files(ref)]
            check_file(self.output, [*read, *(checkpoint_places(self.model) if self.model else ())], flag="--output")


@with_flags()
def check_data(options: CheckOptions) -> None:
    """Tell every fault of a data set, with its place and its mend, and what is in the set."""
    from compresskit.data.check import check, require_usable, summary
    from compresskit.data.findings import Findings
    from compresskit.data.load import has_splits, load_as
    from compresskit.data.overlap import overlap

    options.check_output()
    split: Split = options.split or "train"
    several = has_splits(options.data)
    other = load_as(options.against, _other(split) if several else "train", "score") if options.against else None
    with Findings(options.show) as findings:
        examples = check(options.data, split, findings)
        found = summary(options.data, split if several else None, examples, findings)
        if other is not None:
            found["overlap"] = {"against": options.against, **asdict(overlap(examples, other))}
        if options.model is not None:
            found["tokens"] = _tokens(options, options.model, examples)
        _deliver(options, found, findings)
        require_usable(options.data, findings.counts)
    from compresskit import console

    console.info(f"{options.data} can be trained on and scored without loss")


def _other(split: Split) -> Split:
    return "eval" if split == "train" else "train"


def _tokens(options: CheckOptions, model: str, examples: ExampleSet) -> dict[str, Any]:
    """Lengths in the tokens of a model, as JSON values."""
    from compresskit.data.check import spread
    from compresskit.models.registry import load
    from compresskit.models.tasks.lengths import too_long
    from compresskit.models.tasks.token_lengths import token_lengths, window_counts

    given = {name: getattr(options, name) for name in ("max_length", "stride")}
    windows = WindowOptions(**{name: value for name, value in given.items() if value is not None})
    most = options.max_answer_length or AnswerOptions().max_answer_length
    loaded = load(model, device="cpu")
    counts = window_counts(loaded, examples, windows)
    of_each = spread(counts)
    return {
        "model": model,
        "max_length": windows.max_length,
        "stride": windows.stride,
        "max_answer_length": most,
        **{name: each and asdict(each) for name, each in token_lengths(loaded, examples).items()},
        "windows": {"all": int(counts.sum()), "of_a_question": of_each and asdict(of_each)},
        "too_long": too_long(loaded.tokenizer, examples, most),
    }


def _deliver(options: CheckOptions, found: dict[str, Any], findings: Any) -> None:
    """Print the summary and the findings, and write the JSON where that is wanted."""
    from compresskit import console
    from compresskit.checkpoint.store import written
    from compresskit.data import check_text
    from compresskit.data.check import json_lines

    if options.output is not None:
        with written(options.output) as file:
            file.writelines(f"{line}\n".encode() for line in json_lines(found, findings))
    told: Iterable[str] = json_lines(found, findings) if options.json else check_text.lines(found, findings)
    for line in told:
        console.out(line)
