"""Ten seconds for those who only want to see that an endpoint lives: health, then a few chats; nothing is kept.

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
from bankllm.loadtest.runner import check_answers, run_load
from bankllm.loadtest.validation import check_address
from bankllm.settings import Settings

RATE, REQUESTS = 20, 40
"""Two seconds of what any server should bear."""
TIMEOUT_S = 5


def smoke_test(*, url: str | None, settings: Settings, allow_remote: bool = False) -> Iterator[str]:
    """Ask the server at `url`, or one started for it, for its health and 40 requests of the mix; gives lines to print.

    Raises what `run_load` and `ServerProcess` raise, and `RunError` if a request failed. A load so short says nothing
    of percentiles and is not judged by the rules of one.
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
            check_answers(address)
        status = httpx.get(f"{address}/health", timeout=TIMEOUT_S, trust_env=False).status_code
        yield f"health: HTTP {status}"
        if status != 200:
            raise RunError(f"{address}/health answered HTTP {status}; expected 200. See the server's log.")
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
    yield f"{len(waits)} requests at {RATE} a second, one health check to two chats: {failed} failed{kinds}"
    yield f"half were answered within {waits[len(waits) // 2]:.0f} ms, all within {waits[-1]:.0f} ms"
    if failed or len(waits) < REQUESTS:
        raise RunError(f"{failed} of {len(waits)} requests failed ({result.invalid_because or 'see above'}).")
    yield f"it lives ({time.monotonic() - began:.1f} s)"
