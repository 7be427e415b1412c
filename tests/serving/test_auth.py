"""Authentication: which tokens are accepted, which are rejected, and that a rejection reveals nothing."""

import base64
import json
import threading
import time
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.testclient import TestClient

from bankllm.errors import UsageError
from bankllm.serving.app import create_app
from bankllm.serving.auth import MAX_TOKEN_CHARACTERS, MIN_SECRET_BYTES, check_auth_settings
from bankllm.serving.server import serve
from bankllm.settings import Settings
from tests.support.chat import BALANCE, assert_problem
from tests.support.tokens import AUDIENCE, SECRET, bearer, token

GUARDED = Settings(ENVIRONMENT="production", jwt_secret=SECRET, jwt_audience=AUDIENCE, audit_key=SECRET)
MEMORY = "/api/v1/customers/CUST001/memory"


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine, GUARDED)) as made:
        yield made


def test_own_token_is_accepted_by_every_route_and_health_needs_no_token(client):
    mine = bearer(token())
    assert client.post("/api/v1/chat", json=BALANCE, headers=mine).status_code == 200
    assert len(client.get(MEMORY, headers=mine).json()["messages"]) == 1
    assert client.delete(MEMORY, headers=mine).status_code == 200
    assert client.get(MEMORY.replace("CUST001", "CUST002"), headers=mine).status_code == 403
    assert client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_a_token_that_was_accepted_is_rejected_when_it_expires(client, monkeypatch):
    now = time.time()
    short = bearer(token(exp=now + 60))
    assert [client.get(MEMORY, headers=short).status_code for _ in range(2)] == [200, 200]
    monkeypatch.setattr("bankllm.serving.auth.time.time", lambda: now + 91)  # 60 s and the leeway have passed
    monkeypatch.setattr("jwt.api_jwt.datetime", SimpleNamespace(now=lambda tz: datetime.fromtimestamp(now + 91, tz)))
    assert "it has expired" in client.get(MEMORY, headers=short).json()["detail"]


def signed(header, claims, signature=b"x"):
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


CLAIMS = {"sub": "CUST001", "exp": 4e9, "aud": AUDIENCE}
TOKENS = {
    "expired": token(exp=time.time() - 3600),
    "not yet": token(nbf=time.time() + 3600),
    "no exp": token(exp=None),
    "no sub": token(sub=None),
    "HS512": token(algorithm="HS512"),
    "unsigned": signed({"alg": "none", "typ": "JWT"}, CLAIMS, b""),
    "alg None": signed({"alg": "None"}, CLAIMS, b""),
    "no alg": signed({}, CLAIMS),
    "RS256": signed({"alg": "RS256"}, CLAIMS),
    "another key": jwt.encode(CLAIMS, "another secret of more than thirty-two bytes", "HS256"),
    "changed": signed({"alg": "HS256"}, CLAIMS | {"sub": "CUST002"}),
    "own key": signed({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}, "jku": "http://x", "kid": "../../x"}, CLAIMS),
    "sub a list": signed({"alg": "HS256"}, CLAIMS | {"sub": ["CUST001", "CUST002"]}),
    "sub a number": jwt.api_jws.encode(json.dumps(CLAIMS | {"sub": 1}).encode(), SECRET, "HS256"),
    "no object": jwt.api_jws.encode(b"[]", SECRET, "HS256"),
    "exp a text": jwt.api_jws.encode(json.dumps(CLAIMS | {"exp": "soon"}).encode(), SECRET, "HS256"),
    "exp no number": jwt.api_jws.encode(b'{"sub": "CUST001", "exp": NaN}', SECRET, "HS256"),
    "exp too far": jwt.api_jws.encode(b'{"sub": "CUST001", "exp": 1e400}', SECRET, "HS256"),
    "deep": signed({"alg": "HS256", "x": json.loads("[" * 900 + "]" * 900)}, {}),
    "longest": "x" * MAX_TOKEN_CHARACTERS,
    "long": "x" * (MAX_TOKEN_CHARACTERS + 1),
}


