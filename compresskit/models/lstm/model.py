"""The BiLSTM reader as a model of transformers: embeddings, BiLSTMs, attention, start and end logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from compresskit.models.kinds.int8 import check_layout, is_int8, open_in_8_bits
from compresskit.models.lstm.config import LstmReaderConfig
from compresskit.models.lstm.layers import AttentionFlow, BiLSTM, CharacterCnn, Highway, Matching, SequenceDropout

# Standard deviation of random word vectors: that of a number of GloVe's.
VECTOR_SCALE = 0.3


class Embeddings(nn.Module):
    """Words as vectors: a table, the letters' convolution beside it, highway layers above, and the exact match.

    That is 1 where the other part of the window has the same word (Chen et al. 2017, arXiv 1704.00051), else 0.
    """

    def __init__(self, config: LstmReaderConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.embedding_dim, padding_idx=config.pad_token_id)
        self.words.requires_grad_(not config.freeze_embeddings)
        self.characters = CharacterCnn(config) if config.characters else None
        size = config.embedding_dim + (config.character_filters if config.characters else 0)
        self.highway = nn.ModuleList(Highway(size) for _ in range(config.highway))
        self.exact_match = config.exact_match
        self.size = size + config.exact_match
        self.dropout = SequenceDropout(config.dropout)

    def forward(self, ids: Tensor, others: Tensor, seen: Tensor) -> Tensor:
        """Vectors (B, time, size) of words `ids` (B, time); `others` (B, n) are the other part's, where `seen`."""
        vectors: Tensor = self.words(ids)
        if self.characters is not None:
            vectors = torch.cat((vectors, self.characters(ids).to(vectors.dtype)), dim=-1)
        vectors = self.dropout(vectors)
        for layer in self.highway:
            vectors = layer(vectors)
        if self.exact_match:
            matched = ((ids.unsqueeze(2) == others.unsqueeze(1)) & seen.unsqueeze(1)).any(dim=2, keepdim=True)
            vectors = torch.cat((vectors, matched.to(vectors.dtype)), dim=2)
        return vectors


