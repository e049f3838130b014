"""The keywords of the Python API, each with its type and what it says: those of the dataclasses of options.

Written by `python -m tests.api.write_keywords`; a test holds the two together. What is None was not given.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

if TYPE_CHECKING:
    import torch

    from compresskit.api.checkpoint import Reference
    from compresskit.models.prompt import Prompt

StrPath: TypeAlias = str | os.PathLike[str]


class RunKeywords(TypedDict, total=False):
    """Keywords of every function that makes a checkpoint."""

    output: StrPath | None
    """Folder of the new checkpoint. Default: runs/<model>-<method>."""
    overwrite: bool
    """Replace the checkpoint in the output folder. Default: False."""
    revision: str | None
    """Branch, tag or commit of a MODEL of the Hub. Default: the newest."""
    cache_dir: StrPath | None
    """Where models of the Hub are kept, and looked for. Default: that of HF_HUB_CACHE, or of the Hub's own tools."""


class LearningKeywords(RunKeywords, total=False):
    """Keywords of every function that trains."""

    train_data: StrPath | None
    """What to learn from: a file (SQuAD JSON, rows as JSON, CSV or Parquet), a folder, a Hub data set, or demo.
    Default: rajpurkar/squad_v2; demo for a demo model."""
    bad_data: Literal["mend", "skip", "stop"]
    """Answers that do not stand at their offset: mend takes the nearest place, and leaves out what stands nowhere;
    skip leaves all of them out; stop ends the run. Default: mend."""
    max_train_samples: int | None
    """Learn from N questions, drawn with `seed`. Default: all."""
    negatives: float
    """Unanswerable questions to construct for each answerable one. Default: 0.0."""
    epochs: float | None
    """Passes over the training data."""
    max_steps: int | None
    """Optimizer steps, in place of `epochs`. Default: as `epochs` says."""
    batch_size: int
    """Windows in one step. Default: 32."""
    accumulate: int
    """Batches whose gradients make one step. Default: 1."""
    lr: float | None
    """Peak learning rate of the weights that learn."""
    optimizer: Literal["adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"]
    """adamw-8bit keeps moments in 8 bits, and the paged one moves them to the CPU's memory where a GPU's is full;
    adafactor keeps sums of rows and columns. Default: adamw."""
    gradient_checkpointing: bool
    """Compute activations twice in place of keeping them: less memory, slower steps. Default: False."""
    lr_warmup: float
    """Fraction of the steps in which learning rates rise to their peak. Default: 0.06."""
    weight_decay: float
    """Weight decay of the matrices that learn. Default: 0.01."""
    max_grad_norm: float
    """Longest gradient of all weights together; a longer one is scaled down to it. Default: 1.0."""
    max_length: int
    """Tokens of one window: question and a part of the context. Default: 384."""
    stride: int
    """Tokens that neighbouring windows of one context share. Default: 128."""
    prompt_template: Prompt | StrPath | None
    """The text around question and context, of a model that writes its answers: t5, lines, plain, flan, or a JSON
    file. Default: t5."""
    max_answer_length: int
    """Longest answer that is given in scoring, in tokens. Default: 30."""
    seed: int
    """Seed of everything random: order, sampling, initial weights. Default: 42."""
    device: Literal["auto", "cpu", "cuda"] | torch.device
    """Where to compute; auto takes a GPU where there is one. Default: auto."""
    dtype: Literal["auto", "float32", "bfloat16"] | torch.dtype
    """Arithmetic; auto is bfloat16 on a GPU, float32 on a CPU. Default: auto."""
    attention_dropout: Literal["auto", "model", "none"]
    """Dropout of attention weights in training: model takes what the model's configuration says, none leaves it out;
    auto leaves it out on a CPU, where it makes a step about four times slower. Default: auto."""
    save_steps: int
    """Steps between the states that `resume` takes up. Default: 500."""
    resume: bool
    """Go on with the interrupted run of this output; `max_steps` or `epochs` may be others than before. Default:
    False."""
    log: Literal["jsonl", "tensorboard", "wandb"]
    """Where figures of the training go beside the checkpoint's log.jsonl: to DIR.tensorboard, or to wandb. Default:
    jsonl."""
    eval_steps: int | None
    """Score the model every N steps, and keep the state of the best EM. Default: never; the last state is kept."""
    patience: int | None
    """Stop after N evaluations without a better EM. Default: no early stop."""
    select_on: Literal["train", "eval"] | None
    """What chooses the state: train, questions of the training data that are held out; eval, `eval_data`, on which a
    score is then no longer clean. Default: train."""
    held_out: float | None
    """Share of the training questions to hold out, in whole paragraphs. Default: 0.05."""
    eval_data: StrPath | None
    """What to score the result on, in the same forms. Default: none, no scoring."""
    distill: bool
    """Learn from a teacher's answers too. Default: False."""
    teacher: Reference | None
    """A fine-tuned checkpoint, of another family and another tokenizer if you like; prune takes the head of a like
    one. Default: with `distill` one is trained first."""
    temperature: float | None
    """Softens both distributions. Default: 2."""
    distill_weight: float | None
    """Weight of the teacher in the loss; the labels get the rest. Default: 0.9."""
    teacher_epochs: float | None
    """Epochs of a teacher that is trained first."""
    teacher_lr: float | None
    """Learning rate of a teacher that is trained first."""


