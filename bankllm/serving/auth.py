"""Authentication: verify the bearer token of a request and return its customer id.

A token is a JSON Web Token (RFC 7519) whose `sub` claim is the customer id, signed with a shared secret (HS256,
`BANKLLM_JWT_SECRET`) or by an identity provider that publishes its keys at `BANKLLM_JWKS_URL` (RS256, ES256). Without
either (development only), requests need no token and the server listens only on a loopback address. The checks follow
RFC 8725.
"""

import contextlib
import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import jwt
from cachetools import TTLCache
from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from bankllm.errors import UsageError
from bankllm.settings import Settings
from bankllm.util.processes import is_loopback

MIN_SECRET_BYTES = 32
"""A shorter secret can be found by brute force (RFC 7518, section 3.2)."""
LEEWAY_S = 30
"""Accepted difference in seconds between the clocks of the server and of the identity provider."""
MAX_TOKEN_CHARACTERS = 8192
VERIFIED_S, VERIFIED_TOKENS = 60, 1024
"""How long, and for how many tokens, a verified signature is remembered. Checking it again takes 0.3 ms."""
TOKEN_FORMAT = (
    "Send a JSON Web Token in the header Authorization: Bearer <token>. Its sub claim must be the customer id, and its "
    "exp claim must be a time in the future."
)


def auth_enabled(settings: Settings) -> bool:
    return bool(settings.jwt_secret or settings.jwks_url)


def check_auth_settings(settings: Settings, host: str = "127.0.0.1") -> None:
    """Raise `UsageError` for both ways of authentication, a short secret, or no authentication that would be needed.

    Authentication is needed outside development, and for a `host` that is not a loopback address.
    """
    if settings.jwt_secret and settings.jwks_url:
        raise UsageError("BANKLLM_JWT_SECRET and BANKLLM_JWKS_URL are both set. Expected only one. Unset the other.")
    if settings.jwt_secret and (size := len(_secret(settings).encode())) < MIN_SECRET_BYTES:
        raise UsageError(
            f"BANKLLM_JWT_SECRET has {size} bytes, expected at least {MIN_SECRET_BYTES}. Create one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if auth_enabled(settings):
        return
    if settings.environment != "development":
        raise UsageError(
            f"ENVIRONMENT={settings.environment} requires authentication, but neither BANKLLM_JWT_SECRET nor "
            "BANKLLM_JWKS_URL is set. Without authentication anyone could read the accounts. Set one of them, or set "
            "BANKLLM_ENVIRONMENT=development to run the demo."
        )
    if not is_loopback(host):
        raise UsageError(
            f"Without authentication the server listens only on a loopback address such as 127.0.0.1, not on {host}. "
            "Set BANKLLM_JWT_SECRET or BANKLLM_JWKS_URL, or omit --host."
        )


def customer_of_token(settings: Settings) -> Callable[..., Awaitable[str | None]]:
    """Return a FastAPI dependency that verifies the bearer token and returns its customer id.

    The dependency returns None without authentication. It raises `HTTPException`: 401 for a token that is missing or
    not valid, 403 for a remote client of a server without authentication, 503 if the identity provider is unavailable.
    """
    bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description=TOKEN_FORMAT)
    provider = jwt.PyJWKClient(settings.jwks_url, timeout=5) if settings.jwks_url else None
    verified: TTLCache[str, tuple[str, int]] = TTLCache(VERIFIED_TOKENS, VERIFIED_S)

    async def customer(
        request: Request, authorization: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
    ) -> str | None:
        if not auth_enabled(settings):
            _require_loopback(request)
            return None
        if authorization is None:
            raise HTTPException(401, f"The token is missing. {TOKEN_FORMAT}", {"WWW-Authenticate": "Bearer"})
        token = authorization.credentials
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _rejected("it is too long")
        owner, expires_s = verified.get(token, ("", 0))
        if time.time() < expires_s + LEEWAY_S:
            return owner
        try:
            # In a thread, because it may send a request to the identity provider.
            key = await run_in_threadpool(provider.get_signing_key_from_jwt, token) if provider else _secret(settings)
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256", "ES256"] if provider else ["HS256"],
                audience=settings.jwt_audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub"], "verify_aud": settings.jwt_audience is not None},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise HTTPException(
                503, "The identity provider is unavailable. Please try again later.", {"Retry-After": "5"}
            ) from error
        except jwt.ExpiredSignatureError as error:
            raise _rejected("it has expired") from error
        except jwt.PyJWTError as error:  # a more exact reason could help an attacker to forge a token
            raise _rejected("it is malformed, or not signed as this server expects") from error
        verified[token] = (str(claims["sub"]), int(claims["exp"]))
        return str(claims["sub"])

    return customer


def require_same_customer(customer: str | None, requested: str) -> None:
    """Raise `HTTPException` 403 if the token's customer is not the requested one, whether that one exists or not."""
    if customer is not None and customer != requested:
        raise HTTPException(403, "The token does not give access to that customer.")


def _secret(settings: Settings) -> str:
    return settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""


def _require_loopback(request: Request) -> None:
    """Protect a server without authentication that was started on a public address, e.g. by `uvicorn --host`."""
    address = (request.scope.get("server") or ("",))[0]
    with contextlib.suppress(ValueError):  # a socket path or a name, which is not reachable from other machines
        if not ipaddress.ip_address(address).is_loopback:
            raise HTTPException(
                403,
                "Authentication is not configured, so this server accepts only requests from its own machine. Set "
                "BANKLLM_JWT_SECRET or BANKLLM_JWKS_URL and restart the server.",
            )


def _rejected(reason: str) -> HTTPException:
    return HTTPException(
        401, f"The token was rejected: {reason}. {TOKEN_FORMAT}", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
