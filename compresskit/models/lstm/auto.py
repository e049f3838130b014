"""The BiLSTM readers in transformers' Auto classes."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer

from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.model import LstmReader
from compresskit.models.lstm.tokenizer import WordTokenizer


def register_auto_classes() -> None:
    """Add configuration, model and tokenizer to transformers' tables; where they are there already, nothing changes."""
    AutoConfig.register(LstmReaderConfig.model_type, LstmReaderConfig, exist_ok=True)
    AutoModelForQuestionAnswering.register(LstmReaderConfig, LstmReader, exist_ok=True)
    AutoTokenizer.register(LstmReaderConfig, tokenizer_class=WordTokenizer, exist_ok=True)
