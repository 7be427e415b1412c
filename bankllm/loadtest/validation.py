"""Check the arguments of a load before a server or a tool is started: `plan` returns a `Load` or raises an error."""

import math
from collections.abc import Sequence
from typing import Any, get_args
from urllib.parse import urlsplit

from bankllm.errors import UsageError
from bankllm.loadtest.load import Arrivals, Driver, Load, Mix
from bankllm.util.processes import is_loopback

DEFAULT_MIX: dict[Driver, Mix] = {"ab": "chat", "locust": "mix", "open-loop": "chat"}
MAX_RATE = 20_000
"""Requests per second; far above the rate that one generator process reaches on any machine."""


def plan(
    url: str,
    driver: Driver,
    kind: Mix | None = None,
    *,
    messages: Sequence[str],
    customers: Sequence[str],
    allow_remote: bool = False,
    **rest: Any,
) -> Load:
    """Return the checked `Load` for arguments of `runner.run_load`; `rest` are fields of `Load`.

    Raises `UsageError` for the first argument that is invalid.
    """
    check_address(url, allow_remote)
    if driver not in get_args(Driver):
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(get_args(Driver))}.")
    mix = kind or DEFAULT_MIX[driver]
    if driver == "open-loop":
        rest["users"] = 0
    load = Load(url=url.rstrip("/"), messages=messages, customers=customers, mix=mix, **rest)
    _check(load, driver)
    return load


def check_address(url: str, allow_remote: bool) -> None:
    """Raise `UsageError` unless `url` is an HTTP address, and one of this machine unless `allow_remote`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an HTTP address. Expected something like http://127.0.0.1:8000.")
    if not allow_remote and not is_loopback(parts.hostname):
        raise UsageError(
            f"{parts.hostname} is not this machine. Expected a loopback address. If the host is yours, use "
            "--i-own-this-host (in Python allow_remote=True)."
        )


def _check(load: Load, driver: Driver) -> None:
    if load.mix not in get_args(Mix):
        raise UsageError(f"Unknown kind of load {load.mix!r}. Expected one of: {', '.join(get_args(Mix))}.")
    if driver == "ab" and load.mix == "mix":
        raise UsageError(
            "ab sends requests to one endpoint, found kind mix. Use the kind chat or health, or the driver locust or "
            "open-loop."
        )
    if driver == "open-loop":
        _check_rate(load)
    elif load.rate is not None:
        raise UsageError(
            f"{driver} is a closed-loop driver and has no rate; found rate={load.rate}. Omit the rate, or use the "
            "driver open-loop."
        )
    elif not 1 <= load.users <= load.requests:
        raise UsageError(
            f"Expected at least 1 user and at least 1 request per user; found users={load.users}, "
            f"requests={load.requests}."
        )
    if load.requests < 1 or load.warm_up < 0:
        raise UsageError(
            f"Expected requests of at least 1 and warm_up of at least 0; found requests={load.requests}, "
            f"warm_up={load.warm_up}."
        )
    if not load.messages or not load.customers:
        raise UsageError(
            f"Expected at least 1 message and 1 customer; found {len(load.messages)} messages and "
            f"{len(load.customers)} customers."
        )
    if not 0 <= load.wait_s[0] <= load.wait_s[1]:
        raise UsageError(f"Expected wait_s as (shortest, longest) in seconds; found {load.wait_s}.")
    if not 0 < load.timeout_s < math.inf:
        raise UsageError(
            f"Expected a timeout above 0 s; found {load.timeout_s}. Set --timeout (in Python timeout_s=30)."
        )


def _check_rate(load: Load) -> None:
    if load.rate is None or not 0 < load.rate <= MAX_RATE:
        raise UsageError(
            f"An open loop needs a rate above 0 and up to {MAX_RATE:,} requests per second; found {load.rate}. Set "
            "--rate (in Python rate=50)."
        )
    if load.arrivals not in get_args(Arrivals):
        raise UsageError(f"Unknown arrivals {load.arrivals!r}. Expected one of: {', '.join(get_args(Arrivals))}.")
