"""Smoke test of a server in about ten seconds: one health check, then 40 requests. It writes no files.

bankllm loadtest --quick --url http://127.0.0.1:8000
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bankllm import datasets
from bankllm.errors import RunError
from bankllm.loadtest.report import CUSTOMERS, own_server, tokens
from bankllm.loadtest.runner import check_reachable, run_load
from bankllm.loadtest.validation import check_address
from bankllm.settings import Settings

RATE, REQUESTS = 20, 40
"""Requests per second, and number of requests: two seconds of a load that every server should sustain."""
TIMEOUT_S = 5


def smoke_test(*, url: str | None, settings: Settings, allow_remote: bool = False) -> Iterator[str]:
    """Check the health of the server at `url` and send it 40 requests of the mix. Yields lines to print.

    Without a `url`, a server is started for the test and stopped afterwards. The load is too short for percentiles,
    so the rules for the validity of a load are not applied.

    Raises `RunError` if the health check or a request failed, and the errors of `run_load` and `ServerProcess`.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-quick-")))
        if url is None:
            address = stack.enter_context(own_server(folder)).url
            yield f"server started in {time.monotonic() - began:.1f} s"
        else:
            address = url.rstrip("/")
            check_address(address, allow_remote)
            check_reachable(address)
        status = httpx.get(f"{address}/health", timeout=TIMEOUT_S, trust_env=False).status_code
        yield f"health: HTTP {status}"
        if status != 200:
            raise RunError(f"{address}/health: expected HTTP 200, found HTTP {status}. See the server's log.")
        result = run_load(
            address,
            "open-loop",
            messages=datasets.load("teller77", settings).test.texts,
            customers=CUSTOMERS,
            output=folder,
            requests=REQUESTS,
            rate=RATE,
            arrivals="constant",
            kind="mix",
            timeout_s=TIMEOUT_S,
            token=tokens(settings, CUSTOMERS),
            allow_remote=allow_remote,
        )
    waits = sorted(float(each["latency_ms"]) for each in result.rows)
    failed = sum(result.errors.values())
    kinds = "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    yield f"{len(waits)} requests at {RATE} per second, one health check per two chats: {failed} failed{kinds}"
    yield f"latency: median {waits[len(waits) // 2]:.0f} ms, maximum {waits[-1]:.0f} ms"
    if failed or len(waits) < REQUESTS:
        reason = result.invalid_because or "the line above lists the failures"
        raise RunError(
            f"Smoke test failed: {failed} of {len(waits)} requests failed, expected {REQUESTS} without a failure "
            f"({reason}). See the server's log."
        )
    yield f"smoke test passed ({time.monotonic() - began:.1f} s)"
