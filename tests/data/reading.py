"""Reading a SQuAD file that a test holds as bytes."""

import json
from pathlib import Path

import pytest

from compresskit.data import reading
from compresskit.data.examples import ExampleSet
from compresskit.data.mending import Handling
from compresskit.errors import InputError


def read_bytes(folder: Path, data: bytes, handling: Handling = "mend") -> ExampleSet:
    path = folder / "set.json"
    path.write_bytes(data)
    return reading.read(path, None, handling)


def read(folder: Path, content: object, handling: Handling = "mend") -> ExampleSet:
    return read_bytes(folder, json.dumps(content).encode(), handling)


def refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_bytes(folder, data, "stop")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder / "set.json"))
    return message
