"""Latency of sequential requests: the baseline for the latency under load.

rows = time_requests(server.url, texts, ["CUST001"], requests=200)
"""

import random
import time
from collections.abc import Sequence
from typing import Any

import httpx

from bankllm.loadtest.runner import check_reachable

WARM_UP = 5
"""Requests sent first, without rows."""
STAGES = ("queue", "tokenise", "encode", "classify", "retrieve", "respond", "total")


def time_requests(
    url: str,
    messages: Sequence[str],
    customers: Sequence[str],
    *,
    requests: int,
    seed: int = 0,
    token: str | None = None,
    timeout_s: float = 30,
) -> list[dict[str, object]]:
    """Send chats one at a time on one connection. Returns one row per request after the first `WARM_UP`:

    `sent_s`, `done_s`, `latency_ms`, `status` and `error` as in `load.COLUMNS`; `intent` and `<stage>_ms` as the server
    reports them, empty for other statuses than 200.

    `timeout_s` is the timeout per request. Raises `ServerError` if no server answers at `url`.
    """
    check_reachable(url)
    draw = random.Random(seed)
    rows: list[dict[str, object]] = []
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, headers=headers) as client:
        for number in range(-WARM_UP, requests):
            body = {"message": draw.choice(messages), "customer_id": draw.choice(customers)}
            sent = time.perf_counter()
            if number <= 0:
                began = sent
            status, error, reply = _ask(client, body)
            done = time.perf_counter()
            row: dict[str, object] = {
                "sent_s": sent - began,
                "done_s": done - began,
                "latency_ms": 1000 * (done - sent),
            }
            row |= {"status": status, "error": error, "intent": reply.get("intent", "")}
            stages = {f"{stage}_ms": reply.get("latency_ms", {}).get(stage, "") for stage in STAGES}
            rows.append(row | stages)
    return rows[WARM_UP:]


def _ask(client: httpx.Client, body: dict[str, str]) -> tuple[int, str, dict[str, Any]]:
    """Send a chat; return its status, its error and the reply. The reply is empty for other statuses than 200."""
    try:
        response = client.post("/api/v1/chat", json=body)
    except httpx.HTTPError as failure:
        return 0, type(failure).__name__, {}
    if response.status_code != 200:
        return response.status_code, f"HTTP {response.status_code}", {}
    return 200, "", response.json()
