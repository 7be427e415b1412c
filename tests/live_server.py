"""Real servers on loopback for the tests of the service's outer face.

`bank` is `bankllm serve` as a process with the packaged assistant; `served` is uvicorn in this process around parts
that a test has made.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn

from bankllm.assistant.engine import ChatEngine
from bankllm.loadtest.server_process import ServerProcess
from bankllm.serving.app import create_app
from bankllm.serving.server import listen
from bankllm.settings import Settings
from tests.test_serving_auth import SECRET, bearer, token

CHAT = "/api/v1/chat"


def bank(folder: Path, workers: int = 1, **env: str) -> ServerProcess:
    """A server with a log and a store in `folder`, which sees no settings but these."""
    theirs = {name: "" for name in os.environ if name.startswith(("BANKLLM_", "OPENAI_", "PINECONE_"))}
    settings = theirs | {"ENVIRONMENT": "development", "BANKLLM_OFFLINE": "1"} | env
    return ServerProcess(store=folder / "memory.sqlite", log=folder / "server.log", env=settings, workers=workers)


def guarded(folder: Path, **env: str) -> ServerProcess:
    """The same, for customers who come with tokens and as often as they like."""
    return bank(folder, **({"BANKLLM_JWT_SECRET": SECRET, "BANKLLM_RATE_LIMIT": "off"} | env))


def customer(server: ServerProcess, name: str = "CUST001") -> httpx.Client:
    """A client with that customer's token; close it."""
    mine = bearer(token(sub=name, exp=time.time() + 600))
    return httpx.Client(base_url=server.url, headers=mine, timeout=60, trust_env=False)


def logged(server_log: Path, level: str) -> list[str]:
    """The messages of this level in a server's log."""
    lines = [json.loads(line) for line in server_log.read_text().splitlines() if line.startswith("{")]
    return [f"{line['message']} {line.get('exception', '')}" for line in lines if line["level"] == level]


@contextlib.contextmanager
def served(engine: ChatEngine, settings: Settings) -> Iterator[str]:
    """The address of an application that a thread of this process serves."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(create_app(engine, settings), log_config=None, timeout_graceful_shutdown=10)
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
    """A request as it goes over the wire, for clients that do what no library would."""
    head = [f"{method} {path} HTTP/1.1", "Host: bank", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def connect(url: str) -> socket.socket:
    """A plain connection to a server."""
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=20)


def errors_of(caplog) -> list[str]:
    """What was logged as an error in this process."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
