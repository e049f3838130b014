"""What libraries in Rust and C say of a file: nothing of theirs on the screen, and one line of ours."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from compresskit.cli.app import main
from compresskit.models.encoder import EncoderFamily
from tests import tiny
from tests.cli.conftest import Trained
from tests.contract import makers


def test_a_library_prints_nothing_by_itself(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The tokenizers' library says of an option that it does not know, on standard output, that it ignores it."""
    folder = tiny.checkpoint(Path("plain"))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"single_word"', '"Single_Word"', 1))
    capfd.readouterr()
    assert main(["predict", str(folder), "-q", "a", "-c", "b"]) == 0
    told = capfd.readouterr()
    assert "Ignored" not in told.out + told.err


def test_bars_of_a_library_that_opens_weights(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """compressed-tensors draws two."""
    folder, load = tiny.checkpoint(Path("plain")), EncoderFamily.load

    def with_bar(*given: Any, **more: Any) -> Any:
        os.write(2, b"\rApplying: 100%")
        return load(*given, **more)

    monkeypatch.setattr(EncoderFamily, "load", with_bar)
    capfd.readouterr()
    assert main(["-q", "predict", str(folder), "-q", "a", "-c", "b"]) == 0
    told = capfd.readouterr()
    assert "Applying" not in told.out + told.err


def test_a_tokenizer_that_fails_where_it_is_used(refused) -> None:
    """A library in Rust then raises what is no `Exception`."""
    folder = makers.lstm(Path("reader"))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    special = content["post_processor"]["special_tokens"]
    special["other"] = special.pop("[CLS]")
    path.write_text(json.dumps(content))
    assert refused(3, "predict", folder, "-q", "a", "-c", "b").startswith(f"{folder} holds no tokenizer (")


@pytest.mark.parametrize("length", ["long", [], {"a": 1}])
def test_a_tokenizer_whose_length_is_no_number(length: object, refused) -> None:
    folder = makers.lstm(Path("reader"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": length}))
    line = refused(3, "predict", folder, "-q", "a", "-c", "b")
    assert "tokenizer" in line


def test_a_panic_elsewhere_is_no_gate(trained: Trained, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise PanicException("slice index")

    monkeypatch.setattr("compresskit.models.registry.load", fail)
    line = refused(5, "predict", trained.dense, "-q", "a", "-c", "b")
    assert line.startswith("internal error: RuntimeError: slice index")
