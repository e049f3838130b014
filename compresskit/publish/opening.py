"""How a checkpoint on the Hub is opened: the lines that somebody copies, for each kind."""

from __future__ import annotations

from compresskit.checkpoint.coded import is_coded
from compresskit.models.source import Source
from compresskit.packages import command, package_of
from compresskit.publish.origin import Origin

_CLASSES = {
    "encoder": "AutoModelForQuestionAnswering",
    "lstm": "AutoModelForQuestionAnswering",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
}
_OPTIMUM = {"seq2seq": "ORTModelForSeq2SeqLM"}


def ways(repo: str, source: Source, kind: str, family: str, origin: Origin, packages: tuple[str, ...]) -> list[str]:
    """Markdown with the ways to open the model `repo`, the ecosystem's own first; `packages` are those of its kind."""
    own = _ecosystem(repo, source, kind, family, origin, packages)
    return [*([own] if own else []), _compresskit(repo, packages)]


def _ecosystem(
    repo: str, source: Source, kind: str, family: str, origin: Origin, packages: tuple[str, ...]
) -> str | None:
    """With transformers, PEFT or onnxruntime; None where they do not open it as it is."""
    name = _CLASSES[family]
    if kind == "mask" or (kind == "quantized" and is_coded(source.path)):
        return None
    if kind == "onnx":
        return _onnx(repo, family)
    lines = [f"from transformers import {name}, AutoTokenizer"]
    needs = "transformers"
    if family == "lstm":
        lines = ["import compresskit", *lines, "", "compresskit.register()"]
        needs = "compresskit"
    if kind == "adapter":
        if not _is_of_peft(source):
            return None
        base = origin.stands_on or ""
        at = f', revision="{origin.revision}"' if origin.revision else ""
        lines = [
            "from peft import PeftModel",
            f"from transformers import {name}, AutoTokenizer",
            "",
            f'base = {name}.from_pretrained("{base}"{at})',
            f'model = PeftModel.from_pretrained(base, "{repo}")',
        ]
        on_packed = " bitsandbytes" if "bitsandbytes" in packages else ""
        return _python(
            [*lines, f'tokenizer = AutoTokenizer.from_pretrained("{repo}")'], f"peft transformers{on_packed}"
        )
    if kind == "quantized":
        needs += " bitsandbytes" if _packed_by_bitsandbytes(source) else " compressed-tensors"
    lines += ["", f'model = {name}.from_pretrained("{repo}")', f'tokenizer = AutoTokenizer.from_pretrained("{repo}")']
    return _python(lines, needs)


def _onnx(repo: str, family: str) -> str:
    """A graph by onnxruntime; the three graphs of an encoder-decoder by Optimum, which knows how they take turns."""
    if family in _OPTIMUM:
        lines = [
            f"from optimum.onnxruntime import {_OPTIMUM[family]}",
            "from transformers import AutoTokenizer",
            "",
            f'model = {_OPTIMUM[family]}.from_pretrained("{repo}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{repo}")',
        ]
        return _python(lines, "optimum-onnx")
    lines = [
        "import onnxruntime",
        "from huggingface_hub import snapshot_download",
        "from transformers import AutoTokenizer",
        "",
        f'folder = snapshot_download("{repo}")  # a graph may have its weights in a file beside it',
        'session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]
    return _python(lines, "onnxruntime transformers")


def _python(lines: list[str], needs: str) -> str:
    return "\n".join(["With `pip install " + needs + "`:", "", "```python", *lines, "```"])


def _compresskit(repo: str, packages: tuple[str, ...]) -> str:
    installs = [command(package_of(module)) for module in packages] or ["pip install compresskit"]
    lines = [
        *installs,
        f'compresskit predict {repo} --question "Who …?" --context "…"',
        f"compresskit eval {repo} --data dev.json",
    ]
    return "\n".join(["On the command line:", "", "```sh", *lines, "```"])


def _is_of_peft(source: Source) -> bool:
    """Whether plain PEFT opens the adapter, as far as its manifest tells; one of another tool is PEFT's."""
    steps = source.manifest.steps if source.manifest is not None else ()
    found = next((step.metrics["adapter"] for step in reversed(steps) if "adapter" in step.metrics), "peft")
    return found == "peft"


def _packed_by_bitsandbytes(source: Source) -> bool:
    from compresskit.models.kinds.quantized import QuantizedKind

    return "bitsandbytes" in QuantizedKind().packages(source.path)