class BuiltKeywords(TypedDict, total=False):
    """Keywords of a model that is built from its training data: `lstm`."""

    variant: Literal["1", "2", "3", "4", "bidaf"]
    """The preset that the other settings start from. Default: 1."""
    embeddings: str
    """random, or a file of word vectors: GloVe text or fastText .vec, plain or packed, or fastText .bin. Default:
    random."""
    embedding_dim: int
    """Numbers of a word's vector; 0 is those of the file, 100 where they are random. Default: 0."""
    freeze_embeddings: bool
    """Keep the words' vectors as they are. Default: False."""
    cased: bool
    """Tell capital letters from small ones. Default: False."""
    attention: Literal["additive", "multi-head", "self", "flow"]
    """How the context looks at the question. Default: as `variant` says."""
    residual: bool
    """Add what attention finds to what it started from, and normalize. Default: False."""
    pooling: Literal["flatten", "max"]
    """max: the window's maximum tells of no answer, and without modelling layers stands beside each position. Default:
    as `variant` says."""
    dropout: float
    """Rate of the activations that training drops. Default: as `variant` says."""
    l2: float
    """Weight of the squares of all matrices but the embeddings in the loss. Default: as `variant` says."""
    layers: int
    """BiLSTM layers that read question and context. Default: 1."""
    hidden_size: int
    """Units of an LSTM in one direction. Default: as `variant` says."""
    characters: bool
    """Read the words' letters too, by a convolution. Default: False."""
    exact_match: bool
    """Tell each word whether question and context both have it. Default: False."""
    highway: int
    """Highway layers above the word vectors. Default: as `variant` says."""
    modelling_layers: int
    """BiLSTM layers above the attention. Default: as `variant` says."""
    vocabulary: int
    """Most words that have a vector of their own. Default: 60000."""
    min_count: int
    """Occurrences in the training data that give a word its own vector. Default: 2."""
    buckets: int
    """Vectors that all other words share, by a hash. Default: 256."""


class TrainKeywords(LearningKeywords, BuiltKeywords, total=False):
    """Keywords of `ck.train`."""


class PruneKeywords(LearningKeywords, BuiltKeywords, total=False):
    """Keywords of `ck.prune`."""

    method: Literal["smp", "smp-l", "movement", "soft-movement", "magnitude"]
    """smp: weights frozen, scores learn, budget shared by importance; smp-l: the same fraction of each matrix;
    movement, soft-movement: weights and scores learn; magnitude: the smallest weights go. Default: smp."""
    sparsity: float
    """Fraction of the maskable weights to remove, in [0, 1). Default: 0.5."""
    block: str | tuple[int, int]
    """Rows and columns that one score covers. Default: 1x1."""
    score_lr: float | None
    """Peak learning rate of the scores. Default: 0.02."""
    penalty: float | None
    """Weight of the mean sigmoid of the scores in the loss. Default: 50 for a sparsity up to 0.5, growing to 400 at
    0.9 and above."""
    warmup: float
    """Fraction of the steps before the first weight goes. Default: 0.0."""
    cooldown: float
    """Fraction of the steps at the final sparsity. Default: 0.2."""
    mask_embeddings: bool
    """Mask the words' embeddings too. Default: False."""


