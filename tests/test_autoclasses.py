"""What makes our models known to transformers' Auto classes, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.lstm import small

OPEN = """
from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoTokenizer
config = AutoConfig.from_pretrained({folder!r})
model, tokenizer = (kind.from_pretrained({folder!r}) for kind in (AutoModelForQuestionAnswering, AutoTokenizer))
print(type(config).__name__, type(model).__name__, type(tokenizer).__name__)
"""


def start(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def run(code: str) -> str:
    done = start(code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy_and_hooks_into_no_import() -> None:
    code = """
import sys
finders = list(sys.meta_path)
import compresskit
print(sys.meta_path == finders, {'torch', 'transformers', 'numpy'} & set(sys.modules))
"""
    assert run(code) == "True set()"


@pytest.mark.parametrize(
    "first",
    [
        "import compresskit; compresskit.register(); compresskit.register()",
        *(
            pytest.param(code, marks=pytest.mark.slow)  # what `register` does then, it does in the case above too
            for code in (
                "import compresskit; compresskit.register()",
                "import transformers.models.auto.modeling_auto, compresskit; compresskit.register()",
            )
        ),
        "from compresskit.models.registry import load; load({folder!r}, device='cpu')",
    ],
)
def test_the_auto_classes_know_our_models(first: str, tmp_path: Path) -> None:
    folder = str(small.folder(tmp_path))
    assert run((first + OPEN).format(folder=folder)) == "LstmReaderConfig LstmReader WordTokenizer"


def test_they_do_not_know_them_unasked(tmp_path: Path) -> None:
    folder = str(small.folder(tmp_path))
    done = start("import compresskit" + OPEN.format(folder=folder))
    assert done.returncode == 1
    assert "compresskit_lstm" in done.stderr
