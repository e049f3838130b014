"""Tokenizers that keep every character of a text, line breaks too, as those of language models do."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINES = ["Context: Anna lives in Rome.", "Question: Where does Anna live?", "Answer: Rome", "Answer: I don't know"]
# So that a line break is a token by itself, and in others.
BREAKS = ["\n", "\n\n", " \n"]


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's and GPT-NeoX's (Mamba, Pythia): an end of text, no padding, bytes as the smallest tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    made.train_from_iterator([*LINES, *BREAKS] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama's: a beginning of text, a blank before the first word, bytes for what is in no other token."""
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    words.train_from_iterator(LINES * 9, trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"]))
    learned = json.loads(words.to_str())["model"]
    vocab = {**learned["vocab"], **{f"<0x{byte:02X}>": len(learned["vocab"]) + byte for byte in range(256)}}
    merges = [tuple(pair) for pair in learned["merges"]]
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
