"""The hand-over route: only for tokens with the scope, and absent without tokens."""

from datetime import date

from fastapi.testclient import TestClient

from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.engine import ChatEngine
from bankllm.assistant.handover import HandOverDesk
from bankllm.serving.app import create_app
from bankllm.settings import Settings
from tests.support.chat import LOCAL, assert_problem
from tests.support.tokens import AUDIENCE, SECRET, bearer, token


def test_route_needs_the_scope_and_is_absent_without_tokens(engine: ChatEngine, bank: SQLiteBank) -> None:
    engine.bank.close()
    engine.bank = bank
    settings = Settings(jwt_secret=SECRET, jwt_audience=AUDIENCE, today=date(2026, 11, 29))
    engine.handovers = HandOverDesk(bank, settings)
    handover_id = engine.handovers.offer("CUST001", "talk", ["My card is stuck"])
    path = f"/api/v1/handovers/{handover_id}"
    with TestClient(create_app(engine, settings)) as client:
        agent = bearer(token(sub="AGENT7", scope="handover:read"))
        assert client.get(path, headers=agent).json()["asked"] == ["My card is stuck"]
        assert_problem(client.get(path, headers=bearer(token())), 403)
        assert_problem(client.get(path), 401)
        assert_problem(client.get(f"/api/v1/handovers/{'a' * 32}", headers=agent), 404)
        assert_problem(client.get("/api/v1/handovers/1", headers=agent), 422)
    with TestClient(create_app(engine, Settings()), LOCAL) as client:
        assert_problem(client.get(path), 404)
        assert path.rpartition("/")[0] not in str(client.get("/openapi.json").json()["paths"])
