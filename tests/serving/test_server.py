"""The service as one process: listening socket, start, drain and failed start."""

import pytest

from bankllm.assistant.engine import ChatEngine
from bankllm.errors import ModelError, ServerError
from bankllm.serving import server as server_module
from bankllm.serving.server import listen, serve
from bankllm.settings import Settings
from tests.support.chat import KeywordClassifier


def test_listen_errors_name_the_problem_and_the_next_step():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"Port {port} on 127\.0\.0\.1 is in use\. Stop the other server"):
            listen("127.0.0.1", port)
    with pytest.raises(ServerError, match="a port from 0 to 65535"):
        listen("127.0.0.1", 70000)
    with pytest.raises(ServerError, match="Expected an address of this machine"):
        listen("203.0.113.1", 0)


def test_serve_checks_adapter_and_port_before_it_loads(monkeypatch, tmp_path):
    monkeypatch.setattr(server_module, "read_artifact", lambda folder: KeywordClassifier.artifact)
    monkeypatch.setattr(ChatEngine, "load", lambda *_: pytest.fail("loaded too early"))
    with listen("127.0.0.1", 0) as taken, pytest.raises(ServerError, match="is in use"):
        serve("127.0.0.1", taken.getsockname()[1], Settings())
    monkeypatch.undo()
    with pytest.raises(ModelError, match="No trained classifier"):
        serve("127.0.0.1", 0, Settings(adapter=tmp_path))