class LoraKeywords(LearningKeywords, total=False):
    """Keywords of `ck.lora`."""

    rank: int
    """Rank of the adapters. Default: 8."""
    alpha: float | None
    """Scale of the adapters; they are multiplied by alpha / rank. Default: 2 · rank."""
    dropout: float | None
    """Dropout of the adapters' input. Default: 0."""
    targets: str | Sequence[str]
    """What is adapted: query-value, attention, linear, all-linear, names of modules (q, query), or globs over whole
    names. Default: query-value, all-linear for encoder, linear for causal."""
    rslora: bool
    """Divide alpha by the root of the rank, for high ranks. Default: False."""
    dora: bool
    """Learn the length of each column of a weight too (DoRA). Default: False."""
    init: Literal["default", "gaussian", "orthogonal", "pissa"]
    """How the adapters start; default is Kaiming-uniform for A, zeros for B; pissa takes the main directions of the
    weights. Default: default."""


class QloraKeywords(LoraKeywords, total=False):
    """Keywords of `ck.qlora`."""

    bits: Literal[4, 8]
    """Bits of a weight; 4 is NF4 with double quantization, by bitsandbytes. Default: 4."""


class QuantizeKeywords(RunKeywords, total=False):
    """Keywords of `ck.quantize`."""

    bits: Literal[4, 8]
    """Bits of a weight; 4 is NF4 with double quantization, by bitsandbytes. Default: 8."""
    backend: Literal["torch", "bitsandbytes", "onnxruntime"]
    """Who packs the weights and computes with them. torch: int8 of nearly all weights, of every family; bitsandbytes:
    of linear layers, and adapters train on them; onnxruntime: ONNX graphs. Default: torch."""
    activations: Literal["auto", "int8", "none"]
    """Whether linear layers multiply in 8 bits, which rounds their inputs to 8 bits too. auto: where that is fast, on
    a CPU with AVX2 and on a GPU in fp32. Default: auto."""
    calibrate: int | None
    """Measure on N training questions what 8 bits cost of each matrix, and move outliers of inputs into weights."""
    train_data: StrPath | None
    """The questions to calibrate with, never those of an evaluation. Default: what the checkpoint was trained on."""
    keep_top: int | None
    """Keep in 16 bits the K matrices that cost most in 8."""
    max_loss: float | None
    """Keep in 16 bits as many as it takes to lose no more than so many points of EM on the N questions."""
    static: bool
    """Give the inputs of a layer one scale, found on the N questions, in place of one a token. Default: False."""
    seed: int | None
    """Seed of the questions' choice. Default: 42."""


class MergeKeywords(RunKeywords, total=False):
    """Keywords of `ck.merge`."""

    dtype: Literal["float32", "bfloat16", "float16"] | torch.dtype
    """Numbers that the merged weights are kept in. Default: float32."""


class ExportKeywords(RunKeywords, total=False):
    """Keywords of `ck.export`."""

    onnx: bool
    """Write ONNX, under the file names that Optimum uses. Default: False."""
    peft_plain: bool
    """Write a Mamba's adapter in the form that plain PEFT opens. Default: False."""