@pytest.mark.parametrize("value", TOKENS.values(), ids=TOKENS)
def test_invalid_token_is_rejected(client, engine, value):
    reasons = {TOKENS["expired"]: "it has expired", TOKENS["long"]: "it is too long"}
    reason = reasons.get(value, "malformed, or not signed")
    chat, talk = "/api/v1/chat", {"messages": [{"role": "user", "content": "hi"}]}
    for path, body in ((chat, BALANCE), (f"{chat}/stream", BALANCE), ("/v1/chat/completions", talk)):
        response = client.post(path, json=body, headers=bearer(value))
        assert response.status_code == 401
        assert reason in response.json()["detail"]
        assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert "secret" not in response.text.lower()
    assert client.get(MEMORY, headers=bearer(value)).status_code == 401
    assert engine.memory.store.count() == 0


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic a2V5"}])
def test_missing_token_is_rejected(client, headers):
    response = client.post("/api/v1/chat", json=BALANCE, headers=headers)
    assert_problem(response, 401, "Authorization: Bearer")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("audience", ["shop", None, [], ["shop", "banks"]])
def test_a_token_for_another_service_is_rejected(client, audience):
    assert client.get(MEMORY, headers=bearer(token(aud=["shop", AUDIENCE]))).status_code == 200
    assert client.get(MEMORY, headers=bearer(token(aud=audience))).status_code == 401


@pytest.fixture
def provider(tmp_path):
    """An identity provider on loopback: yields its private key and the URL of its public keys."""
    private = rsa.generate_private_key(65537, 2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    (tmp_path / "jwks").write_text(json.dumps({"keys": [public | {"kid": "one", "use": "sig", "alg": "RS256"}]}))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield private, f"http://127.0.0.1:{server.server_address[1]}/jwks"
        server.shutdown()


def test_tokens_of_an_identity_provider(engine, provider):
    private, url = provider
    claims = {"sub": "CUST001", "exp": time.time() + 60, "aud": AUDIENCE}
    with TestClient(create_app(engine, Settings(jwks_url=url, jwt_audience=AUDIENCE))) as client:
        mine = bearer(jwt.encode(claims, private, "RS256", headers={"kid": "one"}))
        assert client.get(MEMORY, headers=mine).status_code == 200
        other = bearer(jwt.encode(claims, private, "RS256", headers={"kid": "two"}))
        assert client.get(MEMORY, headers=other).status_code == 401
        # A token signed with the shared secret must not be accepted.
        assert client.get(MEMORY, headers=bearer(token())).status_code == 401


def test_unavailable_identity_provider_gives_503(engine):
    with TestClient(create_app(engine, Settings(jwks_url="http://127.0.0.1:9/jwks", jwt_audience=AUDIENCE))) as client:
        private = rsa.generate_private_key(65537, 2048)
        mine = bearer(jwt.encode({"sub": "CUST001"}, private, "RS256", headers={"kid": "one"}))
        response = client.get(MEMORY, headers=mine)
        assert_problem(response, 503, "identity provider is unavailable")
        assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("settings", "host", "message"),
    [
        (Settings(ENVIRONMENT="production"), "127.0.0.1", "neither BANKLLM_JWT_SECRET nor BANKLLM_JWKS_URL is set"),
        (Settings(ENVIRONMENT="staging"), "127.0.0.1", "ENVIRONMENT=staging requires authentication"),
        (Settings(), "0.0.0.0", "only on a loopback address such as 127.0.0.1, not on 0.0.0.0"),
        (Settings(), "bank.example", "only on a loopback address such as 127.0.0.1, not on bank.example"),
        (Settings(jwt_secret="short"), "127.0.0.1", "has 5 bytes, expected at least 32"),
        (Settings(jwt_secret=SECRET, jwks_url="https://id.example/jwks"), "127.0.0.1", "are both set"),
        (Settings(jwt_secret=SECRET), "127.0.0.1", "BANKLLM_JWT_AUDIENCE is not set"),
    ],
)
def test_server_without_sufficient_authentication_does_not_start(settings, host, message):
    with pytest.raises(UsageError, match=message) as caught:
        serve(host, 0, settings)
    assert "short" not in str(caught.value)


def test_demo_without_authentication_is_allowed_on_loopback():
    for host in ("127.0.0.1", "::1", "localhost"):
        check_auth_settings(Settings(), host)
    check_auth_settings(GUARDED, "0.0.0.0")
    check_auth_settings(Settings(jwt_secret="k" * MIN_SECRET_BYTES, jwt_audience=AUDIENCE), "0.0.0.0")
