"""The Hub, asked: a server of our own in its place."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from compresskit.doctor import network


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "*")
    made = HTTPServer(("127.0.0.1", 0), Refusing)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    yield made
    made.server_close()


def test_any_answer_is_one(server: HTTPServer) -> None:
    threading.Thread(target=server.handle_request, daemon=True).start()
    found = network.Asking().result()
    assert found.state == "reached"
    assert found.reason is None


def test_nobody_listens(server: HTTPServer) -> None:
    server.server_close()
    found = network.Asking().result()
    assert (found.state, found.seconds) == ("not reached", None)
    assert "refused" in str(found.reason)


def test_it_is_not_waited_for(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "WAIT", 0.2)
    monkeypatch.setattr(network.Asking, "_ask", lambda self, endpoint: time.sleep(3))  # as a name that is looked up
    before = time.monotonic()
    assert network.Asking().result().state == "not reached"
    assert time.monotonic() - before < 2


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(network.Asking, "_ask", lambda *_: pytest.fail("asked"))
    assert network.Asking().result().state == "offline"
