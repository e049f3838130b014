from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer

from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.family import LstmFamily
from compresskit.models.lstm.model import LstmReader
from compresskit.models.lstm.tokenizer import WordTokenizer
from tests.models.lstm import small
from tests.models.lstm.small import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_the_context_and_of_no_answer(tmp_path: Path, variant: str) -> None:
    encoded = small.batch()
    out = small.model(tmp_path, variant)(**encoded)
    for logits in (out.start_logits, out.end_logits):
        assert logits.shape == encoded["input_ids"].shape
        separators = encoded["input_ids"] == 3
        expected = (encoded["token_type_ids"] == 1) & ~separators
        expected[:, 0] = True
        assert torch.equal(logits.isfinite(), expected)
        assert torch.equal(logits == -torch.inf, ~expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_neither_padding_nor_neighbours_matter(tmp_path: Path, variant: str) -> None:
    model, encoded = small.model(tmp_path, variant), small.batch()
    together = model(**encoded)
    for row, length in enumerate(encoded["attention_mask"].sum(1).tolist()):
        alone = model(**{name: values[row : row + 1, :length] for name, values in encoded.items()})
        torch.testing.assert_close(alone.start_logits[0], together.start_logits[row, :length])
        torch.testing.assert_close(alone.end_logits[0], together.end_logits[row, :length])


def test_masks_are_found_where_they_are_not_given(tmp_path: Path) -> None:
    model, encoded = small.model(tmp_path), small.batch()
    assert torch.equal(model(encoded["input_ids"]).start_logits, model(**encoded).start_logits)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(tmp_path: Path, variant: str) -> None:
    model, encoded = small.model(tmp_path, variant), small.batch()
    out = model(**encoded)
    finite = out.start_logits.isfinite()
    ((out.start_logits[finite] - 1).square().sum() + (out.end_logits[finite] - 1).square().sum()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # The bias of a score has no effect under a softmax.
    assert silent <= {"interaction.context.bias", "interaction.attention.key.bias"}


def test_the_exact_match_is_the_only_thing_it_adds(tmp_path: Path) -> None:
    model = small.model(tmp_path, exact_match=True)
    question, context = next(small.parts(small.batch()))
    seen = torch.ones(1, len(question), dtype=torch.bool)
    vectors = model.embeddings(context[None], question[None], seen)
    torch.testing.assert_close(vectors[..., :-1], model.embeddings.words(context)[None])
    assert vectors[0, :, -1].tolist() == [float(word in question.tolist()) for word in context.tolist()]
    assert not model.embeddings(context[None], question[None], ~seen)[..., -1].any()


@pytest.mark.parametrize(("question", "context"), [("", "the king"), ("who", ""), ("", "")])
def test_empty_texts(tmp_path: Path, question: str, context: str) -> None:
    out = small.model(tmp_path)(**small.tokenizer()([question], [context], return_tensors="pt"))
    assert int(out.start_logits.isfinite().sum()) == 1 + len(context.split())


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_opens_with_the_auto_classes(tmp_path: Path, variant: str) -> None:
    folder = small.folder(tmp_path, variant, characters=True)
    assert not list(folder.glob("*.bin"))
    assert isinstance(AutoConfig.from_pretrained(folder), LstmReaderConfig)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer) is WordTokenizer
    model = AutoModelForQuestionAnswering.from_pretrained(folder)
    assert type(model) is LstmReader
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "again")
    for (name, ours), (other, theirs) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
    encoded = tokenizer(small.QUESTIONS, small.CONTEXTS, padding=True, return_tensors="pt")
    assert torch.equal(model.eval()(**encoded).start_logits, again.eval()(**encoded).start_logits)


def test_frozen_vectors_stay(tmp_path: Path) -> None:
    folder = small.folder(tmp_path)
    config = AutoConfig.from_pretrained(folder)
    for freeze in (True, False):
        config.freeze_embeddings = freeze
        model, missing = LstmFamily().load(folder, config, torch.float32)
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        assert frozen == ["embeddings.words.weight"] * freeze
        assert not missing


def test_first_weights_are_kerass() -> None:
    torch.manual_seed(0)
    model = LstmReader(LstmReaderConfig(vocab_size=500, hidden_size=16))
    layer: Any = model.encoder[0]
    for gate in layer.weight_hh_l0.chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)
    bound = (6 / (100 + 16)) ** 0.5
    assert all(0.9 * bound < float(gate.detach().abs().max()) <= bound for gate in layer.weight_ih_l0.chunk(4))
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    assert bias.tolist() == [0.0] * 16 + [1.0] * 16 + [0.0] * 32
    assert not model.get_input_embeddings().get_parameter("weight")[0].any()
