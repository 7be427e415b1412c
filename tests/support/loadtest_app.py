"""A fake `bankllm serve` with the same options and routes, for the tests of `bankllm.loadtest`.

The chat message `fail` is answered with 503, and `hang` with a reply after 3 s. `--behave crash` ends the server at the
start; `--behave "never ready"` keeps `/health/ready` at 503. `/seen` returns the requests received.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

from bankllm.loadtest.load import COLUMNS, LoadResult

APP = (sys.executable, __file__)
"""The command, as `ServerProcess(program=...)` expects it."""


ARGUMENTS: dict[str, Any] = {"messages": ["hi"], "customers": ["CUST001"]}
MIXED: dict[str, Any] = {"messages": ["hi", "hello", "fail"], "customers": ["CUST001", "CUST002"]}
MIXED |= {"tokens": {"CUST001": "s3cret1", "CUST002": "s3cret2"}}
"""Arguments of a load with two customers, each with their token, whose message `fail` fails."""


def seen(url: str) -> list[dict[str, str]]:
    """Return the requests of one load that the server received, without the health checks before and after it."""
    return httpx.get(f"{url}/seen", trust_env=False).json()[1:-1]


def check_rows(result: LoadResult, arrived: list[dict[str, str]]) -> None:
    """Assert that a load of `MIXED` has one row per request that arrived, with its kind, status and error."""
    assert len(result.rows) == len(arrived) == result.load.total
    assert len(result.measured) == result.load.requests == result.summary()["requests"]
    assert all(list(row) == list(COLUMNS) for row in result.rows)
    chats = [call for call in arrived if call["kind"] == "chat"]
    assert sum(row["kind"] == "chat" for row in result.rows) == len(chats) > 10 < len(arrived) - len(chats)
    assert {call["message"] for call in chats} == set(MIXED["messages"])
    assert {(call["customer_id"], call["authorization"]) for call in chats} == {
        (customer, f"Bearer {token}") for customer, token in MIXED["tokens"].items()
    }
    failed = [row for row in result.rows if row["error"]]
    assert {(row["status"], row["error"]) for row in failed} == {(503, "HTTP 503")}
    assert len(failed) == sum(call["message"] == "fail" for call in chats)
    assert result.errors == {"HTTP 503": sum(row["phase"] != "warm_up" for row in failed)}


def create_app(ready: bool) -> FastAPI:
    app = FastAPI()
    seen: list[dict[str, str]] = []

    @app.get("/health")
    async def health() -> dict[str, str]:
        seen.append({"kind": "health"})
        return {"status": "healthy"}

    @app.get("/health/ready")
    async def readiness(response: Response) -> None:
        response.status_code = 200 if ready else 503

    @app.post("/api/v1/chat")
    async def chat(request: Request, response: Response) -> dict[str, str]:
        body = await request.json()
        seen.append({"kind": "chat", "authorization": request.headers.get("authorization", ""), **body})
        if body["message"] == "hang":
            await asyncio.sleep(3)
        response.status_code = 503 if body["message"] == "fail" else 200
        return {"reply": body["message"]}

    @app.get("/seen")
    async def everything_seen() -> list[dict[str, str]]:
        return seen

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--behave", default="well")
    options = parser.parse_args()
    print("options:", options.store, os.environ.get("BANKLLM_MARK"), flush=True)
    if options.behave == "crash":
        sys.exit("the memory is on fire")
    config = uvicorn.Config(
        create_app(options.behave != "never ready"), options.host, options.port, log_level="warning"
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
