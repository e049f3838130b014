"""Word-level tokens with offsets: a WordLevel model of the tokenizers library, and buckets for unknown words."""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tokenizers import Encoding, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer
from transformers import BatchEncoding, PreTrainedTokenizerFast

from compresskit.data.examples import ExampleSet

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = (PAD, UNK, CLS, SEP)


class WordTokenizer(PreTrainedTokenizerFast):
    """A word-level tokenizer whose unknown words have the id of one of its buckets each, by a hash of their letters.

    So two occurrences of an unknown name, in question and context, have the same id, and most other names another.
    Everything else, offsets too, is the tokenizers library's; `[UNK]` itself remains for text without offsets.
    """

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012  (transformers' own form)

    # No __init__ of its own: with one, transformers 5 builds the backend anew from the words alone, not from its file.

    @functools.cached_property
    def buckets(self) -> int:
        """How many buckets the vocabulary has."""
        vocabulary = self.get_vocab()
        return next(number for number in itertools.count() if bucket_token(number) not in vocabulary)

    def _encode_plus(self, *args: Any, return_tensors: Any = None, **kwargs: Any) -> BatchEncoding:
        if kwargs.get("is_split_into_words"):
            raise ValueError("this tokenizer reads texts, not lists of words: leave is_split_into_words out")
        encoded = super()._encode_plus(*args, **kwargs)
        encodings = encoded.encodings
        given = args[0] if args else kwargs["text"]
        single = isinstance(given, str) and not (encoded["input_ids"] and isinstance(encoded["input_ids"][0], list))
        if self.buckets and encodings is not None:
            texts = _as_texts(given)
            pairs = _as_texts(kwargs.get("text_pair", args[1] if len(args) > 1 else None))
            samples = encoded.get("overflow_to_sample_mapping", range(len(encodings)))
            ids = [
                self._hashed(encoding, texts[sample], pairs[sample] if pairs else "")
                for encoding, sample in zip(encodings, samples, strict=True)
            ]
            encoded["input_ids"] = ids[0] if single else ids
        return encoded.convert_to_tensors(return_tensors, prepend_batch_axis=single) if return_tensors else encoded

    def _hashed(self, encoding: Encoding, text: str, pair: str) -> list[int]:
        """The ids of one window, with the unknown words' buckets in them."""
        ids: list[int] = encoding.ids
        if self.unk_token_id not in ids:
            return ids
        ids, parts, first = list(ids), (text, pair), len(SPECIAL)
        for position, (sequence, (begin, end)) in enumerate(zip(encoding.sequence_ids, encoding.offsets, strict=True)):
            if ids[position] == self.unk_token_id and sequence is not None:
                ids[position] = first + self.bucket(parts[sequence][begin:end])
        return ids

    def bucket(self, word: str) -> int:
        """The bucket of a word that is not in the vocabulary: CRC-32 of its normalized letters, modulo the buckets."""
        return zlib.crc32(self.backend_tokenizer.normalizer.normalize_str(word).encode()) % self.buckets


def bucket_token(number: int) -> str:
    """The vocabulary's name of a bucket; no text has it, since brackets are tokens of their own."""
    return f"[BUCKET_{number}]"


def words_of(examples: ExampleSet, *, cased: bool, min_count: int, limit: int) -> list[str]:
    """The words of questions and contexts (each context once) that occur `min_count` times, most frequent first.

    At most `limit` of them; counted by the tokenizers library.
    """
    tokenizer = _untrained(cased)
    trainer = WordLevelTrainer(vocab_size=limit, min_frequency=min_count, show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator(_texts(examples), trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def make_tokenizer(words: Iterable[str], *, cased: bool, buckets: int) -> WordTokenizer:
    """A tokenizer of `words`: first come the special tokens' ids, then the buckets', then the words' in their order."""
    names = [*SPECIAL, *map(bucket_token, range(buckets)), *words]
    tokenizer = _untrained(cased, {name: index for index, name in enumerate(names)})
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(CLS, SPECIAL.index(CLS)), (SEP, SPECIAL.index(SEP))],
    )
    return WordTokenizer(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNK, cls_token=CLS, sep_token=SEP
    )


def _untrained(cased: bool, vocabulary: Mapping[str, int] | None = None) -> Tokenizer:
    """Words as runs without white space, every punctuation character and every Chinese character for itself."""
    tokenizer = Tokenizer(WordLevel(dict(vocabulary or {UNK: 0}), unk_token=UNK))
    # Accents stay: vector files have them.
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _texts(examples: ExampleSet) -> Iterator[str]:
    paragraph = None
    for example in examples:
        yield example.question
        if example.paragraph != paragraph:
            paragraph = example.paragraph
            yield example.context


def _as_texts(texts: str | list[str] | None) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts or [])
