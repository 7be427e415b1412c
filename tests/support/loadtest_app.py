"""A fake `bankllm serve` with the same options and routes, for the tests of `bankllm.loadtest`.

The chat message `fail` is answered with 503, `hang` with a reply after 3 s, and `ask` with a question. A stream sends
each word of the message; that of `replace this` has a fallback, and that of `break` ends with an error. `--behave
crash` ends the server at the start; `--behave "never ready"` keeps `/health/ready` at 503. `/seen` returns the requests
received.
"""

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from bankllm.loadtest.load import COLUMNS, LoadResult

APP = (sys.executable, __file__)
"""The command, as `ServerProcess(program=...)` expects it."""


ARGUMENTS: dict[str, Any] = {"messages": ["hi"], "customers": ["CUST001"]}
MIXED: dict[str, Any] = {"messages": ["hi", "hello", "fail"], "customers": ["CUST001", "CUST002"]}
MIXED |= {"tokens": {"CUST001": "s3cret1", "CUST002": "s3cret2"}}
"""Arguments of a load with two customers, each with their token, whose message `fail` fails."""


REPLY: dict[str, Any] = {"understood_by": "rules", "responder": "smollm2", "understanding_fallback": None}
REPLY |= {"fallback": None, "question": None, "handover_id": None, "intent": "greeting", "latency_ms": {"encode": 1.5}}
"""The reply of `/api/v1/chat`, besides its text."""


def paid(day: str, minor: int, who: str = "Tesco", kind: str = "card", **more: Any) -> dict[str, Any]:
    """A transaction of the API."""
    row = {"booked": day, "amount_minor": minor, "currency": "GBP", "counterparty": who, "category": "groceries"}
    return row | {"kind": kind, "status": "booked", "original_minor": None, "original_currency": None, **more}


ACCOUNT = {"name": "Current account", "currency": "GBP", "balance_minor": 120450, "pending_minor": -450}
LEDGER: dict[str, list[dict[str, Any]]] = {
    "accounts": [ACCOUNT | {"overdraft_minor": 50000}],
    "transactions": [
        paid("2026-11-02", -999),  # this month is not complete
        paid("2026-10-30", -1250, original_minor=-1400, original_currency="EUR"),
        paid("2026-10-20", 250, kind="refund"),
        paid("2026-10-03", -1000),
        paid("2026-10-01", -90000, "Landlord", "standing_order", category="rent"),
        paid("2026-10-01", -20000, "", "own_transfer", category="own transfers"),
    ],
}
"""Rows of a customer's ledger by the last part of their address."""


def seen(url: str) -> list[dict[str, str]]:
    """Return the requests of one load that the server received, without the health checks before and after it."""
    return httpx.get(f"{url}/seen", trust_env=False, timeout=60).json()[1:-1]


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

    async def answer(request: Request, kind: str) -> tuple[int, dict[str, Any]]:
        body = await request.json()
        seen.append({"kind": kind, "authorization": request.headers.get("authorization", ""), **body})
        if body["message"] == "hang":
            await asyncio.sleep(3)
        reply = REPLY | {"reply": body["message"], "question": {"slot": "amount"} if body["message"] == "ask" else None}
        if body["message"].startswith("replace"):
            reply |= {"reply": "another text", "responder": "template", "fallback": "not grounded"}
        return 503 if body["message"] == "fail" else 200, reply

    @app.post("/api/v1/chat")
    async def chat(request: Request, response: Response) -> dict[str, Any]:
        response.status_code, reply = await answer(request, "chat")
        return reply

    @app.post("/api/v1/chat/stream")
    async def stream(request: Request) -> Response:
        status, reply = await answer(request, "stream")
        if status != 200:
            return Response(status_code=status)

        async def events() -> AsyncIterator[str]:
            for word in re.findall(r"\S+\s*", str((await request.json())["message"])):
                yield f"event: token\ndata: {json.dumps({'text': word})}\n\n"
                await asyncio.sleep(0.002)
            broken = reply["reply"] == "break"
            kind, data = ("error", {"status": 500}) if broken else ("reply", reply)
            yield f"event: {kind}\ndata: {json.dumps(data)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.delete("/api/v1/customers/{customer_id}/memory")
    async def forget(customer_id: str, response: Response) -> None:
        seen.append({"kind": "delete", "customer_id": customer_id})
        response.status_code = 404 if customer_id == "CUST404" else 200

    @app.get("/api/v1/customers/{customer_id}/{what}")
    async def ledger(customer_id: str, what: str) -> list[dict[str, Any]]:
        return LEDGER[what]

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
