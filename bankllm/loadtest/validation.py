"""What a load may ask for, checked before anything starts: `plan` gives a `Load`, or says what does not fit."""

import math
from collections.abc import Sequence
from typing import Any, get_args
from urllib.parse import urlsplit

from bankllm.errors import UsageError
from bankllm.loadtest.load import Arrivals, Driver, Load, Mix
from bankllm.util.processes import is_loopback

OWN_MIX: dict[Driver, Mix] = {"ab": "chat", "locust": "mix", "open-loop": "chat"}
MOST_RATE = 20_000
"""Far above what one generator process holds on any machine."""


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
    """The load that `runner.run_load` was asked for; `rest` are fields of `Load`. Raises `UsageError`."""
    check_address(url, allow_remote)
    if driver not in get_args(Driver):
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(get_args(Driver))}.")
    mix = kind or OWN_MIX[driver]
    if driver == "open-loop":
        rest["users"] = 0
    load = Load(url=url.rstrip("/"), messages=messages, customers=customers, mix=mix, **rest)
    _check(load, driver)
    return load


def check_address(url: str, allow_remote: bool) -> None:
    """Raise `UsageError` unless `url` is an HTTP address, of this machine where no other is allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an HTTP address. Expected something like http://127.0.0.1:8000.")
    if not allow_remote and not is_loopback(parts.hostname):
        raise UsageError(
            f"{parts.hostname} is not this machine. Load goes to loopback unless you say that the host is yours "
            "(--i-own-this-host, allow_remote=True)."
        )


def _check(load: Load, driver: Driver) -> None:
    if load.mix not in get_args(Mix):
        raise UsageError(f"Unknown kind of load {load.mix!r}. Expected one of: {', '.join(get_args(Mix))}.")
    if driver == "ab" and load.mix == "mix":
        raise UsageError("ab asks one endpoint. Expected kind chat or health, or the driver locust or open-loop.")
    if driver == "open-loop":
        _check_rate(load)
    elif load.rate is not None:
        raise UsageError(f"{driver} is a closed loop: its users set the pace. Leave the rate out, or use open-loop.")
    elif not 1 <= load.users <= load.requests:
        raise UsageError(
            f"Expected at least one user and a request for each; found users={load.users}, requests={load.requests}."
        )
    if load.requests < 1 or load.warm_up < 0:
        raise UsageError(
            f"Expected a request or more and no fewer than 0 to warm up; found requests={load.requests}, "
            f"warm_up={load.warm_up}."
        )
    if not load.messages or not load.customers:
        raise UsageError(f"Expected messages and customers; found {len(load.messages)} and {len(load.customers)}.")
    if not 0 <= load.wait_s[0] <= load.wait_s[1]:
        raise UsageError(f"Expected wait_s as (shortest, longest) in seconds; found {load.wait_s}.")
    if not 0 < load.timeout_s < math.inf:
        raise UsageError(f"Expected a timeout_s above 0; found {load.timeout_s}.")


def _check_rate(load: Load) -> None:
    if load.rate is None or not 0 < load.rate <= MOST_RATE:
        raise UsageError(
            f"An open loop needs a rate above 0 and up to {MOST_RATE:,} requests a second; found {load.rate}."
        )
    if load.arrivals not in get_args(Arrivals):
        raise UsageError(f"Unknown arrivals {load.arrivals!r}. Expected one of: {', '.join(get_args(Arrivals))}.")
