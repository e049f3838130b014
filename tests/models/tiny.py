"""Checkpoints of every kind of encoder in a size for tests: random weights, a vocabulary of letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    ElectraConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
)

from compresskit.checkpoint.mask import Mask
from compresskit.data.examples import Answer, Example

Kind = Literal["bert", "roberta", "distilbert", "electra"]
KINDS: tuple[Kind, ...] = ("bert", "roberta", "distilbert", "electra")

LETTERS = "abcdefghij"
POSITIONS = 64
WORDS = ("yes", "no", "bad", "face", "head", "##ed", "jade", ".", ",", "?", "-")


def wordpiece() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that spells words of the letters a to j; others are [UNK]."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True)


def bpe() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a handful of merges; a character of several bytes is several tokens."""
    joined = ("y e", "ye s", "n o", "Ġ b", "Ġb a", "Ġba d", "f a", "c e", "fa ce")
    merges: Any = [tuple(pair.split()) for pair in joined]  # transformers says list[str], and takes pairs only
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    pieces += [pair.replace(" ", "") for pair in joined]
    return RobertaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {"wordpiece": wordpiece, "bpe": bpe}


def tokenizer_of(kind: Kind) -> PreTrainedTokenizerFast:
    return bpe() if kind == "roberta" else wordpiece()


def config_of(kind: Kind, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PretrainedConfig:
    """Two blocks of 16 hidden units; 64 tokens at most."""
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    bert_like = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": POSITIONS,
    }
    match kind:
        case "bert":
            return BertConfig(**{**common, **bert_like, **changes})
        case "electra":
            return ElectraConfig(**{**common, **bert_like, "embedding_size": 8, **changes})
        case "roberta":
            padded = POSITIONS + common["pad_token_id"] + 1
            own = {"max_position_embeddings": padded, "type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2}
            return RobertaConfig(**{**common, **bert_like, **own, **changes})
        case "distilbert":
            own = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": POSITIONS}
            return DistilBertConfig(**{**common, **own, **changes})


HEADS: dict[str, Any] = {"qa": AutoModelForQuestionAnswering, "mlm": AutoModelForMaskedLM, "none": AutoModel}


def save(kind: Kind, folder: Path, *, head: str = "qa", seed: int = 0, **changes: Any) -> Path:
    """Write a checkpoint as transformers does; the weights are large enough for logits that tell tokens apart."""
    tokenizer = tokenizer_of(kind)
    torch.manual_seed(seed)
    model: PreTrainedModel = HEADS[head].from_config(config_of(kind, tokenizer, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def example(question: str, context: str, answer: tuple[int, int] | None = None, id: str = "q") -> Example:
    """A question whose answer, if any, is the context's characters [start, end)."""
    answers = () if answer is None else (Answer(context[slice(*answer)], answer[0]),)
    return Example(id, "", question, context, answers, not answers, 0)


def random_masks(shapes: dict[str, Sequence[int]], seed: int, block: tuple[int, int] = (1, 1)) -> dict[str, Mask]:
    """A mask that keeps about a third, for each named weight."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Mask((torch.rand(rows // block[0], columns // block[1], generator=generator) < 1 / 3).numpy(), block)
        for name, (rows, columns) in shapes.items()
    }
