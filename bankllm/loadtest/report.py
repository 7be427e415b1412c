"""What `bankllm loadtest` prints: one load, its rows as CSV, and figures computed from that file.

bankllm loadtest rows.csv --driver locust --users 20 --requests 500
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast, get_args

import jwt

from bankllm import datasets
from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import Raw, compute, sha256_file, write_rows
from bankllm.loadtest.runner import Driver, LoadResult, run_load
from bankllm.loadtest.server import ServerProcess
from bankllm.settings import Settings

CUSTOMERS = [f"CUST{number:03d}" for number in range(1, 11)]
"""The demo ledger's."""
TOKEN_SECONDS = 3600
"""How long a load may take that a guarded server answers."""


def drive(
    output: Path, *, url: str | None, driver: str, users: int, requests: int, settings: Settings
) -> Iterator[str]:
    """Load the server at `url`, or one started for it, with Teller77's test texts; write the rows to `output`.

    Gives lines to print. Raises what `run_load` and `ServerProcess` raise, and `RunError` once the lines are out if
    the load is invalid; its rows are kept.
    """
    if driver not in get_args(Driver):
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(get_args(Driver))}.")
    token = _token(settings, CUSTOMERS[0])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-load-")))
        if url is None:
            own = ServerProcess(store=folder / "memory.sqlite", env={"BANKLLM_RATE_LIMIT": "off"})
            url = stack.enter_context(own).url
        result = run_load(
            url,
            cast(Driver, driver),
            messages=datasets.load("teller77").test.texts,
            customers=CUSTOMERS if token is None else CUSTOMERS[:1],
            output=folder,
            users=users,
            requests=requests,
            token=token,
        )
    write_rows(output, result.rows)
    yield from describe(result, output)
    if result.invalid_because:
        raise RunError(f"The load is invalid: {result.invalid_because}. Its {len(result.rows):,} rows are in {output}.")


def _token(settings: Settings, customer: str) -> str | None:
    """A token of the one customer that the load comes from, where the server's secret is known."""
    if settings.jwt_secret is None:
        return None
    claims = {"sub": customer, "exp": time.time() + TOKEN_SECONDS, "aud": settings.jwt_audience or "bankllm"}
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")


def describe(result: LoadResult, rows: Path) -> Iterator[str]:
    """Throughput, errors and percentiles, the latter as `verify` would compute them from the file of the rows."""
    figures = result.summary()
    yield (
        f"{result.driver}, {result.users} users, closed loop: {figures['requests']:,} requests in "
        f"{result.seconds:.1f} s, {figures['requests_per_s']:.1f} a second"
    )
    yield f"failed: {figures['failed']:,}" + "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    for kind in sorted({str(row["kind"]) for row in result.rows}):
        raw = Raw(path=rows.name, sha256=sha256_file(rows), where={"kind": kind})
        yield f"{kind}: " + ", ".join(_percentile(rows.parent, raw, q) for q in (0.5, 0.95, 0.99))
    if result.generator_cpu_share is not None:
        yield f"load generator: busy for {result.generator_cpu_share:.0%} of a core, on the server's machine"
    yield f"{result.driver}'s limits: {'; '.join(result.limits)}"


def _percentile(folder: Path, raw: Raw, q: float) -> str:
    estimate = compute(folder, raw, "percentile", {"column": "latency_ms", "q": q})
    if estimate.value is None:
        return f"p{100 * q:g} not measured ({estimate.invalid_because})"
    return f"p{100 * q:g} {estimate.value:.1f} ms"
