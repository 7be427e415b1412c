"""Latency of sequential requests: the baseline for the latency under load."""

import random
import time
from collections.abc import Sequence

import httpx

from bankllm.loadtest.load import RequestRow, row
from bankllm.loadtest.runner import check_reachable

WARM_UP = 5
"""Requests sent first, without rows."""
TIMEOUT_S = 30
"""Timeout per request, in s."""
STAGES = ("queue", "tokenise", "encode", "classify", "retrieve", "respond", "total")


def time_requests(
    url: str, messages: Sequence[str], customers: Sequence[str], *, requests: int, seed: int = 0
) -> list[RequestRow]:
    """Send chats one at a time on one connection. Returns one row per request after the first `WARM_UP`.

    The columns are those of `load.COLUMNS`, and `intent` and `<stage>_ms` as the server reports them, empty for other
    statuses than 200. Raises `ServerError` if no server answers at `url`.
    """
    check_reachable(url)
    draw = random.Random(seed)
    rows: list[RequestRow] = []
    began = 0.0
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        for number in range(-WARM_UP, requests):
            body = {"message": draw.choice(messages), "customer_id": draw.choice(customers)}
            sent, status, error = time.perf_counter(), 0, ""
            began = began if number > 0 else sent
            try:
                response = client.post("/api/v1/chat", json=body)
                status, error = response.status_code, "" if response.is_success else f"HTTP {response.status_code}"
            except httpx.HTTPError as failure:
                error = type(failure).__name__
            done = time.perf_counter()
            reply = response.json() if status == 200 else {}
            stages = {f"{stage}_ms": reply.get("latency_ms", {}).get(stage, "") for stage in STAGES}
            timed = row(sent - began, done - began, driver="sequential", kind="chat", status=status, error=error)
            rows.append({**timed, "intent": reply.get("intent", ""), **stages})
    return rows[WARM_UP:]
