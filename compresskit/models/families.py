"""The families of models, and the family of a checkpoint."""

from __future__ import annotations

from transformers import PretrainedConfig

from compresskit.errors import InputError
from compresskit.models.causal import CausalFamily
from compresskit.models.encoder import EncoderFamily
from compresskit.models.family import Family
from compresskit.models.folder import opening, read_config
from compresskit.models.lstm.auto import register_auto_classes
from compresskit.models.lstm.family import LstmFamily
from compresskit.models.seq2seq import Seq2SeqFamily
from compresskit.models.source import Source
from compresskit.text import with_article

# In this order: the encoders own what transformers has a question-answering head for, but what writes text.
FAMILIES: tuple[Family, ...] = (LstmFamily(), EncoderFamily(), Seq2SeqFamily(), CausalFamily())

# Our own loading needs no call of `compresskit.register()`.
register_auto_classes()


def family_of(source: Source) -> Family:
    """The family of a checkpoint, by its configuration alone; InputError where none of ours owns it."""
    return family_of_config(read_config(source.path), source.ref)


def owner(config: PretrainedConfig) -> Family | None:
    """The family that owns a configuration, None where none does."""
    return next((family for family in FAMILIES if family.owns(config)), None)


def family_of_config(config: PretrainedConfig, ref: str) -> Family:
    """The family that owns a configuration; InputError naming the checkpoint `ref` where none does."""
    with opening(f"the config.json of {ref} cannot be read", "it is damaged: copy it again"):
        family = owner(config)
    if family is not None:
        return family
    names, kind = ", ".join(family.name for family in FAMILIES), with_article(config.model_type)
    raise InputError(f"{ref} is {kind} model, of none of the families that compresskit knows ({names})")
