"""JSON web tokens for tests."""

import base64
import json
import time

import jwt

SECRET = "a secret of more than thirty-two bytes"


def token(key=SECRET, algorithm="HS256", **claims):
    wanted = {"sub": "CUST001", "exp": time.time() + 60} | claims
    return jwt.encode({name: value for name, value in wanted.items() if value is not None}, key, algorithm)


def bearer(value):
    return {"Authorization": f"Bearer {value}"}


def unsigned():
    parts = ({"alg": "none", "typ": "JWT"}, {"sub": "CUST001", "exp": int(time.time()) + 60})
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."
