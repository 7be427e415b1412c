"""Locust scenario `BankingUser`: one health check per two chats, pauses of 1 to 3 s, one CSV row per request.

Locust monkey-patches the interpreter, so `drivers/locust_driver.py` runs this file in a separate process. The
environment variable BANKLLM_LOAD_PLAN names the JSON file with the plan. Without a plan, the scenario writes no rows
and runs until it is stopped:

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
MAX_CONSECUTIVE_FAILURES = 200
"""After this many consecutive failures to reach the server, the load ends."""


class Recorder:
    """Counts the planned requests, writes one row per request, and ends the test after the last reply."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.total = PLAN["requests"] and PLAN["warm_up"] + PLAN["requests"]
        self.claimed = self.finished = self.unreached = 0
        self.began = time.perf_counter()
        self.cpu_began = time.process_time()
        # Line-buffered, so that an interrupted test keeps its rows.
        self.file = Path(PLAN["rows"]).open("w", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(COLUMNS)
        random.seed(PLAN["seed"])

    def claim(self, opening: bool) -> str:
        """Claim one of the planned requests and return its phase. Stops this user if all requests are claimed.

        `opening` says whether the request is the first one of its user.
        """
        if self.claimed == self.total:
            raise StopUser
        self.claimed += 1
        if self.claimed <= PLAN["warm_up"]:
            return "warm_up"
        return "opening" if opening else "steady"

    def record(self, name: str, response_time: float, response_length: int, **meta: Any) -> None:
        """Write one row for a request, successful or not. Locust calls it after each request."""
        done = time.perf_counter() - self.began
        status = meta["response"].status_code
        error = meta["exception"]
        # The client wraps the error in RetriesExceeded, although retries are off.
        cause = getattr(error, "original", None) or error
        error_name = "" if error is None else f"HTTP {status}" if status else type(cause).__name__
        times = ["", done - response_time / 1000, "", done, response_time, response_time]
        about = ["locust", 0, name, meta["context"]["phase"]]
        self.writer.writerow([*about, *times, status, response_length or 0, error_name])
        self.finished += 1
        self.unreached = self.unreached + 1 if isinstance(cause, UNREACHED) else 0
        if self.unreached == MAX_CONSECUTIVE_FAILURES:
            self.finish(f"the server was not reached {MAX_CONSECUTIVE_FAILURES} times in a row")
        elif self.finished == self.total:
            self.finish("")

    def finish(self, ended: str) -> None:
        """Write the CPU and wall time of this process since the start of the test, and end the test.

        `ended` is the reason for an early end, or empty.
        """
        busy = {"cpu_s": time.process_time() - self.cpu_began, "wall_s": time.perf_counter() - self.began}
        Path(PLAN["generator"]).write_text(json.dumps(busy | {"ended": ended}), encoding="utf-8")
        assert self.environment.runner is not None
        # quit() ends all users, including the one that runs this code, so call it from a thread (a greenlet in Locust).
        threading.Thread(target=self.environment.runner.quit).start()


@events.test_start.add_listener
def open_recorder(environment: Environment, **_: Any) -> None:
    recorder = Recorder(environment)
    BankingUser.recorder = recorder
    environment.events.request.add_listener(recorder.record)


class BankingUser(FastHttpUser):
    """A closed-loop user: sends a request, waits for the reply, pauses, and sends the next request."""

    recorder: Recorder
    connection_timeout = network_timeout = PLAN["timeout_s"]
    fresh = True

    def wait_time(self) -> float:
        low, high = PLAN["wait_s"]
        return random.uniform(low, high)

    @task
    def ask(self) -> None:
        """Send a health check or a chat, drawn according to the mix."""
        context = {"phase": self.recorder.claim(self.fresh)}
        self.fresh = False
        if random.random() < PLAN["health_share"]:
            self.client.get("/health", name="health", context=context)
            return
        customer = random.choice(PLAN["customers"])
        body = {"message": random.choice(PLAN["messages"]), "customer_id": customer}
        headers = {"Authorization": f"Bearer {TOKENS[customer]}"} if customer in TOKENS else None
        self.client.post("/api/v1/chat", name="chat", json=body, headers=headers, context=context)
