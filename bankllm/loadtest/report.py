"""Run one load and print a summary computed from its rows (`drive`)."""

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt

from bankllm import datasets
from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import write_rows
from bankllm.loadtest.load import Load, LoadResult, RequestRow, estimate
from bankllm.loadtest.questions import questions_of
from bankllm.loadtest.runner import LoadInterrupted, run_load
from bankllm.loadtest.server_process import DEMO_SETTINGS, ServerProcess
from bankllm.settings import Settings
from bankllm.util.atomic_files import check_writable

TOKEN_SECONDS = 3600
"""Lifetime of a token in s; a load against a server with authentication must not take longer."""


def drive(
    output: Path,
    driver: str,
    settings: Settings,
    *,
    url: str | None,
    workers: int = 1,
    texts: str = "teller77",
    questions: bool = False,
    **arguments: Any,
) -> Iterator[str]:
    """Send a load to the server at `url`, write its rows to `output`, and yield lines to print.

    Without a `url`, a server with `workers` processes and an empty message store is started for the load. The messages
    are the test texts of the data set `texts`; with `questions`, most are those of `questions_of`. `arguments` are
    further arguments of `run_load`.

    Raises the errors of `run_load` and `ServerProcess`. After the last line it raises `RunError` if the load is
    invalid and `KeyboardInterrupt` if it was interrupted; the rows are kept in both cases.
    """
    if not output.name.endswith((".csv", ".csv.gz")):
        raise UsageError(f"{output.name}: expected a file name that ends in .csv or .csv.gz.")
    check_writable(output)
    asked: dict[str, Any] = {"messages": datasets.load(texts, settings).test.texts, "customers": CUSTOMERS}
    asked |= {"tokens": tokens(settings, CUSTOMERS), **arguments}
    Load(url or "http://127.0.0.1", driver, **asked)  # reject wrong arguments before a server is started
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-load-")))
        if url is None:
            own = {name: os.environ[name] for name in DEMO_SETTINGS if name in os.environ}
            env = {**own, "BANKLLM_RATE_LIMIT": "off"}
            url = stack.enter_context(ServerProcess(store=folder / "memory.sqlite", workers=workers, env=env)).url
        if questions:
            asked["questions"] = questions_of(url, CUSTOMERS, asked["tokens"])
        try:
            result = run_load(url, driver, output=folder, **asked)
        except LoadInterrupted as interruption:
            result = interruption.result
    try:
        if result.rows:
            write_rows(output, result.rows)
    finally:
        yield from describe(result)
    kept = f"{len(result.rows):,} rows were written to {output}." if result.rows else "No rows were written."
    if result.interrupted:
        yield f"Interrupted. {kept}"
        raise KeyboardInterrupt
    if result.invalid_because:
        raise RunError(f"The load test is invalid; do not use its results: {result.invalid_because}. {kept}")
    yield kept


def tokens(settings: Settings, customers: Sequence[str]) -> Mapping[str, str]:
    """Return customer id → bearer token, signed with the secret in `settings`; empty without a secret."""
    if settings.jwt_secret is None:
        return {}
    secret = settings.jwt_secret.get_secret_value()
    claims = {"exp": time.time() + TOKEN_SECONDS, "aud": settings.jwt_audience or "bankllm"}
    return {customer: jwt.encode(claims | {"sub": customer}, secret, algorithm="HS256") for customer in customers}


def describe(result: LoadResult) -> Iterator[str]:
    """Yield throughput, errors and percentiles of a load as lines to print. An invalid load has no percentiles."""
    summary, load = result.summary(), result.load
    loop = f"closed loop, {load.users} users"
    if load.rate is not None:
        loop = f"open loop, {load.rate:g} requests per second offered ({load.arrivals})"
    yield (
        f"{load.driver}, {loop}: {summary['requests']:,} requests in {result.seconds:.1f} s, "
        f"{summary['requests_per_s']:.1f} per second"
    )
    if summary["warm_up"]:
        failed = sum(bool(each["error"]) for each in result.rows if each["phase"] == "warm_up")
        yield f"warm-up (not measured): {summary['warm_up']:,} requests, {failed:,} failed"
    yield f"failed: {summary['failed']:,}" + "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    if not result.invalid_because:
        for kind in sorted({str(each["kind"]) for each in result.measured}):
            rows = [each for each in result.measured if each["kind"] == kind]
            opening = [each for each in rows if each["phase"] == "opening"]
            views = [
                (", first request of each user", opening, "latency_ms"),
                ("", [each for each in rows if each["phase"] != "opening"], "latency_ms"),
            ]
            if load.rate is not None:
                views = [(", from due time", rows, "latency_ms")]
                views += [(", from send time (uncorrected)", rows, "service_ms")]
            views += [(", first word", [each for each in rows if each["ttft_ms"] != ""], "ttft_ms")]
            for what, viewed, column in filter(lambda view: view[1], views):
                yield f"{kind}{what}: {_percentiles(viewed, column)}"
        for column in ("served_by", "fallback", "answer"):
            if counts := Counter(str(each[column]) for each in result.measured if each[column]):
                yield f"{column}: {', '.join(f'{n:,} × {value}' for value, n in counts.items())}"
    if result.generator_cpu_share is not None:
        yield f"load generator: used {result.generator_cpu_share:.0%} of one core of this machine"
    yield f"limits of {load.driver}: {'; '.join(result.limits) or 'none'}"


def _percentiles(rows: Sequence[RequestRow], column: str) -> str:
    estimates = {f"p{100 * q:g}": estimate(rows, q, column) for q in (0.5, 0.95, 0.99)}
    return ", ".join(
        f"{name} not measured ({found.invalid_because})" if found.value is None else f"{name} {found.value:.1f} ms"
        for name, found in estimates.items()
    )
