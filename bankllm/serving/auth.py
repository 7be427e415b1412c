"""Authentication: verify the bearer token of a request and return its customer id and scopes.

A token is a JSON Web Token (RFC 7519) whose `sub` claim is the customer id and whose `aud` claim names this server,
signed with a shared secret (HS256, `BANKLLM_JWT_SECRET`) or by an identity provider that publishes its keys at
`BANKLLM_JWKS_URL` (RS256, ES256). Its `scope` claim (RFC 8693) lists what it permits beyond reading. Without either
setting (development only), requests need no token; `local_requests` then restricts them. The checks follow RFC 8725.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import jwt
from cachetools import TTLCache
from fastapi import HTTPException, Security
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
ACTIONS_SCOPE = "actions"
"""Scope of a token that may propose, confirm and cancel actions."""
TOKEN_FORMAT = (
    "Send a JSON Web Token in the header Authorization: Bearer <token>. Its sub claim must be the customer id, its aud "
    "claim must name this server, and its exp claim must be a time in the future."
)


class AccessToken(NamedTuple):
    """What a request may do. Without authentication (the demo) `customer_id` is None and every scope is given."""

    customer_id: str | None
    scopes: frozenset[str] | None
    expires_s: int = 0

    def permits(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes

    def require(self, scope: str) -> None:
        """Raise `HTTPException` 403 if the token does not have this scope."""
        if not self.permits(scope):
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            missing = f"The token does not have the scope {scope}. Sign in again with a token that has it."
            raise HTTPException(403, missing, {"WWW-Authenticate": challenge})


ReadToken = Callable[..., Awaitable[AccessToken]]
"""A FastAPI dependency that verifies the request's token."""


def auth_enabled(settings: Settings) -> bool:
    return bool(settings.jwt_secret or settings.jwks_url)


def check_auth_settings(settings: Settings, host: str = "127.0.0.1") -> None:
    """Raise `UsageError` for both ways of authentication, a short secret, no audience, or no authentication where it
    is needed: outside development, and for a `host` that is not a loopback address.
    """
    if settings.jwt_secret and settings.jwks_url:
        raise UsageError("BANKLLM_JWT_SECRET and BANKLLM_JWKS_URL are both set. Expected only one. Unset the other.")
    if settings.jwt_secret and (size := len(settings.jwt_secret.get_secret_value().encode())) < MIN_SECRET_BYTES:
        raise UsageError(
            f"BANKLLM_JWT_SECRET has {size} bytes, expected at least {MIN_SECRET_BYTES}. Create one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if auth_enabled(settings):
        if not settings.jwt_audience:
            raise UsageError(
                "BANKLLM_JWT_AUDIENCE is not set. Without it, a token that was issued for another service could move "
                "money here. Set it to the aud claim of this server's tokens."
            )
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


def token_reader(settings: Settings) -> ReadToken:
    """Return a FastAPI dependency that verifies the bearer token.

    It raises `HTTPException`: 401 for a token that is missing or not valid, 503 if the identity provider cannot be
    reached.
    """
    bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description=TOKEN_FORMAT)
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""
    provider = jwt.PyJWKClient(settings.jwks_url, timeout=5) if settings.jwks_url else None
    verified: TTLCache[str, AccessToken] = TTLCache(VERIFIED_TOKENS, VERIFIED_S)

    async def read(authorization: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> AccessToken:
        if not auth_enabled(settings):
            return AccessToken(None, None)
        if authorization is None:
            raise HTTPException(401, f"The token is missing. {TOKEN_FORMAT}", {"WWW-Authenticate": "Bearer"})
        text = authorization.credentials
        if len(text) > MAX_TOKEN_CHARACTERS:
            raise _rejected("it is too long")
        known = verified.get(text)
        if known and time.time() < known.expires_s + LEEWAY_S:
            return known
        try:
            # In a thread, because it may send a request to the identity provider.
            key = await run_in_threadpool(provider.get_signing_key_from_jwt, text) if provider else secret
            claims = jwt.decode(
                text,
                key,
                algorithms=["RS256", "ES256"] if provider else ["HS256"],
                audience=settings.jwt_audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub", "aud"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise HTTPException(
                503, "The identity provider is unavailable. Please try again later.", {"Retry-After": "5"}
            ) from error
        except jwt.ExpiredSignatureError as error:
            raise _rejected("it has expired") from error
        except jwt.PyJWTError as error:  # a more exact reason could help an attacker to forge a token
            raise _rejected("it is malformed, or not signed as this server expects") from error
        found = verified[text] = AccessToken(str(claims["sub"]), _scopes(claims), int(claims["exp"]))
        return found

    return read


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """The scopes of `scope`, a text with spaces, or of `scp`, a list as some providers write it."""
    found = claims.get("scope") or claims.get("scp") or ()
    return frozenset(found.split() if isinstance(found, str) else map(str, found if isinstance(found, list) else ()))


def _rejected(reason: str) -> HTTPException:
    return HTTPException(
        401, f"The token was rejected: {reason}. {TOKEN_FORMAT}", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
