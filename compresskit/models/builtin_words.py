"""A tokenizer of the demo set's whole words, for the built-in models that write text."""

from __future__ import annotations

import string
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compresskit.data import demo

SPECIAL = PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
BLANK = "▁"


def word_tokenizer(marks: Iterable[str], characters: str = "", *, ends: bool) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer whose pieces are the demo set's words, and characters to spell other text with.

    `marks` are further pieces, and `characters` further ones than those of printable ASCII. With `ends` each text ends
    in the end of a sequence.
    """
    wholes = [f"{BLANK}{word}" for words in demo.whole_words() for word in words]
    spelling = [BLANK, *string.ascii_letters, *string.digits, *string.punctuation, *characters]
    # A whole word is likelier than its spelling.
    scores = ((SPECIAL, 0.0), (list(dict.fromkeys([*wholes, *marks])), -1.0), (spelling, -10.0))
    pieces = [(piece, score) for each, score in scores for piece in each]
    made = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index(UNKNOWN)))
    made.normalizer = normalizers.Replace(Regex(" +"), " ")
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement=BLANK, prepend_scheme="always")
    if ends:
        made.post_processor = processors.TemplateProcessing(
            single=f"$A {END}", pair=f"$A $B {END}", special_tokens=[(END, SPECIAL.index(END))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=PAD, eos_token=END, unk_token=UNKNOWN)
