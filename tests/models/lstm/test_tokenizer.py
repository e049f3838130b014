import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from compresskit.models.answering import WindowOptions
from compresskit.models.lstm.tokenizer import WordTokenizer, bucket_token, make_tokenizer, words_of
from compresskit.models.tasks.span_features import write_features
from compresskit.models.tasks.windows import encode
from tests import tiny
from tests.models.lstm import small


def test_words_punctuation_and_offsets() -> None:
    text = "The king, of  FRANCE?"
    encoded = small.tokenizer()(text, return_offsets_mapping=True)
    assert encoded.tokens() == ["[CLS]", "the", "king", "[UNK]", "of", "france", "?", "[SEP]"]
    cut = [text[begin:end] for begin, end in encoded["offset_mapping"][1:-1]]
    assert cut == ["The", "king", ",", "of", "FRANCE", "?"]
    assert small.tokenizer(cased=True)("The king").tokens() == ["[CLS]", "[UNK]", "king", "[SEP]"]


def test_accents_stay_and_chinese_characters_stand_alone() -> None:
    tokenizer = make_tokenizer(["élysée", "国", "王"], cased=False, buckets=1)
    assert tokenizer("Élysée 国王").tokens() == ["[CLS]", "élysée", "国", "王", "[SEP]"]


def test_unknown_words_have_a_bucket_by_their_letters() -> None:
    tokenizer = small.tokenizer(buckets=50)
    ids = tokenizer("Who is Zorro?", "ZORRO is zorro, not Zelda.")["input_ids"]
    words = tokenizer.convert_ids_to_tokens(ids)
    zorro = bucket_token(zlib.crc32(b"zorro") % 50)
    assert words[:4] == ["[CLS]", "who", "is", zorro]
    assert [words[i] for i in (6, 8)] == [zorro, zorro]
    assert words[-3] == bucket_token(zlib.crc32(b"zelda") % 50)
    assert tokenizer.unk_token_id not in ids


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5))
def test_ids_differ_from_the_librarys_only_where_those_are_unknown(words: list[str]) -> None:
    text = " ".join(words)
    ours, plain = small.tokenizer(), PreTrainedTokenizerFast(tokenizer_object=small.tokenizer().backend_tokenizer)
    found, expected = ours(text)["input_ids"], plain(text)["input_ids"]
    assert len(found) == len(expected)
    for ours_id, plain_id in zip(found, expected, strict=True):
        assert ours_id == plain_id if plain_id != 1 else 4 <= ours_id < 7


@pytest.mark.parametrize("tensors", [None, "pt", "np"])
@pytest.mark.parametrize(
    "texts", [("Zorro",), (["Zorro", "Zelda is"],), ("who", "Zorro"), (["a", "b c"], ["Zorro", "d"])]
)
def test_every_way_to_call_it(texts: tuple[Any, ...], tensors: str | None) -> None:
    tokenizer = small.tokenizer()
    encoded = tokenizer(*texts, padding=True, return_tensors=tensors)
    rows = encoded["input_ids"] if tensors is None else encoded["input_ids"].tolist()
    single = isinstance(texts[0], str)
    for row in [rows] if single and tensors is None else rows:
        assert all(isinstance(token, int) for token in row)
        assert tokenizer.unk_token_id not in row
    if single:
        assert tokenizer.encode(*texts) == (rows if tensors is None else rows[0])


def test_empty_texts_and_lists_of_words() -> None:
    tokenizer, plain = small.tokenizer(), PreTrainedTokenizerFast(tokenizer_object=small.tokenizer().backend_tokenizer)
    for text in ("", [""], ["", "who"]):
        for special in (True, False):
            ours = tokenizer(text, add_special_tokens=special)["input_ids"]
            assert ours == plain(text, add_special_tokens=special)["input_ids"]
    with pytest.raises(ValueError, match="leave is_split_into_words out"):
        tokenizer(["who", "is"], is_split_into_words=True)


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    tokenizer = small.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    for again in (AutoTokenizer.from_pretrained(tmp_path), WordTokenizer.from_pretrained(tmp_path)):
        assert type(again) is WordTokenizer
        assert again.buckets == 3
        assert (
            again(small.QUESTIONS, small.CONTEXTS)["input_ids"]
            == tokenizer(small.QUESTIONS, small.CONTEXTS)["input_ids"]
        )
        assert (again.pad_token, again.unk_token, again.cls_token, again.sep_token) == (
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
        )


def test_windows_keep_the_buckets_of_their_own_words() -> None:
    tokenizer = make_tokenizer(["x"], cased=False, buckets=1000)
    names = [f"name{index}" for index in range(60)]
    example = tiny.examples(1)[0]
    changed = type(example)(**{**{f: getattr(example, f) for f in example.__slots__}, "context": " ".join(names)})
    windows = encode(tokenizer, [changed], WindowOptions(50, 8))
    encodings: Any = windows.encoding.encodings
    assert len(windows) > 1
    for window in range(len(windows)):
        ids = windows.encoding["input_ids"][window][windows.context_start[window] : windows.context_end[window]]
        offsets = encodings[window].offsets[windows.context_start[window] : windows.context_end[window]]
        expected = [4 + zlib.crc32(changed.context[begin:end].encode()) % 1000 for begin, end in offsets]
        assert ids == expected


def test_training_features_hold_the_answers(tmp_path: Path) -> None:
    examples = tiny.examples(8)
    tokenizer = make_tokenizer(["the", "is"], cased=False, buckets=5)
    features = write_features(tokenizer, examples, WindowOptions(48, 8), tmp_path / "features")
    for feature, example in zip(features, examples, strict=True):
        offsets = tokenizer(example.question, example.context, return_offsets_mapping=True)["offset_mapping"]
        if example.answers:
            begin, end = offsets[feature["start"]][0], offsets[feature["end"]][1]
            assert example.answers[0].text in example.context[begin:end]
            assert end - begin <= len(example.answers[0].text) + 1


def test_words_are_counted_as_the_tokenizer_cuts_them() -> None:
    examples: Any = tiny.examples(12)
    counted: dict[str, int] = {}
    paragraph = None
    for example in examples:
        texts = [example.question] + ([example.context] if example.paragraph != paragraph else [])
        paragraph = example.paragraph
        for text in texts:
            for word in text.lower().replace("?", " ? ").replace(".", " . ").replace(",", " , ").split():
                counted[word] = counted.get(word, 0) + 1
    for least, limit in ((1, 1000), (3, 1000), (1, 4)):
        found = words_of(examples, cased=False, min_count=least, limit=limit)
        frequent = sorted((word for word, times in counted.items() if times >= least), key=lambda w: -counted[w])
        assert [counted[word] for word in found] == [counted[word] for word in frequent[:limit]]
        assert len(set(found)) == len(found)
