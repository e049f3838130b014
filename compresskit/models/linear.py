"""The linear layers of a model that may be replaced: adapted, packed."""

from __future__ import annotations

from torch import nn

from compresskit.models.loaded import TrainableModel


def linear_layers(loaded: TrainableModel) -> dict[str, nn.Linear]:
    """All linear layers by name, but the head and the one that writes the vocabulary.

    Those decide the answers by small differences, and the latter often shares its weight with the embeddings.
    """
    head = {name.rpartition(".")[0] for name in loaded.family.head(loaded.model)}
    output = loaded.model.get_output_embeddings()
    return {
        name: module
        for name, module in loaded.model.named_modules()
        if isinstance(module, nn.Linear) and name not in head and module is not output
    }
