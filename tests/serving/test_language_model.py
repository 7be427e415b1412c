"""A server with the assistant's language model: the model's process is lost, and clients connect and leave.

Its adapter changes nothing, so the model is untrained: what it writes is refused, and rules read the messages.
"""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import psutil
import pytest

from bankllm.loadtest.server_process import ServerProcess
from bankllm.model import smollm2
from tests.support.live_server import bank, connect, request_bytes
from tests.support.prometheus_text import samples
from tests.support.server_client import Client, until
from tests.support.untrained_adapter import untrained_adapter

pytest.importorskip("openvino_genai")
if smollm2.gguf_file() is None:
    pytest.skip(f"SmolLM2 is not installed: {smollm2.INSTALL}", allow_module_level=True)
pytestmark = pytest.mark.slow
UNCLEAR = "could you tell me how much went to the supermarkets in October and what the rent was, please?"
STREAM = "/api/v1/chat/stream"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("model")
    settings = {"BANKLLM_LANGUAGE_ADAPTER": str(untrained_adapter(folder)), "BANKLLM_UNDERSTANDING": "model"}
    with bank(folder, 2, **settings) as running:
        until(lambda: Client(running).chat(UNCLEAR)["understanding_fallback"] != "unreachable")
        yield running
    assert running.returncode == 0


def engine_of(server: ServerProcess) -> psutil.Process:
    engines = [
        child for child in psutil.Process(server.pid).children() if "engine_process" in " ".join(child.cmdline())
    ]
    [engine] = engines  # one for both workers
    return engine


def test_replies_go_on_while_the_engine_is_killed_and_it_comes_back(server: ServerProcess) -> None:
    client, ended = Client(server), threading.Event()
    reasons: list[str | None] = []

    def chat(number: int) -> None:
        while not ended.is_set():
            reply = client.chat(UNCLEAR, f"CUST00{number}")
            assert "rent" in reply["reply"].lower() or reply["calls"], reply["reply"]
            reasons.append(reply["understanding_fallback"])

    with ThreadPoolExecutor(2) as pool:
        chats = [pool.submit(chat, number) for number in (1, 2)]
        try:
            killed = engine_of(server)
            killed.kill()
            until(lambda: "unreachable" in reasons)
            seen = len(reasons)
            until(lambda: {"unreachable"} != set(reasons[seen:]) and len(reasons) > seen, timeout_s=240)
        finally:
            ended.set()
        for each in chats:
            each.result()
    assert engine_of(server).pid != killed.pid
    values = samples(client.get("/metrics").content)
    assert values["bankllm_understood_total", (("by", "rules"), ("fallback", "unreachable"))] > 0


def test_a_thousand_clients_that_connect_and_leave_do_not_occupy_the_model(server: ServerProcess) -> None:
    body = json.dumps({"message": UNCLEAR, "customer_id": "CUST001"}).encode()
    for _ in range(1000):
        with closing(connect(server.url)) as line:
            line.sendall(request_bytes(STREAM, body))
    until(lambda: Client(server).chat(UNCLEAR, "CUST002")["understanding_fallback"] not in ("busy", "left"))


def test_a_client_that_reads_one_byte_at_a_time_delays_nobody(server: ServerProcess) -> None:
    body = json.dumps({"message": UNCLEAR, "customer_id": "CUST001"}).encode()
    with closing(connect(server.url)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.sendall(request_bytes(STREAM, body, "Connection: close"))
        read = bytearray(slow.recv(1))
        for _ in range(3):
            assert httpx.get(f"{server.url}/health", trust_env=False, timeout=60).status_code == 200
            assert Client(server).chat(customer_id="CUST002")["reply"]
            read += slow.recv(1)
        while got := slow.recv(65536):
            read += got
    assert b"event: reply" in read
