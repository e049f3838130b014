"""One small real piece of work for each package, run in a process of its own.

A try raises what the package raises, or says in a few words what was done. What stands between a package and our own
code is tried through our own code, where that is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compresskit.doctor import needed, optional
from compresskit.doctor.tried import Tried

TRIES: Mapping[str, Callable[[], Tried]] = {
    "torch": needed.torch,
    "transformers": needed.transformers,
    "tokenizers": needed.tokenizers,
    "accelerate": needed.accelerate,
    "peft": needed.peft,
    "bitsandbytes": optional.bitsandbytes,
    "datasets": optional.datasets,
    "pyarrow": needed.pyarrow,
    "safetensors": needed.safetensors,
    "numpy": needed.numpy,
    "scipy": needed.scipy,
    "sentencepiece": optional.sentencepiece,
    "protobuf": optional.protobuf,
    "constriction": needed.constriction,
    "bm25s": optional.bm25s,
    "ijson": needed.ijson,
    "zstandard": needed.zstandard,
    "pydantic": needed.pydantic,
    "jsonschema": needed.jsonschema,
    "PyYAML": needed.yaml,
    "Jinja2": needed.jinja2,
    "packaging": needed.packaging,
    "rich": needed.rich,
    "typer": needed.typer,
    "onnx": optional.onnx,
    "onnxscript": optional.onnxscript,
    "onnxruntime": optional.onnxruntime,
    "matplotlib": optional.matplotlib,
    "pandas": optional.pandas,
    "sacrebleu": optional.sacrebleu,
    "rouge-score": optional.rouge_score,
    "compressed-tensors": optional.compressed_tensors,
    "nvidia-ml-py": optional.pynvml,
    "mamba-ssm": optional.kernels,
    "causal-conv1d": optional.kernels,
    "lm_eval": optional.lm_eval,
    "tensorboard": optional.tensorboard,
    "wandb": optional.wandb,
    "gptqmodel": optional.loads("gptqmodel"),
    "optimum-quanto": optional.loads("optimum.quanto"),
    "mambapy": optional.mambapy,
}
"""The try of each package, by its name in `packages.PACKAGES`."""
