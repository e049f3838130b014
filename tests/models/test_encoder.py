"""The encoder family on four kinds of models, against transformers' own forward passes and losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    BertConfig,
    CanineConfig,
    GPT2Config,
    LEDConfig,
    LlamaConfig,
    LongformerConfig,
    RobertaConfig,
    T5Config,
    T5ForQuestionAnswering,
    ViltConfig,
    XLNetConfig,
    XLNetForQuestionAnswering,
)

from compresskit.models.encoder import EncoderFamily
from compresskit.models.loaded import TrainableModel
from compresskit.models.registry import load_trainable
from compresskit.models.source import resolve
from tests.contract import readers
from tests.models import tiny
from tests.models.tiny import KINDS, Kind

FAMILY = EncoderFamily()


def opened(folder: Path) -> TrainableModel:
    loaded = load_trainable(resolve(str(folder)))
    loaded.model.eval()
    return loaded


BERT_BLOCK = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
BLOCKS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "bert": ("bert.encoder.layer", BERT_BLOCK),
    "roberta": ("roberta.encoder.layer", BERT_BLOCK),
    "electra": ("electra.encoder.layer", BERT_BLOCK),
    "distilbert": (
        "distilbert.transformer.layer",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: tiny.save(kind, root / kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def loaded(kind: Kind, folders: dict[Kind, Path]) -> TrainableModel:
    return opened(folders[kind])


def test_what_may_be_masked(kind: Kind, loaded: TrainableModel) -> None:
    prefix, parts = BLOCKS[kind]
    expected = {f"{prefix}.{layer}.{part}.weight" for layer in range(2) for part in parts}
    found = FAMILY.weights(loaded.model)
    assert set(found) == expected
    assert all(module.weight is loaded.model.get_parameter(name) for name, module in found.items())
    assert {type(module) for module in found.values()} == {nn.Linear}


def test_the_head(loaded: TrainableModel) -> None:
    assert FAMILY.head(loaded.model) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert not loaded.missing_head


def test_what_learns_beside_the_masked_weights(kind: Kind, loaded: TrainableModel) -> None:
    """Biases and norms of the blocks and the head, and nothing of the embeddings."""
    prefix, parts = BLOCKS[kind]
    masked = {f"{prefix}.{layer}.{part}.weight" for layer in range(2) for part in parts}
    names = {name for name, _ in loaded.model.named_parameters()}
    expected = {name for name in names if name.startswith((prefix + ".", "qa_outputs."))} - masked
    assert FAMILY.alongside(loaded.model) == expected
    assert sum("norm" in name.lower() for name in expected) == 2 * 2 * 2  # two norms a block, weight and bias


def test_longest_input(kind: Kind, loaded: TrainableModel) -> None:
    longest = FAMILY.max_positions(loaded.model.config)
    assert longest == tiny.POSITIONS
    ids = torch.full((1, longest + 1), 7)
    loaded.model(input_ids=ids[:, :longest])
    with pytest.raises((IndexError, RuntimeError)):
        loaded.model(input_ids=ids)


def test_no_limit_where_the_configuration_names_none() -> None:
    assert FAMILY.max_positions(T5Config()) is None


@pytest.mark.parametrize(
    ("config", "owned"),
    [(BertConfig(), True), (CanineConfig(), True), (GPT2Config(), False), (LlamaConfig(), False), (T5Config(), False)],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_encoders_are_owned_and_decoders_are_not(config: Any, owned: bool) -> None:
    assert FAMILY.owns(config) is owned


@pytest.mark.parametrize(
    ("config", "named", "owned"),
    [
        (GPT2Config, "GPT2ForQuestionAnswering", True),
        (GPT2Config, "GPT2LMHeadModel", False),
        (LlamaConfig, "LlamaForQuestionAnswering", True),
        (T5Config, "T5ForQuestionAnswering", True),
        (T5Config, "T5ForConditionalGeneration", False),
        (XLNetConfig, "XLNetForQuestionAnsweringSimple", True),
        (BertConfig, "BertForMaskedLM", True),
        (ViltConfig, "ViltForQuestionAnswering", False),
    ],
)
def test_what_the_configuration_names_decides(config: Any, named: str, owned: bool) -> None:
    assert FAMILY.owns(config(architectures=[named])) is owned


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (XLNetConfig(), None),
        (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (LongformerConfig(max_position_embeddings=4098, pad_token_id=1), 4096),
        (LEDConfig(max_encoder_position_embeddings=64, max_decoder_position_embeddings=32), 32),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_where_positions_are_told_otherwise(config: Any, longest: int | None) -> None:
    assert FAMILY.max_positions(config) == longest


def test_the_head_of_a_model_whose_base_is_no_module() -> None:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 9}
    model = T5ForQuestionAnswering(T5Config(**sizes))
    assert FAMILY.head(model) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert len(FAMILY.weights(model)) == 6 + 10


def test_a_head_of_beams_is_not_the_one_that_is_read(tmp_path: Path) -> None:
    tokenizer = readers.tokenizer_of("bert")
    config: Any = readers.config_of("xlnet", tokenizer)
    XLNetForQuestionAnswering(config).save_pretrained(tmp_path / "beams")
    tokenizer.save_pretrained(tmp_path / "beams")
    assert opened(tmp_path / "beams").missing_head


def test_a_model_is_built_of_a_configuration(kind: Kind, folders: dict[Kind, Path]) -> None:
    config = AutoConfig.from_pretrained(folders[kind])
    assert type(FAMILY.build(config)) is type(AutoModelForQuestionAnswering.from_config(config))
