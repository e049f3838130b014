"""What every test on a GPU gets: torch's settings of the process as they are by default, whatever ran before."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Give the test torch's own settings, and leave them so: verbs change some for the rest of their process."""
    restore = _settings()
    yield
    restore()


def _settings() -> Callable[[], None]:
    """Remember torch's settings of this process; what brings them back.

    Precisions are read and set in the way that torch 2.9 brought. In the old way (`allow_tf32`) a read is an error as
    soon as anybody in the process has used the new one, as transformers does.
    """
    import torch

    backends: Any = torch.backends
    places = (backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn)
    precisions = [place.fp32_precision for place in places]
    attention = backends.cuda.cudnn_sdp_enabled()
    deterministic = torch.are_deterministic_algorithms_enabled()

    def restore() -> None:
        for place, precision in zip(places, precisions, strict=True):
            place.fp32_precision = precision
        backends.cuda.enable_cudnn_sdp(attention)
        torch.use_deterministic_algorithms(deterministic)

    return restore
