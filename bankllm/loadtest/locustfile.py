"""Locust scenario `BankingUser`: one health check per two chats, pauses of 1 to 3 s, one row per request.

Locust monkey-patches the interpreter, so `drivers/locust_driver.py` runs this file in a separate process; the file is
not in `drivers/`, whose modules are imported. The environment variable BANKLLM_LOAD_PLAN names the JSON file with the
plan. Without a plan, the scenario keeps no rows and runs until it is stopped; Locust's web page sets the load:

    locust -f bankllm/loadtest/locustfile.py --host http://127.0.0.1:8000
"""

import itertools
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

from bankllm.loadtest.load import PATHS, Call, RequestRow, row
from bankllm.loadtest.reply_outcomes import LedgerQuestion, reply_columns

ANY = {"message": "What is my account balance?", "customer_id": "CUST001"}
PLAN: dict[str, Any] = {"warm_up": 0, "wait_s": [1, 3], "timeout_s": 30, "seed": 0, "result": None}
PLAN["calls"] = itertools.cycle([("chat", ANY, None), ("chat", ANY, None), ("health", {}, None)])
if path := os.environ.get("BANKLLM_LOAD_PLAN"):
    PLAN |= json.loads(Path(path).read_text(encoding="utf-8"))
TOKENS: dict[str, str] = json.loads(os.environ.get("BANKLLM_LOAD_TOKENS", "{}"))


class Recorder:
    """Hands out the planned requests, keeps one row per request, and ends the test after the last reply."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.calls = enumerate(PLAN["calls"])
        self.rows: list[RequestRow] = []
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        random.seed(PLAN["seed"])

    def claim(self, opening: bool) -> tuple[Call, str]:
        """Claim the next planned request, and return it with its phase. Stops this user if all are claimed."""
        for number, (kind, body, question) in self.calls:
            call = Call(kind, body, LedgerQuestion(*question) if question else None)
            return call, "warm_up" if number < PLAN["warm_up"] else "opening" if opening else "steady"
        raise StopUser

    def record(self, response_time: float, response_length: int, **meta: Any) -> None:
        """Keep the row of a request, successful or not. Locust calls it after each request."""
        if PLAN["result"] is None:
            return
        done, response, error = time.perf_counter() - self.began, meta["response"], meta["exception"]
        call, phase = meta["context"]["claimed"]
        # The client wraps the error in RetriesExceeded, although retries are off.
        cause = getattr(error, "original", None) or error
        error_name = (
            "" if error is None else f"HTTP {response.status_code}" if response.status_code else type(cause).__name__
        )
        columns = {"status": response.status_code, "bytes": response_length or 0, "error": error_name}
        if call.body:
            columns |= reply_columns(call.question, None if error else response.json())
        sent = done - response_time / 1000
        self.rows.append(row(sent, done, driver="locust", kind=call.kind, phase=phase, **columns))
        if len(self.rows) == len(PLAN["calls"]):
            assert self.environment.runner is not None
            # quit() ends all users, including the one that runs this code, so call it from a thread (a greenlet).
            threading.Thread(target=self.environment.runner.quit).start()

    def write(self, **_: Any) -> None:
        """Write the rows and the generator's share of a core. Locust calls it when it quits, also after SIGTERM."""
        if PLAN["result"] is None:
            return
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
        call, phase = self.recorder.claim(self.fresh)
        self.fresh = False
        customer = call.body.get("customer_id")
        self.client.request(
            "POST" if call.body else "GET",
            PATHS[call.kind],
            name=call.kind,
            json=call.body or None,
            headers={"Authorization": f"Bearer {TOKENS[customer]}"} if customer in TOKENS else None,
            context={"claimed": (call, phase)},
        )
