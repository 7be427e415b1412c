"""What `bankllm loadtest` does and prints: a server, one load, its rows in a file, and figures computed from them.

bankllm loadtest rows.csv --driver open-loop --rate 50 --requests 2000 --warm-up 200
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt

from bankllm import datasets
from bankllm.errors import RunError
from bankllm.evidence.statistics.registry import percentile
from bankllm.loadtest.load import Driver, RequestRow
from bankllm.loadtest.runner import LoadInterrupted, LoadResult, run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.loadtest.table import check_ending, write_table
from bankllm.loadtest.validation import plan
from bankllm.settings import Settings

CUSTOMERS = [f"CUST{number:03d}" for number in range(1, 11)]
"""The demo ledger's."""
TOKEN_SECONDS = 3600
"""How long a load may take that a guarded server answers."""


def drive(
    output: Path,
    *,
    url: str | None,
    driver: Driver,
    settings: Settings,
    workers: int = 1,
    texts: str = "teller77",
    repeat_one: bool = False,
    **ask: Any,
) -> Iterator[str]:
    """Load the server at `url`, or one started for it with so many workers; write the rows to `output`.

    `ask` is what `run_load` takes beside; texts are the test texts of a data set, only the first with `repeat_one`.
    Gives lines to print. Raises what `run_load` and `ServerProcess` raise, and once the lines are out `RunError` if
    the load is invalid, `KeyboardInterrupt` if it was interrupted; the rows are kept.
    """
    check_ending(output)
    messages = datasets.load(texts, settings).test.texts
    mine = {"messages": messages[:1] if repeat_one else messages, "customers": CUSTOMERS} | ask
    plan(url or "http://127.0.0.1", driver, **mine)  # before a server is started for nothing
    interrupted = False
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-load-")))
        address = url or stack.enter_context(own_server(folder, workers)).url
        try:
            result = run_load(
                address,
                driver,
                output=folder,
                token=tokens(settings, CUSTOMERS),
                **mine,
            )
        except LoadInterrupted as interruption:
            result, interrupted = interruption.result, True
    if result.rows:
        write_table(output, result.rows)
    yield from describe(result)
    kept = f"Its {len(result.rows):,} rows are in {output}." if result.rows else "There are no rows to keep."
    if interrupted:
        yield f"Interrupted. {kept}"
        raise KeyboardInterrupt
    if result.invalid_because:
        raise RunError(f"The load is invalid: {result.invalid_because}. {kept}")
    yield kept


def own_server(folder: Path, workers: int = 1) -> ServerProcess:
    """A server for this load alone: an empty memory, no limit of requests."""
    return ServerProcess(store=folder / "memory.sqlite", workers=workers, env={"BANKLLM_RATE_LIMIT": "off"})


def tokens(settings: Settings, customers: Sequence[str]) -> Mapping[str, str] | None:
    """A token of each customer, where the server's secret is known."""
    if settings.jwt_secret is None:
        return None
    secret = settings.jwt_secret.get_secret_value()
    claims = {"exp": time.time() + TOKEN_SECONDS, "aud": settings.jwt_audience or "bankllm"}
    return {customer: jwt.encode(claims | {"sub": customer}, secret, algorithm="HS256") for customer in customers}


def describe(result: LoadResult) -> Iterator[str]:
    """Throughput, errors and percentiles, the latter as `verify` would compute them from the rows' file.

    An invalid load has no percentiles to show.
    """
    figures = result.summary()
    pace = f"{result.users} users, closed loop"
    if result.rate is not None:
        pace = f"open loop, {result.rate:g} a second due ({result.arrivals})"
    yield (
        f"{result.driver}, {pace}: {figures['requests']:,} requests in {result.seconds:.1f} s, "
        f"{figures['requests_per_s']:.1f} a second"
    )
    if figures["warm_up"]:
        failed = sum(bool(each["error"]) for each in result.rows if each["phase"] == "warm_up")
        yield f"warm-up before them: {figures['warm_up']:,} requests, {failed:,} failed"
    yield f"failed: {figures['failed']:,}" + "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    if not result.invalid_because:
        yield from _latencies(result)
    if result.generator_cpu_share is not None:
        yield f"load generator: busy for {result.generator_cpu_share:.0%} of a core, on this machine"
    yield f"{result.driver}'s limits: {'; '.join(result.limits)}"


def _latencies(result: LoadResult) -> Iterator[str]:
    for kind in sorted({str(each["kind"]) for each in result.measured}):
        for phase in ("", "opening", "steady"):
            rows = [each for each in result.measured if each["kind"] == kind and each["phase"] == phase]
            if not rows:
                continue
            what = f"{kind}, opening wave" if phase == "opening" else kind
            if result.rate is None:
                yield f"{what}: {_percentiles(rows, 'latency_ms')}"
            else:
                yield f"{what}, from due: {_percentiles(rows, 'latency_ms')}"
                yield f"{what}, from sent (uncorrected): {_percentiles(rows, 'service_ms')}"


def _percentiles(rows: Sequence[RequestRow], column: str) -> str:
    return ", ".join(_percentile([{column: str(each[column])} for each in rows], column, q) for q in (0.5, 0.95, 0.99))


def _percentile(rows: list[dict[str, str]], column: str, q: float) -> str:
    estimate = percentile(rows, column, q)
    if estimate.value is None:
        return f"p{100 * q:g} not measured ({estimate.invalid_because})"
    return f"p{100 * q:g} {estimate.value:.1f} ms"
