"""The bank routes: anyone with the customer's token can compute an answer, and nobody else reads a row."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import TransactionQuery
from bankllm.assistant.engine import ChatEngine
from bankllm.serving.app import create_app
from bankllm.settings import Settings
from tests.support.chat import LOCAL, assert_problem
from tests.support.tokens import AUDIENCE, SECRET, bearer, token

PATHS = ("accounts", "transactions", "cards", "payees", "standing-orders")
OWN = "/api/v1/customers/CUST001"


@pytest.fixture
def engine(engine: ChatEngine, bank: SQLiteBank) -> ChatEngine:
    """An engine whose ledger ends on a fixed day."""
    engine.bank.close()
    engine.bank = bank
    return engine


@pytest.fixture
def client(engine: ChatEngine) -> Any:
    with TestClient(create_app(engine, Settings()), LOCAL) as made:
        yield made


def test_the_rows_add_up_to_the_balances_and_the_sums(client: TestClient, engine: ChatEngine) -> None:
    accounts = client.get(f"{OWN}/accounts").json()
    assert [account["balance_minor"] for account in accounts] == [490760, 283383]
    for account in accounts:
        rows = client.get(f"{OWN}/transactions", params={"account_id": account["account_id"]}).json()
        pending = [row["amount_minor"] for row in rows if row["status"] == "pending"]
        assert sum(pending) == account["pending_minor"]
    october = {"from": "2026-10-01", "to": "2026-10-31"}
    rows = client.get(f"{OWN}/transactions", params=october | {"category": "eating out"}).json()
    assert {row["category"] for row in rows} <= {"coffee", "pubs", "restaurants", "takeaways"}
    query = TransactionQuery(category="eating out", date_from="2026-10-01", date_to="2026-10-31")
    assert [row["amount_minor"] for row in rows] == [t.amount_minor for t in engine.bank.transactions("CUST001", query)]
    tesco = client.get(f"{OWN}/transactions", params=october | {"merchant": "tesco"}).json()
    assert {row["counterparty"] for row in tesco} == {"Tesco"}
    assert client.get(f"{OWN}/transactions", params={"merchant": "' OR 1=1 --"}).json() == []


def test_lists_are_those_of_the_bank(client: TestClient, engine: ChatEngine) -> None:
    for path, name in (("cards", "card_id"), ("payees", "payee_id"), ("standing-orders", "order_id")):
        field = path.replace("-", "_")
        rows = client.get(f"{OWN}/{path}").json()
        expected = getattr(engine.bank, field)("CUST001")
        assert [row[name] for row in rows] == [getattr(row, name) for row in expected]
        assert rows


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"from": "2026-02-31"}, ["query.from", "day value is outside"]),
        ({"from": "2026-11-01", "to": "2026-10-01"}, ["first day is not after its last"]),
        ({"to": "yesterday"}, ["query.to"]),
        ({"merchant": "x" * 201}, ["query.merchant"]),
    ],
)
def test_a_wrong_condition_is_a_problem(client: TestClient, parameters: dict[str, str], words: list[str]) -> None:
    assert_problem(client.get(f"{OWN}/transactions", params=parameters), 422, *words)


@pytest.mark.parametrize("path", PATHS)
def test_only_the_customer_reads_them(client: TestClient, engine: ChatEngine, path: str) -> None:
    assert_problem(client.get(f"/api/v1/customers/CUST999/{path}"), 404, "no customer with this id")
    guarded = Settings(jwt_secret=SECRET, jwt_audience=AUDIENCE)
    with TestClient(create_app(engine, guarded)) as checked:
        assert_problem(checked.get(f"{OWN}/{path}"), 401)
        assert checked.get(f"{OWN}/{path}", headers=bearer(token())).status_code == 200
        for other in ("CUST002", "CUST999"):
            assert_problem(checked.get(f"/api/v1/customers/{other}/{path}", headers=bearer(token())), 403)
