"""The list of packages: it knows what the project asks for, and what the code imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import compresskit
from compresskit import packages as module
from compresskit.doctor.tries import TRIES
from compresskit.errors import MissingError
from compresskit.evaluate.metrics import METRICS
from compresskit.methods.export.config import PACKAGES as GRAPH
from compresskit.models.kinds.packed import PACKAGES as PACKED
from compresskit.models.mamba.kernels import PACKAGES as KERNELS
from compresskit.packages import PACKAGES, Package, command, fits, installed, mend_of, needed, require
from compresskit.training.reporters import PACKAGES as REPORTERS

ROOT = Path(compresskit.__file__).parent
BY_NAME = {package.name: package for package in PACKAGES}
# What comes with another package, and is imported for that one's sake.
COMPANIONS = {"onnx_ir": "onnxscript", "huggingface_hub": "transformers"}


def test_each_package_has_one_try() -> None:
    assert list(TRIES) == [package.name for package in PACKAGES]


def test_it_has_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [
        *project["dependencies"],
        *(text for name in extras.keys() - module.NOT_FOR_USERS for text in extras[name]),
    ]
    wanted = {canonicalize_name(Requirement(text).name) for text in texts}
    assert wanted <= {canonicalize_name(name) for name in BY_NAME}


def imported(file: Path) -> Iterator[str]:
    """The outermost modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "find_spec")):
            named = (each.value for each in node.args if isinstance(each, ast.Constant))
            yield from (name.partition(".")[0] for name in named if isinstance(name, str))


def test_it_has_all_that_the_code_imports() -> None:
    known = {package.module.partition(".")[0] for package in PACKAGES} | COMPANIONS.keys()
    known |= {*sys.stdlib_module_names, "compresskit"}
    told = re.compile(r"(?:import|from|import_module\(|find_spec\() ?[\"']?(\w+)")  # in words of no code too
    for file in ROOT.rglob("*.py"):
        if set(told.findall(file.read_text(encoding="utf-8"))) - known:  # else it need not be parsed, which takes long
            others = set(imported(file)) - known
            assert not others, f"{file.relative_to(ROOT)} imports {others}; name it in packages.py"


def test_it_has_all_that_the_code_asks_for_by_name() -> None:
    modules = {package.module for package in PACKAGES}
    assert {*GRAPH, *KERNELS, *(name for name, _ in METRICS.values())} <= modules
    names = {name for package in PACKAGES for name in (package.name, *package.others)}
    names |= {word for package in PACKAGES for word in package.install.split()}
    assert {*KERNELS.values(), *(name for each in REPORTERS.values() for name in each)} <= names
    assert {word for text in PACKED.values() for word in text.split()} <= names


def test_what_a_package_brings_fits_its_line() -> None:
    assert max(len(package.brings) for package in PACKAGES) <= 36


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("onnxruntime", None, "pip install 'compresskit[onnx]'"),
        ("matplotlib", "3.11.2", "pip install --force-reinstall --no-deps 'matplotlib>=3.9,<4'"),
        ("mamba-ssm", None, "pip install --no-build-isolation 'compresskit[mamba]'"),
        ("tokenizers", None, "pip install 'tokenizers>=0.22,!=0.23.2,!=0.23.1'"),
        ("lm_eval", None, "pip install 'lm_eval[hf]'"),
        ("wandb", None, "pip install wandb"),
    ],
)
def test_what_installs_it(name: str, version: str | None, expected: str) -> None:
    assert command(BY_NAME[name], version, again=version is not None) == expected


def test_torch_comes_again_from_where_its_build_is() -> None:
    where = "--index-url https://download.pytorch.org/whl/cu130"
    assert command(BY_NAME["torch"], "2.5.0+cu130") == f"pip install {where} 'torch>=2.9,<3'"
    assert "index" not in command(BY_NAME["torch"], "2.5.0")


def test_what_is_needed_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert needed("json", "this") is sys.modules["json"]
    for name in ("onnx", "sacrebleu"):
        monkeypatch.setitem(sys.modules, name, None)
    told = "this needs onnx and sacrebleu, which are not installed; "
    told += "pip install 'compresskit[onnx]' && pip install 'compresskit[metrics]'"
    with pytest.raises(MissingError, match=f"^{re.escape(told)}$"):
        require("numpy", "onnx", "sacrebleu", what="this")
    with pytest.raises(MissingError, match=r"^this needs onnx, which is not installed; .*\[onnx\]'$"):
        needed("onnx", "this")
    (tmp_path / "bm25s.py").write_text("raise OSError('no such symbol\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bm25s", raising=False)
    told = "this needs bm25s, which does not load (no such symbol); `compresskit doctor` tells what mends it"
    with pytest.raises(MissingError, match=f"^{re.escape(told)}$"):
        needed("bm25s", "this")


def test_which_package_an_error_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed", lambda package: None if package.name == "sentencepiece" else "1")
    assert mend_of(ImportError("it requires the SentencePiece library")) == "pip install 'compresskit[sentencepiece]'"
    assert mend_of(ImportError("it needs torch, and transformers")) == "install it", "both are there"
    assert mend_of(ModuleNotFoundError("no", name="sentencepiece")) == "pip install 'compresskit[sentencepiece]'"


def test_all_extras_are_in_all() -> None:
    """But for what is built on the machine, or is of other users."""
    extras = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (every,) = map(Requirement, extras["all"])
    assert every.extras == extras.keys() - module.NOT_FOR_USERS - module.BUILT_HERE


def test_which_versions_fit() -> None:
    assert [fits(BY_NAME["tokenizers"], version) for version in ("0.22.1", "0.23.1", "0.23.2", "0.23.3")] == [
        *(True, False, False, True)
    ]
    assert fits(BY_NAME["torch"], "2.13.0+cu130")
    assert fits(BY_NAME["wandb"], "0.0.1"), "nothing asks for one"


def test_versions_of_what_is_installed() -> None:
    assert installed(BY_NAME["torch"]) == metadata.version("torch")
    assert installed(Package("nothing-of-that-name", "torch", "", others=("torch",))) == metadata.version("torch")
    assert installed(Package("nothing-of-that-name", "nothing_of_that_name", "")) is None


def test_installed_metadata_says_the_same_as_the_source_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = {name: each.extra for name, each in module.asked().items()}
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    extras = project["optional-dependencies"]
    everything = {**extras, "all": [text for name in ("plot", "onnx") for text in extras[name]]}
    texts += [f"{text} ; extra == '{extra}'" for extra in sorted(everything) for text in everything[extra]]
    described = Message()
    for extra in everything:
        described["Provides-Extra"] = extra
    monkeypatch.setattr(metadata, "requires", lambda _: texts)
    monkeypatch.setattr(metadata, "metadata", lambda _: described)
    monkeypatch.setattr(compresskit, "__file__", str(tmp_path / "site-packages" / "compresskit" / "__init__.py"))
    module.asked.cache_clear()
    try:
        assert {name: each.extra for name, each in module.asked().items()} == own
    finally:
        module.asked.cache_clear()
