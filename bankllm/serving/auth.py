"""Whose request is it? In production the bearer token alone says so: a JSON Web Token whose `sub` is the customer.

Tokens are signed with a shared secret (HS256, `BANKLLM_JWT_SECRET`) or by an identity provider whose public keys lie
at `BANKLLM_JWKS_URL` (RS256, ES256). Without either, in development, the demo customers need no token, and the
server listens on loopback alone. RFC 7519, and RFC 8725 on how tokens are got wrong.
"""

import contextlib
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import jwt
from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from bankllm.errors import UsageError
from bankllm.settings import Settings
from bankllm.util.processes import is_loopback

SHORTEST_SECRET = 32
"""Bytes: a shorter one can be found by trying (RFC 7518, section 3.2)."""
LEEWAY_S = 30
"""By how much the clocks of server and identity provider may differ."""
LONGEST_TOKEN = 8192
WANTED = "Send a JSON Web Token as Authorization: Bearer …, whose sub is the customer and whose exp lies ahead."


def check_identity(settings: Settings, host: str = "127.0.0.1") -> None:
    """Raises `UsageError` where customers' data would be open to people who have not said who they are."""
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
    if secret and settings.jwks_url:
        raise UsageError("BANKLLM_JWT_SECRET and BANKLLM_JWKS_URL are both set. Expected one: unset the other.")
    if secret is not None and len(secret.encode()) < SHORTEST_SECRET:
        raise UsageError(
            f"BANKLLM_JWT_SECRET has {len(secret.encode())} bytes, expected at least {SHORTEST_SECRET}. Make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    if auth_enabled(settings):
        return
    if settings.environment == "production":
        raise UsageError(
            "ENVIRONMENT=production needs a way to know customers by their tokens, and neither BANKLLM_JWT_SECRET nor "
            "BANKLLM_JWKS_URL is set: anyone could read the accounts. Set one of them, or ENVIRONMENT=development for "
            "the demo."
        )
    if not is_loopback(host):
        raise UsageError(
            f"Without tokens the server listens on this machine's loopback alone, not on {host}. Set "
            "BANKLLM_JWT_SECRET or BANKLLM_JWKS_URL, or leave --host out."
        )


def customer_of_token(settings: Settings) -> Callable[..., Awaitable[str | None]]:
    """A dependency that gives the customer whom the token names; None where the settings ask for no token.

    401 for a token that is absent, expired, badly signed or signed in another way than the settings say.
    """
    bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", description=WANTED)
    key, algorithms = _keys(settings)

    async def customer(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]
    ) -> str | None:
        if not auth_enabled(settings):
            _check_reached_by_loopback(request)
            return None
        if given is None:
            raise HTTPException(401, WANTED, {"WWW-Authenticate": "Bearer"})
        if len(given.credentials) > LONGEST_TOKEN:
            raise _refused("it is too long")
        try:
            claims = jwt.decode(
                given.credentials,
                await key(given.credentials),
                algorithms=algorithms,
                audience=settings.jwt_audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub"], "verify_aud": settings.jwt_audience is not None},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise HTTPException(
                503, "The identity provider does not answer. Try again.", {"Retry-After": "5"}
            ) from error
        except jwt.ExpiredSignatureError as error:
            raise _refused("it has expired") from error
        except jwt.PyJWTError as error:  # the reason could help to forge one
            raise _refused("it is malformed, or not signed as this server expects") from error
        return str(claims["sub"])

    return customer


def require_same_customer(customer: str | None, wanted: str) -> None:
    """403 where the token is of another customer than the request; alike for one that does not exist."""
    if customer is not None and customer != wanted:
        raise HTTPException(403, "The token does not give access to that customer.")


def _keys(settings: Settings) -> tuple[Callable[[str], Awaitable[Any]], list[str]]:
    """From a token to the key that must have signed it, and how."""
    if settings.jwks_url:
        provider = jwt.PyJWKClient(settings.jwks_url, timeout=5)

        async def published(token: str) -> Any:
            # It may have to ask the identity provider, over the network.
            return (await run_in_threadpool(provider.get_signing_key_from_jwt, token)).key

        return published, ["RS256", "ES256"]
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""

    async def shared(token: str) -> Any:
        return secret

    return shared, ["HS256"]


def _check_reached_by_loopback(request: Request) -> None:
    """403 where a server without tokens was made to listen to others (by `uvicorn --host`, say)."""
    address = (request.scope.get("server") or ("",))[0]
    with contextlib.suppress(ValueError):  # a socket's path, or a name: not an address that others reach
        if not ipaddress.ip_address(address).is_loopback:
            raise HTTPException(
                403, "Without tokens this server answers its own machine alone. Set BANKLLM_JWT_SECRET."
            )


def auth_enabled(settings: Settings) -> bool:
    """Whether customers come with tokens."""
    return bool(settings.jwt_secret or settings.jwks_url)


def _refused(why: str) -> HTTPException:
    return HTTPException(
        401, f"The token was refused: {why}. {WANTED}", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
