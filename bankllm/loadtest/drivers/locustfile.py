"""`BankingUser`: one health check to two chats, 1 to 3 s apart; every request becomes a CSV row.

Locust monkey-patches the interpreter, so `drivers.run_locust` runs this file in a process of its own, with a
plan (a JSON file named by BANKLLM_LOAD_PLAN). By hand, without rows or a last request:
locust -f bankllm/loadtest/drivers/locustfile.py --host http://127.0.0.1:8000
"""

import csv
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from geventhttpclient.response import HTTPConnectionClosed
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import StopUser

from bankllm.loadtest.load import COLUMNS

PLAN: dict[str, Any] = {
    "requests": None,
    "warm_up": 0,
    "health_share": 1 / 3,
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
TOKENS: dict[str, str] = json.loads(os.environ.get("BANKLLM_LOAD_TOKENS", "{}"))
UNREACHED = (ConnectionError, HTTPConnectionClosed)
DEAD_AFTER = 200
"""So many failures to reach the server, one after another, and it is taken for dead."""


class Recorder:
    """Hands out the requests, writes each one's row, and ends the test after the last reply."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.total = PLAN["requests"] and PLAN["warm_up"] + PLAN["requests"]
        self.claimed = self.finished = self.unreached = 0
        self.began = time.perf_counter()
        self.cpu_began = time.process_time()
        # Line-buffered: an interrupted test keeps its rows.
        self.file = Path(PLAN["rows"]).open("w", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(COLUMNS)
        random.seed(PLAN["seed"])

    def claim(self, opening: bool) -> str:
        """Take one of the planned requests and give its phase, or end this user: the last ones must not overshoot."""
        if self.claimed == self.total:
            raise StopUser
        self.claimed += 1
        if self.claimed <= PLAN["warm_up"]:
            return "warm_up"
        return "opening" if opening else "steady"

    def record(self, name: str, response_time: float, response_length: int, **meta: Any) -> None:
        """One row, whatever came back."""
        done = time.perf_counter() - self.began
        status = meta["response"].status_code
        error = meta["exception"]
        # The client wraps what went wrong in its RetriesExceeded, though it was told to try once.
        cause = getattr(error, "original", None) or error
        said = "" if error is None else f"HTTP {status}" if status else type(cause).__name__
        times = ["", done - response_time / 1000, "", done, response_time, response_time]
        self.writer.writerow(["locust", 0, name, meta["context"]["phase"], *times, status, response_length or 0, said])
        self.finished += 1
        self.unreached = self.unreached + 1 if isinstance(cause, UNREACHED) else 0
        if self.unreached == DEAD_AFTER:
            self.finish(f"the server was not reached {DEAD_AFTER} times in a row")
        elif self.finished == self.total:
            self.finish("")

    def finish(self, ended: str) -> None:
        """Say how busy this process was from the first request to the last reply, and leave."""
        busy = {"cpu_s": time.process_time() - self.cpu_began, "wall_s": time.perf_counter() - self.began}
        Path(PLAN["generator"]).write_text(json.dumps(busy | {"ended": ended}), encoding="utf-8")
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
    fresh = True

    def wait_time(self) -> float:
        low, high = PLAN["wait_s"]
        return random.uniform(low, high)

    @task
    def ask(self) -> None:
        """A health check or a chat, as the mix has it."""
        context = {"phase": self.recorder.claim(self.fresh)}
        self.fresh = False
        if random.random() < PLAN["health_share"]:
            self.client.get("/health", name="health", context=context)
            return
        customer = random.choice(PLAN["customers"])
        body = {"message": random.choice(PLAN["messages"]), "customer_id": customer}
        headers = {"Authorization": f"Bearer {TOKENS[customer]}"} if customer in TOKENS else None
        self.client.post("/api/v1/chat", name="chat", json=body, headers=headers, context=context)
