"""A real server whose store or model server fails and recovers, and the service under an external uvicorn."""

import contextlib
import os
import resource
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from bankllm.assistant.wording.generating import MAX_CONCURRENCY
from bankllm.errors import ServerError
from bankllm.loadtest.server_process import ServerProcess
from tests.support.openai_server import OpenAIServer
from tests.support.server_client import Client, until

pytestmark = pytest.mark.slow

UVICORN = (sys.executable, "-m", "uvicorn", "--factory", "bankllm.serving.workers:worker_app")


def test_chats_are_answered_while_the_store_is_locked(tmp_path: Path) -> None:
    store = tmp_path / "memory.db"
    with ServerProcess(store=store, env={"BANKLLM_TODAY": "2026-11-29"}) as server:
        client = Client(server)
        client.chat("kept before")
        with contextlib.closing(sqlite3.connect(store, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN EXCLUSIVE")
            # If these requests waited one after the other, the test would time out.
            with ThreadPoolExecutor(20) as many:
                replies = list(many.map(client.chat, [f"What is my account balance? ({n})" for n in range(20)]))
            assert {tuple(reply["unavailable"]) for reply in replies} == {("memory", "storing")}
            assert all("£4,907.60" in reply["reply"] for reply in replies)
            refused = [
                client.get("/api/v1/customers/CUST001/memory"),
                httpx.delete(f"{server.url}/api/v1/customers/CUST001/memory", trust_env=False, timeout=60),
            ]
            assert {response.status_code for response in refused} == {503}
            assert all(str(tmp_path) not in response.text for response in refused)
            assert {response.json()["title"] for response in refused} == {"Service Unavailable"}
            other.execute("ROLLBACK")
        assert client.chat("kept after")["unavailable"] == []
        assert client.kept() == {"kept before", "kept after"}


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="no prlimit")
def test_store_on_a_full_disk_recovers(tmp_path: Path) -> None:
    store = tmp_path / "memory.db"
    with ServerProcess(store=store) as server:
        client, process = Client(server), psutil.Process(server.pid)
        client.chat("kept before")
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        # A write beyond the current file size now fails, as on a full disk.
        process.rlimit(psutil.RLIMIT_FSIZE, (store.stat().st_size, hard))
        long = "What is my account balance? " + "I really want to know. " * 80
        until(lambda: client.chat(long)["unavailable"] == ["storing"])
        assert "kept before" in client.kept()
        process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
        assert client.chat("kept after")["unavailable"] == []
        assert {"kept before", "kept after"} <= client.kept()


def test_hanging_model_server_does_not_block_other_requests(tmp_path: Path) -> None:
    model = OpenAIServer("You can change the PIN in the app.")
    model.stalls_after, model.stall_s = 0, 300
    options, env = ("--responder", f"openai:{model.url}#m"), {"BANKLLM_RESPONDER_TIMEOUT_S": "300"}
    article = "How do I change my PIN?"  # a text without figures leaves nothing out
    with model, ServerProcess(store=tmp_path / "memory.db", options=options, env=env) as server:
        client = Client(server)
        with ThreadPoolExecutor(MAX_CONCURRENCY) as many:
            hanging = [many.submit(client.chat, article) for _ in range(MAX_CONCURRENCY)]
            until(lambda: len(model.requests) == MAX_CONCURRENCY)
            assert [client.chat(customer_id="CUST002")["fallback"] for _ in range(3)] == ["busy"] * 3
            assert client.kept("CUST002")
            assert client.get("/health/metrics").status_code == 200
            assert not any(chat.done() for chat in hanging)
            model.stalls_after = None
            assert {chat.result()["responder"] for chat in hanging} == {"openai:m"}


def test_sigterm_ends_chats_whose_model_server_hangs(tmp_path: Path) -> None:
    model = OpenAIServer("You can change the PIN in the app.")
    model.stalls_after, model.stall_s = 0, 60
    options = ("--responder", f"openai:{model.url}#m")
    server = ServerProcess(store=tmp_path / "memory.db", options=options)
    with model, server, ThreadPoolExecutor(2) as both:
        body = {"message": "How do I change my PIN?", "customer_id": "CUST002"}
        stream = f"{server.url}/api/v1/chat/stream"
        streamed = both.submit(httpx.post, stream, json=body, trust_env=False, timeout=60)
        plain = both.submit(Client(server).chat, "How do I change my PIN?")
        until(lambda: len(model.requests) == 2)
        os.kill(server.pid, signal.SIGTERM)
        assert plain.result()["fallback"] == "left"
        assert '"fallback":"left"' in streamed.result().text
    assert server.returncode == 0


def test_external_uvicorn_drains_and_rejects_remote_requests_without_authentication(tmp_path: Path) -> None:
    log, env = tmp_path / "server.log", {"BANKLLM_STORE": str(tmp_path / "memory.db")}
    addresses = [
        address.address
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family.name == "AF_INET" and not address.address.startswith("127.")
    ]
    with ServerProcess(program=UVICORN, env=env, log=log, options=("--host", "0.0.0.0")) as server:
        client = Client(server)
        assert client.chat()["unavailable"] == []
        until(lambda: client.get("/health/metrics").json()["requests_total"] == 1)
        for address in addresses:  # none on a machine with only loopback
            with httpx.Client(base_url=f"http://{address}:{server.port}", trust_env=False, timeout=60) as remote:
                body = {"message": "What is my account balance?", "customer_id": "CUST001"}
                answers = [remote.get(path) for path in ("/api/v1/customers/CUST001/memory", "/v1/models")]
                answers.append(remote.post("/api/v1/chat", json=body))
            assert {answer.status_code for answer in answers} == {403}
        assert len(client.kept()) == 1
        os.kill(server.pid, signal.SIGTERM)
        # uvicorn drains, then raises SIGTERM again and exits by that signal.
        assert psutil.Process(server.pid).wait(60) == -signal.SIGTERM
    assert "Application shutdown complete" in log.read_text()


def test_failed_load_stops_an_external_uvicorn(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with pytest.raises(ServerError, match="exited with code 3 before it was ready"):
        ServerProcess(program=UVICORN, env={"BANKLLM_RESPONDER": "x"}, log=log).start()
    assert log.read_text().count("Unknown responder") == 1
    assert "Traceback" not in log.read_text()
