"""Tries of the packages that are always installed."""

from __future__ import annotations

import io
from typing import Any

from compresskit.doctor.tried import Tried, require


def torch() -> Tried:
    """A gradient, a product on each GPU, and what GPUs there are."""
    import torch

    weight = torch.ones(4, 4, requires_grad=True)
    (weight @ torch.ones(4)).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    gradient = weight.grad
    require(gradient is not None and torch.equal(gradient, torch.ones(4, 4)), "its gradient is wrong")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    facts = {"cuda": torch.version.cuda, "gpus": [_gpu(index) for index in range(count)]}
    return Tried("a gradient, a product on each GPU" if count else "a gradient", facts)


def _gpu(index: int) -> dict[str, Any]:
    """What torch tells of a GPU, once that has computed."""
    import torch

    ones = torch.ones(64, 64, device=f"cuda:{index}")
    require(float((ones @ ones).sum()) == 64.0**3, f"a product on GPU {index} is wrong")
    found = torch.cuda.get_device_properties(index)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "free_bytes": torch.cuda.mem_get_info(index)[0],
        "compute_capability": f"{found.major}.{found.minor}",
    }


def transformers() -> Tried:
    """A BERT of one layer."""
    import torch
    from transformers import BertConfig, BertForQuestionAnswering

    size: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = BertForQuestionAnswering(BertConfig(vocab_size=16, **size)).eval()
    with torch.no_grad():
        found = model(torch.tensor([[1, 2, 3]])).start_logits
    require(bool(found.isfinite().all()), "a BERT gave numbers that are not finite")
    return Tried("a BERT of one layer")


def tokenizers() -> Tried:
    """Windows of a long text, which two versions lose."""
    from compresskit.models.tasks.windows import require_windows

    require_windows()
    return Tried("windows of a long text")


def accelerate() -> Tried:
    """Its state."""
    from accelerate import PartialState

    require(PartialState(cpu=True).num_processes >= 1, "it counts no process")
    return Tried("its state")


def peft() -> Tried:
    """A LoRA adapter."""
    import torch
    from peft import LoraConfig, get_peft_model

    model: Any = torch.nn.Sequential(torch.nn.Linear(4, 4))  # any module will do
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["0"]))
    require(tuple(adapted(torch.ones(1, 4)).shape) == (1, 4), "an adapter changed a shape")
    return Tried("a LoRA adapter")


def pyarrow() -> Tried:
    """Parquet, written and read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, table = io.BytesIO(), pa.table({"a": [1, 2]})
    pq.write_table(table, file)
    require(pq.read_table(io.BytesIO(file.getvalue())).equals(table), "Parquet came back changed")
    return Tried("Parquet written and read")


def safetensors() -> Tried:
    """A tensor, written and read."""
    import numpy as np
    from safetensors.numpy import load, save

    require(load(save({"a": np.arange(3)}))["a"].tolist() == [0, 1, 2], "a tensor came back changed")
    return Tried("a tensor written and read")


def numpy() -> Tried:
    """A determinant."""
    import numpy as np

    require(abs(float(np.linalg.det(np.eye(3) * 2)) - 8) < 1e-9, "a determinant is wrong")
    return Tried("a determinant")


def scipy() -> Tried:
    """A binomial test."""
    from scipy.stats import binomtest

    require(abs(binomtest(1, 2).pvalue - 1) < 1e-9, "a test is wrong")
    return Tried("a binomial test")


def constriction() -> Tried:
    """Codes of weights, written and read."""
    import numpy as np

    from compresskit.checkpoint.coded import count, decode, encode

    codes = np.array([[1, -2, 3], [1, 1, 0]], dtype=np.int8)
    require(bool((decode(encode(codes), codes.shape, count(codes)) == codes).all()), "codes came back changed")
    return Tried("codes written and read")


def ijson() -> Tried:
    """A list."""
    import ijson

    require(list(ijson.items(io.BytesIO(b"[1, 2]"), "item")) == [1, 2], "it lost a number")
    return Tried(f"a list, by its backend {ijson.backend}")


def zstandard() -> Tried:
    """Bytes, packed and unpacked."""
    import zstandard

    packed = zstandard.ZstdCompressor().compress(b"text")
    require(zstandard.ZstdDecompressor().decompress(packed) == b"text", "bytes came back changed")
    return Tried("bytes packed and unpacked")


def pydantic() -> Tried:
    """A list, read."""
    from pydantic import TypeAdapter

    require(TypeAdapter(list[int]).validate_json("[1]") == [1], "it read a list wrongly")
    return Tried("a list read")


def jsonschema() -> Tried:
    """A number, checked."""
    import jsonschema

    jsonschema.validate(1, {"type": "integer"})
    return Tried("a number checked")


def yaml() -> Tried:
    """A mapping, read."""
    import yaml

    require(yaml.safe_load("a: [1]") == {"a": [1]}, "it read YAML wrongly")
    return Tried("YAML read")


def jinja2() -> Tried:
    """A template."""
    import jinja2

    require(jinja2.Template("{{ a }}").render(a=1) == "1", "it wrote a template wrongly")
    return Tried("a template")


def packaging() -> Tried:
    """Two versions, compared."""
    from packaging.version import Version

    require(Version("1.10") > Version("1.9"), "it orders versions wrongly")
    return Tried("versions compared")


def rich() -> Tried:
    """A table."""
    from rich.console import Console
    from rich.table import Table

    Console(file=io.StringIO()).print(Table("a"))
    return Tried("a table")


def typer() -> Tried:
    """A command."""
    import typer

    app = typer.Typer()
    app.command()(lambda: None)
    typer.main.get_command(app)
    return Tried("a command")
