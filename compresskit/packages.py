"""Every package that the program uses or can use: the one list of them, and what pip is told to install each.

Which versions are asked for, and by which extra, is told by the project's own metadata. What only few need is an extra:
whoever imports such a package does so by `needed`, and asks with `require` before anything that takes long.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import TYPE_CHECKING

import compresskit
from compresskit.errors import MissingError

if TYPE_CHECKING:  # a command that lacks nothing need not import it
    from packaging.requirements import Requirement

DISTRIBUTION = "compresskit"
NOT_FOR_USERS = frozenset({"all", "demo", "dev", "docs", "fuzz"})
"""Extras that name the others again, or that only who works on the program needs."""
BUILT_HERE = frozenset({"mamba"})
"""Extras that pip builds against the torch that is installed (docs/reference/mamba.md)."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package by the name that pip knows, the module that is imported, and what it brings.

    `others` are further names of pip that bring the same module. `gpu` tells that it is of use with a GPU of NVIDIA
    alone. `install` is what pip is told where that is not the name.
    """

    name: str
    module: str
    brings: str
    others: tuple[str, ...] = ()
    gpu: bool = False
    install: str = ""


PACKAGES: Sequence[Package] = (
    Package("torch", "torch", "all computing"),
    Package("transformers", "transformers", "the models"),
    Package("tokenizers", "tokenizers", "tokens and windows of texts"),
    Package("accelerate", "accelerate", "training, on several GPUs too"),
    Package("peft", "peft", "adapters: lora, qlora"),
    Package("bitsandbytes", "bitsandbytes", "qlora, weights in 4 and 8 bits"),
    Package("datasets", "datasets", "data sets of the Hub"),
    Package("pyarrow", "pyarrow", "data on disk, Parquet"),
    Package("safetensors", "safetensors", "weights in files"),
    Package("numpy", "numpy", "figures"),
    Package("scipy", "scipy", "intervals and tests of figures"),
    Package("sentencepiece", "sentencepiece", "tokenizers of some models"),
    Package("protobuf", "google.protobuf", "reads those of sentencepiece"),
    Package("constriction", "constriction", "packed masks and int8 weights"),
    Package("bm25s", "bm25s", "--negatives"),
    Package("ijson", "ijson", "JSON of any size"),
    Package("zstandard", "zstandard", "files ending in .zst"),
    Package("pydantic", "pydantic", "manifests"),
    Package("jsonschema", "jsonschema", "checks of reports"),
    Package("PyYAML", "yaml", "settings in YAML"),
    Package("Jinja2", "jinja2", "the HTML page, prompts"),
    Package("packaging", "packaging", "this list"),
    Package("rich", "rich", "tables and progress"),
    Package("typer", "typer", "the command line"),
    Package("onnx", "onnx", "export --onnx"),
    Package("onnxscript", "onnxscript", "export --onnx"),
    Package("onnxruntime", "onnxruntime", "eval and predict of ONNX graphs", others=("onnxruntime-gpu",)),
    Package("matplotlib", "matplotlib", "--plot"),
    Package("pandas", "pandas", "reports as data frames"),
    Package("sacrebleu", "sacrebleu", "eval --metrics bleu"),
    Package("rouge-score", "rouge_score", "eval --metrics rouge"),
    Package("compressed-tensors", "compressed_tensors", "int8 folders in plain transformers"),
    Package("nvidia-ml-py", "pynvml", "memory and clock of a GPU", gpu=True),
    Package("mamba-ssm", "mamba_ssm", "quick scans of Mamba", gpu=True),
    Package("causal-conv1d", "causal_conv1d", "quick convolutions of Mamba", gpu=True),
    Package("lm_eval", "lm_eval", "eval --harness", install="lm_eval[hf]"),
    Package("tensorboard", "tensorboard", "--log tensorboard", others=("tensorboardX",)),
    Package("wandb", "wandb", "--log wandb"),
    Package("gptqmodel", "gptqmodel", "checkpoints of GPTQ and AWQ", gpu=True, install="gptqmodel optimum"),
    Package("optimum-quanto", "optimum.quanto", "checkpoints of quanto"),
    Package("mambapy", "mambapy", "the benchmarks of Mamba alone"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """How the project asks for a package: versions, and the extra that brings it (None: always installed)."""

    versions: str
    extra: str | None


@functools.cache
def asked() -> Mapping[str, Asked]:
    """What the project asks for, by canonical name; of several extras the first that is for users."""
    from packaging.utils import canonicalize_name

    found: dict[str, Asked] = {}
    for requirement, extra in _requirements():
        name = canonicalize_name(requirement.name)
        if extra not in NOT_FOR_USERS:
            versions = sorted(map(str, requirement.specifier), reverse=True)  # the least one first
            found.setdefault(name, Asked(",".join(versions), extra))
    return found


def _requirements() -> Iterable[tuple[Requirement, str | None]]:
    """Requirements with their extra: of the source tree where the program runs from one, else of what is installed."""
    from packaging.requirements import Requirement

    file = Path(compresskit.__file__).parents[1] / "pyproject.toml"
    with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == DISTRIBUTION:
            extras = project.get("optional-dependencies", {}).items()
            pairs = [(text, None) for text in project["dependencies"]]
            pairs += [(text, extra) for extra, texts in extras for text in texts]
            return [(Requirement(text), extra) for text, extra in pairs]
    try:
        texts = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError as error:
        raise MissingError(
            f"{DISTRIBUTION} is not installed, so that nothing tells what it needs; pip install {DISTRIBUTION}"
        ) from error
    return [_of_metadata(Requirement(text)) for text in texts]


def _of_metadata(requirement: Requirement) -> tuple[Requirement, str | None]:
    """The extra of a requirement of installed metadata, which has it in its marker."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return requirement, None
    project = metadata.metadata(DISTRIBUTION)
    extras = project.get_all("Provides-Extra") or []
    fitting = [extra for extra in extras if requirement.marker.evaluate({"extra": extra})]
    return requirement, next((extra for extra in fitting if extra not in NOT_FOR_USERS), "dev")