class MeasureKeywords(TypedDict, total=False):
    """Keywords of a checkpoint's own `evaluate`."""

    blind: str | None
    """A set that is scored once for each checkpoint, beside `data`, with a record of every look at it."""
    blind_record: StrPath | None
    """Where that record is. Default: DATA.blind.jsonl, beside the data."""
    baseline: Reference | None
    """The checkpoint that the others are compared with, or the NAME of runs."""
    show_flips: int
    """Tell N questions lost against the baseline, and N won. Default: 0."""
    rounds: int | None
    """Compare time with the baseline's in N rounds, in turns, and show the ratios. Default: 6 where a gate compares
    time or memory with the baseline's, else none."""
    cache: bool
    """Take the row of an unchanged checkpoint from an earlier run. Default: True."""
    predictions: StrPath | None
    """Write each checkpoint's answers there, id to text."""
    batch_size: int
    """Windows of full length in one batch. Default: 32."""
    max_length: int
    """Tokens of one window. Default: 384."""
    stride: int
    """Tokens that neighbouring windows share. Default: 128."""
    max_answer_length: int
    """Longest answer that is given, in tokens. Default: 30."""
    prompt_template: Prompt | StrPath | None
    """The text around question and context, of a model that writes its answers: t5, lines, plain, flan, or a JSON
    file. Default: as it was trained."""
    beams: int | None
    """Hypotheses that are kept in the search for a text. Default: 1."""
    length_penalty: float | None
    """Above 0 longer texts rank higher: their log-probability is divided by the number of tokens to this power.
    Default: 1."""
    shots: int | None
    """Show N examples before each question, of `shots_data`, drawn with `seed`."""
    shots_data: StrPath | None
    """Where the examples are from: training data. Default: the training set of `data`."""
    null_threshold: float | Literal["auto"]
    """Unanswerable where null score - score is above this; auto: the best on `tune_data`. Default: 0."""
    tune_data: StrPath | None
    """Other questions, on which `null_threshold` auto is chosen."""
    limit: int | None
    """Ask whole paragraphs with at most N questions, drawn with `seed`."""
    device: Literal["auto", "cpu", "cuda"] | torch.device
    """Where to compute; auto takes a GPU where there is one. Default: auto."""
    dtype: Literal["float32", "bfloat16", "float16"] | torch.dtype
    """Numbers that weights are held in. Default: float32."""
    seed: int
    """Seed of `limit`, `shots` and `rounds`. Default: 0."""
    latency_questions: int
    """Time N questions one at a time; 0 measures no latency. Default: 50."""
    warmup_questions: int
    """Ask N questions before those that are timed. Default: 5."""
    repeat: int
    """Do all timing N times. Default: 1."""
    normalize: str
    """How texts are made comparable: squad, as the official script does (for English), or mlqa:LANG, as MLQA's does
    for ar, de, en, es, hi, vi, zh. Default: squad."""
    metrics: str | Sequence[str]
    """Overlap with the gold answers: bleu, rouge; perplexity of a language model: ppl."""
    harness: str | Sequence[str]
    """Tasks of lm-evaluation-harness for a language model: names, or YAML files."""
    gates: str | Sequence[str]
    """Fail unless every row but the baseline holds it: 'em>=base-1', 'size<=0.3x', 'latency<=20ms'; the baseline,
    where it is 'baseline.em>=70'."""
    gate_ci: bool
    """The worse end of the 95 % interval has to hold gates on EM and F1. Default: False."""
    undecided: Literal["fail", "pass"]
    """What becomes of a gate of which the data cannot tell whether it holds. Default: fail."""
    allow_weak_baseline: bool
    """Let gates compare with a baseline that does not beat answering nothing. Default: False."""
    slices: str | Sequence[str]
    """Tell the figures of each slice of the questions by KEY: question, answerable, answer_length, context_length,
    windows, title, or a column of the data."""


class EvaluateKeywords(MeasureKeywords, total=False):
    """Keywords of `ck.evaluate`."""

    data: StrPath
    """A file (SQuAD JSON, rows as JSON, CSV or Parquet), a folder, a Hub data set, or demo. Default:
    rajpurkar/squad_v2."""


class AnswerKeywords(TypedDict, total=False):
    """Keywords of `ck.predict`, and of a reader's."""

    max_length: int
    """Tokens of one window: question and a part of the context. Default: 384."""
    stride: int
    """Tokens that neighbouring windows of one context share. Default: 128."""
    batch_size: int
    """Windows in one batch. Default: 32."""
    n_best: int
    """Candidates to show. Default: 1."""
    max_answer_length: int
    """Longest answer that is given, in tokens. Default: 30."""
    null_threshold: float
    """Unanswerable where null score - score is above this. Default: 0.0."""
    prompt_template: Prompt | StrPath | None
    """The text around question and context, of a model that writes its answers: t5, lines, plain, flan, or a JSON
    file. Default: as it was trained."""
    beams: int | None
    """Hypotheses that are kept in the search for a text. Default: 1."""
    length_penalty: float | None
    """Above 0 longer texts rank higher: their log-probability is divided by the number of tokens to this power.
    Default: 1."""
    shots: int | None
    """Show N examples before each question, of `shots_data`, drawn with `seed`."""
    shots_data: StrPath | None
    """Where the examples are from: training data."""
    seed: int | None
    """Seed of `shots`. Default: 0."""
