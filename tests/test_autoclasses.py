"""Importing compresskit makes its models known to transformers, and does not import transformers."""

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


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_heavy_is_imported() -> None:
    code = "import compresskit, sys; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    assert run(code) == "set()"


@pytest.mark.parametrize("first", ["import compresskit", "import transformers.models.auto.modeling_auto, compresskit"])
def test_the_auto_classes_know_our_models(first: str, tmp_path: Path) -> None:
    folder = str(small.folder(tmp_path))
    assert run(first + OPEN.format(folder=folder)) == "LstmReaderConfig LstmReader WordTokenizer"
