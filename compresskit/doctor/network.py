"""Whether the Hugging Face Hub can be reached: asked once, and waited for no longer than two seconds."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Literal

from compresskit.text import one_line

WAIT = 2.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Hub:
    """The Hub's address, and whether it answered; `offline` is that nobody may ask it (HF_HUB_OFFLINE)."""

    endpoint: str | None
    state: Literal["reached", "not reached", "offline", "unknown"]
    reason: str | None = None
    seconds: float | None = None


class Asking:
    """The Hub is asked from now on, while other things go on."""

    def __init__(self) -> None:
        self._found: Hub | None = None
        self._began = time.monotonic()
        self._endpoint: str | None = None
        try:
            from huggingface_hub import constants
        except Exception as error:  # a package that is broken raises anything, and is told of elsewhere
            self._found = Hub(None, "unknown", one_line(f"huggingface_hub is not to be imported: {error}"))
            return
        self._endpoint = constants.ENDPOINT
        if constants.HF_HUB_OFFLINE:
            self._found = Hub(self._endpoint, "offline", "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
            return
        # Looking a name up has no time limit of its own, so it may go on behind the end.
        self._thread = threading.Thread(target=self._ask, args=(self._endpoint,), daemon=True)
        self._thread.start()

    def result(self) -> Hub:
        """What came of it, two seconds after the beginning at the latest."""
        if self._found is None:
            self._thread.join(max(self._began + WAIT - time.monotonic(), 0.0))
        return self._found or Hub(self._endpoint, "not reached", f"no answer within {WAIT:g} s")

    def _ask(self, endpoint: str) -> None:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "compresskit"})
        try:
            with urllib.request.urlopen(request, timeout=WAIT):
                pass
        except urllib.error.HTTPError:  # an answer all the same
            pass
        except Exception as error:  # whatever sockets, proxies, certificates and a bad HF_ENDPOINT raise
            self._found = Hub(endpoint, "not reached", one_line(str(getattr(error, "reason", error))))
            return
        self._found = Hub(endpoint, "reached", seconds=round(time.monotonic() - self._began, 2))
