"""Real servers on loopback for tests of the HTTP interface.

`bank` starts `bankllm serve` as a process with the packaged assistant. `served` runs uvicorn in a thread of this
process with an engine that the test has created.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import httpx
import uvicorn

from bankllm.assistant.engine import ChatEngine
from bankllm.loadtest.server_process import ServerProcess
from bankllm.serving.app import create_app
from bankllm.serving.server import listen
from bankllm.settings import Settings
from tests.support.server_client import log_lines
from tests.support.tokens import AUDIENCE, SECRET, bearer, token

CHAT = "/api/v1/chat"
TOKENS = {"BANKLLM_JWT_SECRET": SECRET, "BANKLLM_JWT_AUDIENCE": AUDIENCE, "BANKLLM_AUDIT_KEY": SECRET}
"""The settings with which a server checks tokens."""


def bank(folder: Path, workers: int = 1, **env: str) -> ServerProcess:
    """A server with its log and store in `folder`, and with no other settings than `env`."""
    removed = {name: "" for name in os.environ if name.startswith(("BANKLLM_", "OPENAI_", "PINECONE_"))}
    own = {"BANKLLM_OFFLINE": "1", "BANKLLM_UNDERSTANDING": "rules", "BANKLLM_RESPONDER": "template"}
    settings = removed | {"ENVIRONMENT": "development"} | own | env
    files = {"store": folder / "memory.sqlite", "log": folder / "server.log"}
    return ServerProcess(**files, env=settings, workers=workers, timeout_s=240)  # the machine may be busy


def guarded(folder: Path, workers: int = 1, **env: str) -> ServerProcess:
    """The same with authentication and without a rate limit."""
    return bank(folder, workers, **(TOKENS | {"BANKLLM_RATE_LIMIT": "off"} | env))


def customer(server: ServerProcess, name: str = "CUST001") -> httpx.Client:
    """An HTTP client with a token of this customer. The caller closes it."""
    headers = bearer(token(sub=name, exp=time.time() + 600))
    return httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False)


def logged(server_log: Path, level: str) -> list[str]:
    """The messages of this level in a server's log."""
    lines = [line for line in log_lines(server_log) if line["level"] == level]
    return [f"{line['message']} {line.get('exception', '')}" for line in lines]


@contextlib.contextmanager
def served(engine: ChatEngine | Future[ChatEngine], settings: Settings) -> Iterator[str]:
    """Serve an application in a thread of this process; yields its URL."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(create_app(engine, settings), log_config=None, http="h11", timeout_graceful_shutdown=10)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def request_bytes(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """The raw bytes of a request, for tests that send what no HTTP library would send."""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def connect(url: str) -> socket.socket:
    """A TCP connection to a server."""
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=60)


def errors_of(caplog) -> list[str]:
    """Messages logged at level ERROR or above in this process."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