class Head(nn.Module):
    """Start and end logits of every position, and of "no answer".

    Without modelling layers a position is judged by one hidden layer over its own features, with `max` pooling beside
    the maximum of all; with them by a linear layer, as in BiDAF. "No answer" has a learned logit (Levy et al. 2017), or
    with `max` pooling one that is read off the window's maximum.
    """

    def __init__(self, config: LstmReaderConfig, features: int) -> None:
        super().__init__()
        size = 2 * config.hidden_size
        pooled = features + (size if config.modelling_layers else 0)
        self.pools = config.pooling == "max"
        self.hidden = None if config.modelling_layers else nn.Linear(features, size)
        self.pooled = nn.Linear(features, size, bias=False) if self.pools and self.hidden is not None else None
        self.start, self.end = (nn.Linear(pooled if self.hidden is None else size, 1) for _ in range(2))
        self.null = nn.Linear(pooled, 2) if self.pools else None
        self.null_bias = None if self.pools else nn.Parameter(torch.zeros(2))
        self.dropout = SequenceDropout(config.dropout)

    def forward(self, start: Tensor, end: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C, 2) of the positions, and (B, 2) of "no answer".

        `start` and `end` are the features for either, (B, C, features), `inside` (B, C) tells context from padding.
        """
        start, end = self.dropout(start), self.dropout(end)
        pooled = start.masked_fill(~inside.unsqueeze(2), -1e4).amax(dim=1) if self.pools else None
        if self.null is not None:
            null = self.null(pooled)
        else:
            assert self.null_bias is not None
            null = self.null_bias.expand(start.shape[0], 2)
        if self.hidden is not None:
            beside = 0 if self.pooled is None else self.pooled(pooled).unsqueeze(1)
            start = end = self.dropout(torch.relu(self.hidden(start) + beside))
        return torch.cat((self.start(start), self.end(end)), dim=2), null


class LstmReader(PreTrainedModel):
    """A BiLSTM reader of windows `[CLS] question [SEP] context [SEP]`; [CLS] stands for "no answer"."""

    config_class = LstmReaderConfig
    config: LstmReaderConfig
    main_input_name = "input_ids"

    def __init__(self, config: LstmReaderConfig) -> None:
        check_layout(config)
        super().__init__(config)
        size = 2 * config.hidden_size
        self.embeddings = Embeddings(config)
        readers = config.num_hidden_layers - config.modelling_layers
        self.encoder = nn.ModuleList(
            BiLSTM(self.embeddings.size if layer == 0 else size, config.hidden_size) for layer in range(readers)
        )
        flow = config.attention == "flow"
        self.interaction = AttentionFlow(config) if flow else Matching(config)
        features = (4 if flow else 3) * size
        # The last one reads the modelled sequence once more, for the end of the answer (Seo et al. 2017).
        above = config.modelling_layers + 1 if config.modelling_layers else 0
        self.modelling = nn.ModuleList(
            BiLSTM(features if layer == 0 else size, config.hidden_size) for layer in range(above)
        )
        self.head = Head(config, features)
        self.dropout = SequenceDropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *model_args: Any, config: Any = None, **kwargs: Any
    ) -> Any:
        """As of any model of transformers; a checkpoint in 8 bits stays so.

        The package that transformers opens such a one with knows no recurrent matrices: it would take the codes for
        weights.
        """
        name = pretrained_model_name_or_path
        folder = Path(name or "", kwargs.get("subfolder") or "")
        if name is not None and (folder / "config.json").is_file():
            known = config or cls.config_class.from_pretrained(folder)
            if is_int8(known):
                open_in_8_bits(known, folder)
                config = known
        return super().from_pretrained(name, *model_args, config=config, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """The words' vectors, an nn.Embedding."""
        return self.embeddings.words

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> QuestionAnsweringModelOutput | tuple[Tensor, ...]:
        """Start and end logits (B, length), of [CLS] and the context, -inf elsewhere; with positions (B,) the loss too.

        `input_ids`, `attention_mask` and `token_type_ids` (0 question, 1 context) have the shape (B, length), int64;
        the masks are found from [PAD] and [SEP] where they are not given. The loss is the mean of the cross-entropies
        of start and end; a window without the answer has both at [CLS], 0. `return_dict=False` asks for a tuple.
        """
        if attention_mask is None:
            attention_mask = input_ids.ne(self.config.pad_token_id or 0).long()
        if token_type_ids is None:
            separators = input_ids.eq(self.config.sep_token_id or 0).long()
            token_type_ids = (separators.cumsum(1) - separators).clamp(max=1)
        token_type_ids = token_type_ids * attention_mask
        second = token_type_ids.sum(dim=1)
        first = attention_mask.sum(dim=1) - second
        # A window without question or context reads a separator in its place; its logits are not looked at.
        lengths = torch.stack((second - 1, first - 2)).clamp(min=1)
        of_context, of_question = lengths
        # A GPU is waited for here, for two numbers. Without them both parts would be as long as the window, and a
        # recurrence takes time for every step of it, of padding too.
        # A graph has no such numbers.
        exporting = torch.compiler.is_exporting()
        context_time, question_time = 2 * [input_ids.shape[1]] if exporting else lengths.amax(dim=1).tolist()
        context, inside = self._part(input_ids, first, of_context, context_time)
        question, asked = self._part(input_ids, torch.ones_like(first), of_question, question_time)
        above = self._read(self.embeddings(context, question, asked), of_context)
        below = self._read(self.embeddings(question, context, inside), of_question)
        start = end = self.interaction(above, below, (inside, asked))
        if len(self.modelling):
            start, end = self._modelled(start, of_context)
        logits, null = self.head(start, end, inside)
        outside = ~inside | (second < 2).unsqueeze(1)
        whole = self._spread(
            logits.float().masked_fill(outside.unsqueeze(2), -torch.inf), null.float(), first, input_ids
        )
        loss = None
        if start_positions is not None and end_positions is not None:
            labels = torch.stack((start_positions, end_positions), dim=1)
            loss = nn.functional.cross_entropy(whole, labels)
        output = QuestionAnsweringModelOutput(loss=loss, start_logits=whole[..., 0], end_logits=whole[..., 1])
        return output.to_tuple() if return_dict is False else output

    def _part(self, ids: Tensor, begin: Tensor, length: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """The ids from `begin` (B,) on, and which of them are within `length` (B,); both of shape (B, longest)."""
        step = torch.arange(longest, device=ids.device)
        where = (begin.unsqueeze(1) + step).clamp(max=ids.shape[1] - 1)
        return ids.gather(1, where), step < length.unsqueeze(1)

    def _read(self, states: Tensor, lengths: Tensor) -> Tensor:
        for layer in self.encoder:
            states = self.dropout(layer(states, lengths))
        return states

    def _modelled(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features for start and end: those of the attention, and beside them what the modelling layers make of it."""
        states = features
        for layer in list(self.modelling)[:-1]:
            states = self.dropout(layer(states, lengths))
        last = self.modelling[-1](states, lengths)
        return torch.cat((features, states), dim=2), torch.cat((features, last), dim=2)

    def _spread(self, logits: Tensor, null: Tensor, begin: Tensor, ids: Tensor) -> Tensor:
        """Logits of the context at its place in the window, (B, length, 2), with that of "no answer" in front."""
        step = torch.arange(ids.shape[1], device=ids.device) - begin.unsqueeze(1)
        there = (step >= 0) & (step < logits.shape[1])
        where = step.clamp(0, logits.shape[1] - 1).unsqueeze(2).expand(-1, -1, 2)
        whole = logits.gather(1, where).masked_fill(~there.unsqueeze(2), -torch.inf)
        return torch.cat((null.unsqueeze(1), whole[:, 1:]), dim=1)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Keras's defaults: Glorot for inputs, orthogonal for recurrent matrices, 1 for the bias of the forget gate."""
        if isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                if "weight_ih" in name:
                    for gate in parameter.chunk(4):
                        nn.init.xavier_uniform_(gate)
                elif "weight_hh" in name:
                    for gate in parameter.chunk(4):
                        nn.init.orthogonal_(gate)
                else:
                    nn.init.zeros_(parameter)
                    if "bias_ih" in name:
                        nn.init.ones_(parameter.chunk(4)[1])
        elif isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=VECTOR_SCALE)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
