"""A client of a running server for tests with real processes. Each request uses a new connection."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from bankllm.loadtest.server_process import ServerProcess

BALANCE = "What is my account balance?"


class Client:
    def __init__(self, server: ServerProcess) -> None:
        self._url = server.url

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url + path, trust_env=False, timeout=300)

    def post(self, text: str = BALANCE, customer_id: str = "CUST001") -> httpx.Response:
        body = {"message": text, "customer_id": customer_id}
        return httpx.post(f"{self._url}/api/v1/chat", json=body, trust_env=False, timeout=300)

    def chat(self, text: str = BALANCE, customer_id: str = "CUST001") -> dict[str, Any]:
        """The reply to a chat; asserts status 200."""
        response = self.post(text, customer_id)
        assert response.status_code == 200, response.text
        return response.json()

    def kept(self, customer_id: str = "CUST001") -> set[str]:
        """The customer's stored messages."""
        response = self.get(f"/api/v1/customers/{customer_id}/memory")
        assert response.status_code == 200, response.text
        return {turn["user_message"] for turn in response.json()["messages"]}

    def workers(self) -> int:
        return self.get("/health/metrics").json()["workers"]


def log_lines(log: Path) -> list[dict[str, Any]]:
    """The complete JSON lines of a server's log, without the lines from before logging was configured."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def answered_by(log: Path) -> dict[str, int]:
    """Request id → id of the process that answered it."""
    return {line["request_id"]: line["pid"] for line in log_lines(log) if line["logger"] == "bankllm.access"}


def until(condition: Callable[[], object], timeout_s: float = 120) -> None:
    """Wait until the condition is true. Fails after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {timeout_s:g} s"
        time.sleep(0.01)


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended; a zombie counts as ended."""
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
