"""A server without authentication answers only programs of its own machine, and no web page but its own.

Every program on the machine may use it, but a browser there also runs the pages of strangers. Such a page can send a
request to 127.0.0.1 (a cross-site form), or have its own name resolve to 127.0.0.1 (DNS rebinding). Hence three checks:
the address and the Host header are a loopback address or localhost, no proxy forwarded the request, and a request that
can change something comes from no page, or from the page of this server.
"""

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import Scope

from bankllm.util.processes import is_loopback

PROXY_HEADERS = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
SAFE_METHODS = frozenset({"GET", "HEAD"})
"""Methods that change nothing. A link on another site may lead to this server's page."""
OWN_SITE = frozenset({"none", "same-origin"})
ADVICE = "Set BANKLLM_JWT_SECRET or BANKLLM_JWKS_URL and restart the server, or send the request from its own machine"


def refuse_others(scope: Scope, headers: Headers) -> None:
    """Raise `HTTPException` 403 for a request from another machine, for another host, or from another web page."""
    address, host = (scope.get("server") or ("",))[0], headers.get("host", "")
    if _is_remote(address):  # e.g. of `uvicorn --host 0.0.0.0`
        raise _refusal("accepts only requests from its own machine")
    if not is_loopback(_name(host)):
        raise _refusal(f"answers to 127.0.0.1 and localhost, not to the host {host[:80]!r}")
    if found := sorted(PROXY_HEADERS & set(headers)):
        raise _refusal(f"answers no request that a proxy forwarded (header {found[0]})")
    # A browser sends Origin with each request to another origin, and with each that is not GET or HEAD.
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise _refusal(f"answers no web page of another origin ({origin[:80]!r})")
    if scope["method"] not in SAFE_METHODS and headers.get("sec-fetch-site", "none") not in OWN_SITE:
        raise _refusal("answers no web page of another site")


def _is_remote(address: str) -> bool:
    with suppress(ValueError):  # a socket path or a name, which is not reachable from other machines
        return not ipaddress.ip_address(address).is_loopback
    return False


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # brackets that do not match
        return ""


def _refusal(reason: str) -> HTTPException:
    return HTTPException(403, f"Authentication is not configured, so this server {reason}. {ADVICE}.")
