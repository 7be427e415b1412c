"""Locust scenario `BankingUser`: one health check per two chats, pauses of 1 to 3 s, one row per request.

Locust monkey-patches the interpreter, so `drivers/locust_driver.py` runs this file in a separate process; the file is
not in `drivers/`, whose modules are imported. The environment variable BANKLLM_LOAD_PLAN names the JSON file with the
plan. Without a plan, the scenario keeps no rows and runs until it is stopped; Locust's web page sets the load:

    locust -f bankllm/loadtest/locustfile.py --host http://127.0.0.1:8000
"""

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

from bankllm.loadtest.load import RequestRow, row

PLAN: dict[str, Any] = {
    "requests": None,
    "warm_up": 0,
    "health_share": 1 / 3,
    "messages": ["What is my account balance?", "My card has not arrived yet", "Why was I charged twice?"],
    "customers": ["CUST001", "CUST002", "CUST003"],
    "wait_s": [1, 3],
    "timeout_s": 30,
    "seed": 0,
    "result": os.devnull,
}
if path := os.environ.get("BANKLLM_LOAD_PLAN"):
    PLAN |= json.loads(Path(path).read_text(encoding="utf-8"))
TOKENS: dict[str, str] = json.loads(os.environ.get("BANKLLM_LOAD_TOKENS", "{}"))


class Recorder:
    """Counts the planned requests, keeps one row per request, and ends the test after the last reply."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.total = PLAN["requests"] and PLAN["warm_up"] + PLAN["requests"]
        self.claimed = 0
        self.rows: list[RequestRow] = []
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        random.seed(PLAN["seed"])

    def claim(self, opening: bool) -> str:
        """Claim one of the planned requests and return its phase. Stops this user if all requests are claimed."""
        if self.claimed == self.total:
            raise StopUser
        self.claimed += 1
        if self.claimed <= PLAN["warm_up"]:
            return "warm_up"
        return "opening" if opening else "steady"

    def record(self, name: str, response_time: float, response_length: int, **meta: Any) -> None:
        """Keep the row of a request, successful or not. Locust calls it after each request."""
        if self.total is None:
            return
        done, status, error = time.perf_counter() - self.began, meta["response"].status_code, meta["exception"]
        # The client wraps the error in RetriesExceeded, although retries are off.
        cause = getattr(error, "original", None) or error
        error_name = "" if error is None else f"HTTP {status}" if status else type(cause).__name__
        reply = {"status": status, "bytes": response_length or 0, "error": error_name}
        sent, phase = done - response_time / 1000, meta["context"]["phase"]
        self.rows.append(row(sent, done, driver="locust", kind=name, phase=phase, **reply))
        if len(self.rows) == self.total:
            assert self.environment.runner is not None
            # quit() ends all users, including the one that runs this code, so call it from a thread (a greenlet).
            threading.Thread(target=self.environment.runner.quit).start()

    def write(self, **_: Any) -> None:
        """Write the rows and the generator's share of a core. Locust calls it when it quits, also after SIGTERM."""
        share = (time.process_time() - self.cpu_began) / (time.perf_counter() - self.began)
        Path(PLAN["result"]).write_text(json.dumps({"rows": self.rows, "cpu_share": share}), encoding="utf-8")


def open_recorder(environment: Environment, **_: Any) -> None:
    BankingUser.recorder = recorder = Recorder(environment)
    environment.events.request.add_listener(recorder.record)
    environment.events.quitting.add_listener(recorder.write)


events.test_start.add_listener(open_recorder)


class BankingUser(FastHttpUser):
    recorder: Recorder
    connection_timeout = network_timeout = PLAN["timeout_s"]
    fresh = True

    def wait_time(self) -> float:
        return random.uniform(*PLAN["wait_s"])

    @task
    def ask(self) -> None:
        context = {"phase": self.recorder.claim(self.fresh)}
        self.fresh = False
        if random.random() < PLAN["health_share"]:
            self.client.get("/health", name="health", context=context)
            return
        customer = random.choice(PLAN["customers"])
        body = {"message": random.choice(PLAN["messages"]), "customer_id": customer}
        headers = {"Authorization": f"Bearer {TOKENS[customer]}"} if customer in TOKENS else None
        self.client.post("/api/v1/chat", name="chat", json=body, headers=headers, context=context)
