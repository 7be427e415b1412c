"""Run one load, write its rows to a file, and print a summary computed from the rows.

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
"""Customer ids of the demo ledger."""
TOKEN_SECONDS = 3600
"""Lifetime of a token in s; a load against a server with authentication must not take longer."""


def drive(
    output: Path,
    *,
    url: str | None,
    driver: Driver,
    settings: Settings,
    workers: int = 1,
    texts: str = "teller77",
    repeat_one: bool = False,
    **arguments: Any,
) -> Iterator[str]:
    """Send a load to the server at `url`, write its rows to `output`, and yield lines to print.

    Without a `url`, a server with `workers` processes is started for the load. The messages are the test texts of the
    data set `texts`, or only the first one with `repeat_one`. `arguments` are further arguments of `run_load`.

    Raises the errors of `run_load` and `ServerProcess`. After the last line it raises `RunError` if the load is
    invalid and `KeyboardInterrupt` if it was interrupted; the rows are kept in both cases.
    """
    check_ending(output)
    messages = datasets.load(texts, settings).test.texts
    arguments = {"messages": messages[:1] if repeat_one else messages, "customers": CUSTOMERS} | arguments
    plan(url or "http://127.0.0.1", driver, **arguments)  # reject wrong arguments before a server is started
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
                **arguments,
            )
        except LoadInterrupted as interruption:
            result, interrupted = interruption.result, True
    if result.rows:
        write_table(output, result.rows)
    yield from describe(result)
    kept = f"{len(result.rows):,} rows were written to {output}." if result.rows else "No rows were written."
    if interrupted:
        yield f"Interrupted. {kept}"
        raise KeyboardInterrupt
    if result.invalid_because:
        raise RunError(f"The load test is invalid; do not use its results: {result.invalid_because}. {kept}")
    yield kept


def own_server(folder: Path, workers: int = 1) -> ServerProcess:
    """Return a server for one load: an empty message store in `folder`, and no rate limit."""
    return ServerProcess(store=folder / "memory.sqlite", workers=workers, env={"BANKLLM_RATE_LIMIT": "off"})


def tokens(settings: Settings, customers: Sequence[str]) -> Mapping[str, str] | None:
    """Return customer id → bearer token, signed with the secret in `settings`; None without a secret."""
    if settings.jwt_secret is None:
        return None
    secret = settings.jwt_secret.get_secret_value()
    claims = {"exp": time.time() + TOKEN_SECONDS, "aud": settings.jwt_audience or "bankllm"}
    return {customer: jwt.encode(claims | {"sub": customer}, secret, algorithm="HS256") for customer in customers}


def describe(result: LoadResult) -> Iterator[str]:
    """Yield throughput, errors and percentiles of a load as lines to print.

    The percentiles use the same statistic that `verify` applies to the file of rows. An invalid load has none.
    """
    summary = result.summary()
    loop = f"closed loop, {result.users} users"
    if result.rate is not None:
        loop = f"open loop, {result.rate:g} requests per second offered ({result.arrivals})"
    yield (
        f"{result.driver}, {loop}: {summary['requests']:,} requests in {result.seconds:.1f} s, "
        f"{summary['requests_per_s']:.1f} per second"
    )
    if summary["warm_up"]:
        failed = sum(bool(each["error"]) for each in result.rows if each["phase"] == "warm_up")
        yield f"warm-up (not measured): {summary['warm_up']:,} requests, {failed:,} failed"
    yield f"failed: {summary['failed']:,}" + "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    if not result.invalid_because:
        yield from _latencies(result)
    if result.generator_cpu_share is not None:
        yield f"load generator: used {result.generator_cpu_share:.0%} of one core of this machine"
    yield f"limits of {result.driver}: {'; '.join(result.limits)}"


def _latencies(result: LoadResult) -> Iterator[str]:
    for kind in sorted({str(each["kind"]) for each in result.measured}):
        for phase in ("", "opening", "steady"):
            rows = [each for each in result.measured if each["kind"] == kind and each["phase"] == phase]
            if not rows:
                continue
            name = f"{kind}, first request of each user" if phase == "opening" else kind
            if result.rate is None:
                yield f"{name}: {_percentiles(rows, 'latency_ms')}"
            else:
                yield f"{name}, from due time: {_percentiles(rows, 'latency_ms')}"
                yield f"{name}, from send time (uncorrected): {_percentiles(rows, 'service_ms')}"


def _percentiles(rows: Sequence[RequestRow], column: str) -> str:
    return ", ".join(_percentile([{column: str(each[column])} for each in rows], column, q) for q in (0.5, 0.95, 0.99))


def _percentile(rows: list[dict[str, str]], column: str, q: float) -> str:
    estimate = percentile(rows, column, q)
    if estimate.value is None:
        return f"p{100 * q:g} not measured ({estimate.invalid_because})"
    return f"p{100 * q:g} {estimate.value:.1f} ms"
