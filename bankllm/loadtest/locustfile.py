"""`BankingUser`: one health check to two chats, 1 to 3 s apart; every request becomes a CSV row.

Locust monkey-patches the interpreter, so `drivers.run_locust` runs this file in a process of its own, with a
plan (a JSON file named by BANKLLM_LOAD_PLAN). By hand, without rows or a last request:
locust -f bankllm/loadtest/locustfile.py --host http://127.0.0.1:8000
"""

import csv
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import StopUser

PLAN: dict[str, Any] = {
    "requests": None,
    "messages": ["What is my account balance?", "My card has not arrived yet", "Why was I charged twice?"],
    "customers": ["CUST001", "CUST002", "CUST003"],
    "wait_s": [1, 3],
    "timeout_s": 30,
    "seed": 0,
    "rows": os.devnull,
    "generator": os.devnull,
}
if path := os.environ.get("BANKLLM_LOAD_PLAN"):
    PLAN |= json.loads(Path(path).read_text(encoding="utf-8"))
TOKEN = os.environ.get("BANKLLM_LOAD_TOKEN")


class Recorder:
    """Hands out the requests, writes each one's row, and ends the test after the last reply."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.claimed = self.finished = 0
        self.began = time.time()
        self.cpu_began = time.process_time()
        # Line-buffered: an interrupted test keeps its rows.
        self.file = Path(PLAN["rows"]).open("w", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(["kind", "sent_s", "latency_ms", "status", "bytes", "error"])
        random.seed(PLAN["seed"])

    def claim(self) -> None:
        """Take one of the planned requests, or end this user: the last ones must not overshoot."""
        if self.claimed == PLAN["requests"]:
            raise StopUser
        self.claimed += 1

    def record(self, name: str, start_time: float, response_time: float, response_length: int, **meta: Any) -> None:
        """One row, whatever came back."""
        status = meta["response"].status_code
        error = meta["exception"]
        # The client wraps what went wrong in its RetriesExceeded, though it was told to try once.
        cause = getattr(error, "original", None) or error
        said = "" if error is None else f"HTTP {status}" if status else type(cause).__name__
        self.writer.writerow([name, start_time - self.began, response_time, status, response_length, said])
        self.finished += 1
        if self.finished == PLAN["requests"]:
            self.finish()

    def finish(self) -> None:
        """Say how busy this process was from the first request to the last reply, and leave."""
        busy = {"cpu_s": time.process_time() - self.cpu_began, "wall_s": time.time() - self.began}
        Path(PLAN["generator"]).write_text(json.dumps(busy), encoding="utf-8")
        assert self.environment.runner is not None
        # Not here: quit() ends every user, the one whose reply this is included. Locust made threads greenlets.
        threading.Thread(target=self.environment.runner.quit).start()


@events.test_start.add_listener
def open_recorder(environment: Environment, **_: Any) -> None:
    recorder = Recorder(environment)
    BankingUser.recorder = recorder
    environment.events.request.add_listener(recorder.record)


class BankingUser(FastHttpUser):
    """A customer who asks, reads the reply, and asks again (closed loop)."""

    recorder: Recorder
    connection_timeout = network_timeout = PLAN["timeout_s"]
    default_headers = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else None

    def wait_time(self) -> float:
        low, high = PLAN["wait_s"]
        return random.uniform(low, high)

    @task(1)
    def health(self) -> None:
        self.recorder.claim()
        self.client.get("/health", name="health")

    @task(2)
    def chat(self) -> None:
        self.recorder.claim()
        body = {"message": random.choice(PLAN["messages"]), "customer_id": random.choice(PLAN["customers"])}
        self.client.post("/api/v1/chat", name="chat", json=body)