def asked_of(package: Package) -> Asked | None:
    """How the project asks for a package; None for one that it names nowhere in its metadata."""
    from packaging.utils import canonicalize_name

    return asked().get(canonicalize_name(package.name))


def installed(package: Package) -> str | None:
    """The version of a package; None where it is not installed."""
    for name in (package.name, *package.others):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    try:
        found = importlib.util.find_spec(package.module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        found = False
    return "unknown" if found and "." not in package.module else None


def fits(package: Package, version: str) -> bool:
    """Whether a version is one that the project asks for."""
    from packaging.specifiers import SpecifierSet

    wanted = asked_of(package)
    if wanted is None or not wanted.versions or version == "unknown":
        return True
    return SpecifierSet(wanted.versions).contains(version, prereleases=True)


def command(package: Package, version: str | None = None, *, again: bool = False) -> str:
    """What installs a package; `again` where it is there, in a `version` that should do, and does not work."""
    wanted = asked_of(package)
    options = "--force-reinstall --no-deps " if again else ""
    if wanted is None:
        what = package.install or package.name
        return f"pip install {options}{quote(what) if '[' in what else what}"
    if wanted.extra in BUILT_HERE:
        options += "--no-build-isolation "
    build = re.search(r"\+(cpu|cu\d+|xpu|rocm[\d.]+)$", version or "")
    if package.name == "torch" and build is not None:  # else one for other hardware might come in its place
        options += f"--index-url https://download.pytorch.org/whl/{build[1]} "
    if wanted.extra is None or version is not None:
        return f"pip install {options}{quote(package.name + wanted.versions)}"
    return f"pip install {options}'{DISTRIBUTION}[{wanted.extra}]'"


def require(*modules: str, what: str) -> None:
    """MissingError where one of the modules is not installed, with what pip is told; none of them is imported.

    `what` needs them, in the words of who runs the program.
    """
    lacking = [module for module in modules if not _is_there(module)]
    if lacking:
        names = [package_of(module).name for module in lacking]
        commands = dict.fromkeys(command(package_of(module)) for module in lacking)
        verb = "is" if len(names) == 1 else "are"
        raise MissingError(f"{what} needs {' and '.join(names)}, which {verb} not installed; {' && '.join(commands)}")


def needed(module: str, what: str) -> ModuleType:
    """The module of a package that `what` needs; MissingError where it is not installed, or does not load."""
    require(module, what=what)
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = package_of(module).name
        raise MissingError(
            f"{what} needs {name}, which does not load ({reason}); `compresskit doctor` tells what mends it"
        ) from error


def mend_of(error: ImportError) -> str:
    """What installs the package whose absence an error of another library tells of."""
    told = re.findall(r"[\w-]+", f"{error.name or ''} {error}".lower())
    named = (each for each in PACKAGES if {each.name.lower(), each.module} & set(told))
    lacking = next((each for each in named if installed(each) is None), None)
    return "install it" if lacking is None else command(lacking)


def package_of(module: str) -> Package:
    """The package of a module that is imported by that name."""
    return next(each for each in PACKAGES if each.module == module)


def _is_there(module: str) -> bool:
    """Whether a module can be found; what was imported already need not be looked for."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
