"""Latency of sequential requests: the baseline for the latency under load.

rows = time_requests(server.url, texts, ["CUST001"], requests=200)
"""

import random
import time
from collections.abc import Sequence

import httpx

from bankllm.errors import ServerError

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

    - `sent_s`: time of sending, in seconds since the first measured request;
    - `done_s`: time of the reply's last byte, on the same clock;
    - `latency_ms`: the difference in ms;
    - `status`: the HTTP status, 0 without a reply;
    - `error`: empty on success, else the HTTP status or the name of the failure;
    - `intent` and `<stage>_ms`: as the server reports them, empty for other statuses than 200.

    `timeout_s` is the timeout per request. Raises `ServerError` if no server answers at `url`.
    """
    generator = random.Random(seed)
    rows: list[dict[str, object]] = []
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, headers=headers) as client:
        try:
            client.get("/health")
        except httpx.HTTPError as error:
            raise ServerError(f"No server answers at {url} ({error}). Start the server (bankllm serve).") from error
        began = time.perf_counter()
        for number in range(WARM_UP + requests):
            body = {"message": generator.choice(messages), "customer_id": generator.choice(customers)}
            if number == WARM_UP:
                began = time.perf_counter()
            row = _time_one(client, body, began)
            if number >= WARM_UP:
                rows.append(row)
    return rows


def _time_one(client: httpx.Client, body: dict[str, str], began: float) -> dict[str, object]:
    sent = time.perf_counter()
    status, error, reply = 0, "", {}
    try:
        response = client.post("/api/v1/chat", json=body)
        status = response.status_code
    except httpx.HTTPError as failure:
        error = type(failure).__name__
    done = time.perf_counter()
    if status == 200:
        reply = response.json()
    elif status:
        error = f"HTTP {status}"
    stages = {f"{stage}_ms": reply.get("latency_ms", {}).get(stage, "") for stage in STAGES}
    return {
        "sent_s": sent - began,
        "done_s": done - began,
        "latency_ms": 1000 * (done - sent),
        "status": status,
        "error": error,
        "intent": reply.get("intent", ""),
        **stages,
    }
