"""What `bankllm loadtest` prints: one load, its rows as CSV, and figures computed from that file.

bankllm loadtest rows.csv --driver open-loop --rate 50 --requests 2000 --warm-up 200
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
from bankllm.loadtest.load import Arrivals, Mix
from bankllm.loadtest.runner import Driver, LoadInterrupted, LoadResult, run_load
from bankllm.loadtest.server import ServerProcess
from bankllm.settings import Settings

CUSTOMERS = [f"CUST{number:03d}" for number in range(1, 11)]
"""The demo ledger's."""
TOKEN_SECONDS = 3600
"""How long a load may take that a guarded server answers."""


def drive(
    output: Path,
    *,
    url: str | None,
    driver: str,
    users: int,
    requests: int,
    settings: Settings,
    rate: float | None = None,
    arrivals: str = "poisson",
    warm_up: int = 0,
    kind: str | None = None,
    workers: int = 1,
    own_host: bool = False,
) -> Iterator[str]:
    """Load the server at `url`, or one started for it, with Teller77's test texts; write the rows to `output`.

    Gives lines to print. Raises what `run_load` and `ServerProcess` raise, and `RunError` once the lines are out if
    the load is invalid; its rows are kept, as are those of a load that Ctrl-C ended (`LoadInterrupted`).
    """
    if driver not in get_args(Driver):
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(get_args(Driver))}.")
    tokens = _tokens(settings)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-load-")))
        if url is None:
            own = ServerProcess(store=folder / "memory.sqlite", workers=workers, env={"BANKLLM_RATE_LIMIT": "off"})
            url = stack.enter_context(own).url
        try:
            result = run_load(
                url,
                cast(Driver, driver),
                messages=datasets.load("teller77").test.texts,
                customers=CUSTOMERS,
                output=folder,
                users=users,
                requests=requests,
                kind=cast(Mix | None, kind),
                token=tokens,
                allow_remote=own_host,
                warm_up=warm_up,
                rate=rate,
                arrivals=cast(Arrivals, arrivals),
            )
        except LoadInterrupted as stop:
            if stop.result.rows:
                write_rows(output, stop.result.rows)
                yield f"Interrupted: {len(stop.result.rows):,} rows are in {output}."
            raise
    write_rows(output, result.rows)
    yield from describe(result, output)
    if result.invalid_because:
        raise RunError(f"The load is invalid: {result.invalid_because}. Its {len(result.rows):,} rows are in {output}.")


def _tokens(settings: Settings) -> dict[str, str] | None:
    """A token of each customer that the load comes from, where the server's secret is known."""
    if settings.jwt_secret is None:
        return None
    secret, expires = settings.jwt_secret.get_secret_value(), time.time() + TOKEN_SECONDS
    audience = settings.jwt_audience or "bankllm"
    return {
        customer: jwt.encode({"sub": customer, "exp": expires, "aud": audience}, secret, algorithm="HS256")
        for customer in CUSTOMERS
    }


def describe(result: LoadResult, rows: Path) -> Iterator[str]:
    """Throughput, errors and percentiles, the latter as `verify` would compute them from the file of the rows."""
    figures = result.summary()
    loop = f"{result.users} users, closed loop" if result.rate is None else f"{result.rate:g} due a second, open loop"
    yield (
        f"{result.driver}, {loop}: {figures['requests']:,} requests in {result.seconds:.1f} s, "
        f"{figures['requests_per_s']:.1f} a second"
    )
    yield f"failed: {figures['failed']:,}" + "".join(f", {n} × {kind}" for kind, n in result.errors.items())
    for kind, phase in sorted({(str(row["kind"]), str(row["phase"])) for row in result.measured}):
        raw = Raw(path=rows.name, sha256=sha256_file(rows), where={"kind": kind, "phase": phase})
        name = f"{kind}, {phase}" if phase else kind
        yield f"{name}: " + ", ".join(_percentile(rows.parent, raw, "latency_ms", q) for q in (0.5, 0.95, 0.99))
        if result.rate is not None:
            uncorrected = ", ".join(_percentile(rows.parent, raw, "service_ms", q) for q in (0.5, 0.95, 0.99))
            yield f"{name}, not counting the wait before sending: {uncorrected}"
    if result.generator_cpu_share is not None:
        yield f"load generator: busy for {result.generator_cpu_share:.0%} of a core, on the server's machine"
    yield f"{result.driver}'s limits: {'; '.join(result.limits)}"


def _percentile(folder: Path, raw: Raw, column: str, q: float) -> str:
    estimate = compute(folder, raw, "percentile", {"column": column, "q": q})
    if estimate.value is None:
        return f"p{100 * q:g} not measured ({estimate.invalid_because})"
    return f"p{100 * q:g} {estimate.value:.1f} ms"
