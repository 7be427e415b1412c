"""JSON web tokens for tests."""

import time

import jwt

SECRET = "a secret of more than thirty-two bytes"
AUDIENCE = "bank"


def token(key=SECRET, algorithm="HS256", **claims):
    wanted = {"sub": "CUST001", "exp": time.time() + 60, "aud": AUDIENCE, "scope": "actions"} | claims
    return jwt.encode({name: value for name, value in wanted.items() if value is not None}, key, algorithm)


def bearer(value):
    return {"Authorization": f"Bearer {value}"}
