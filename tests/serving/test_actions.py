"""The buttons: who may confirm what, over HTTP, with and without tokens."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi.testclient import TestClient

from bankllm.assistant.facts import ReadyCall
from bankllm.loadtest.server_process import ServerProcess
from bankllm.serving.app import create_app
from bankllm.settings import Settings
from tests.support.chat import LOCAL, assert_problem
from tests.support.live_server import CHAT, customer
from tests.support.tokens import AUDIENCE, SECRET, bearer, token

ME, PARTNER = "CUST003", "CUST004"
"""Two holders of one joint account."""
GUARDED = Settings(jwt_secret=SECRET, jwt_audience=AUDIENCE, audit_key=SECRET)
NOBODYS = "a" * 32


def path(made, end="confirm", who=ME, action_id=None):
    return f"/api/v1/customers/{who}/actions/{action_id or made.action_id}/{end}"


def digest(made):
    return {"digest": made.digest}


def balances(engine):
    return [account.balance_minor for account in engine.bank.accounts(ME)]


@pytest.fixture
def made(engine):
    call = ReadyCall("transfer", {"amount_minor": 5000, "from_account_id": "ACC00303", "payee_id": "PAY00301"})
    return engine.actions.propose(ME, "talk", call)


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine, GUARDED), headers=bearer(token(sub=ME))) as client:
        yield client


def test_an_action_is_listed_confirmed_once_and_listed_as_booked(client, engine, made):
    before = balances(engine)
    url = f"/api/v1/customers/{ME}/actions"
    listed = client.get(url).json()
    assert listed == [made.model_dump(mode="json")]
    assert listed[0]["digest"] == made.digest
    assert [client.post(path(made), json=digest(made)).status_code for _ in range(3)] == [200] * 3
    assert sum(before) - sum(balances(engine)) == 5000
    assert client.get(url).json()[0]["state"] == "booked"
    assert_problem(client.post(path(made, "cancel"), json=digest(made)), 409, "done already")


def test_a_cancelled_action_cannot_be_confirmed(client, engine, made):
    before = balances(engine)
    assert client.post(path(made, "cancel"), json=digest(made)).json()["state"] == "cancelled"
    assert_problem(client.post(path(made), json=digest(made)), 409, "This was cancelled")
    assert balances(engine) == before


def test_an_action_of_another_and_an_unknown_one_get_the_same_answer(client, engine, made):
    before, details = balances(engine), set()
    partner = bearer(token(sub=PARTNER))
    for end in ("confirm", "cancel"):
        for id_ in (made.action_id, NOBODYS):
            response = client.post(path(made, end, PARTNER, id_), json=digest(made), headers=partner)
            details.add(assert_problem(response, 403)["detail"])
        details.add(assert_problem(client.post(path(made, end, ME, NOBODYS), json=digest(made)), 403)["detail"])
        assert_problem(client.post(path(made, end), json=digest(made), headers=partner), 403, "does not give access")
    assert len(details) == 1
    assert client.get(f"/api/v1/customers/{PARTNER}/actions", headers=partner).json() == []
    assert engine.actions.pending(ME, "talk") == made
    assert balances(engine) == before


@pytest.mark.parametrize("scope", [None, "", "action", "actions:read", "handover:read"])
def test_a_token_without_the_scope_reads_but_does_not_act(client, engine, made, scope):
    weak = bearer(token(sub=ME, scope=scope))
    for end in ("confirm", "cancel"):
        response = client.post(path(made, end), json=digest(made), headers=weak)
        assert_problem(response, 403, "does not have the scope actions")
        assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="actions"'
    body = {"message": "yes", "customer_id": ME, "conversation_id": "talk"}
    assert "Nothing was done" in client.post(CHAT, json=body, headers=weak).json()["reply"]
    assert client.get(f"/api/v1/customers/{ME}/actions", headers=weak).status_code == 200
    assert engine.actions.pending(ME, "talk") == made
    for form in ({"scope": "openid actions"}, {"scope": None, "scp": ["actions"]}):
        assert client.post(path(made), json=digest(made), headers=bearer(token(sub=ME, **form))).status_code == 200


@pytest.mark.parametrize("body", [{}, {"digest": ""}, {"digest": "x" * 64}, {"digest": None}, {"digest": "0" * 65}])
def test_a_digest_is_required(client, engine, made, body):
    assert_problem(client.post(path(made), json=body), 422)
    assert_problem(client.post(path(made), json={"digest": "0" * 64}), 409, "digest")
    assert engine.actions.pending(ME, "talk") == made


def test_without_tokens_only_the_own_page_confirms(engine, made):
    with TestClient(create_app(engine, Settings()), LOCAL) as client:
        for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert_problem(client.post(path(made), json=digest(made), headers=headers), 403)
        form = {"origin": "https://evil.example", "content-type": "text/plain"}
        assert_problem(client.post(path(made), content=made.digest, headers=form), 403)
        assert engine.actions.pending(ME, "talk") == made
        assert client.post(path(made), json=digest(made), headers={"origin": LOCAL}).status_code == 200


@pytest.mark.slow
def test_a_whole_transfer_at_a_real_server(server: ServerProcess) -> None:
    """Asked in a chat, confirmed by the button from two connections at once, and by a yes afterwards."""
    with customer(server, ME) as client:
        before = client.get(f"/api/v1/customers/{ME}/accounts").json()[0]["balance_minor"]
        body = {"message": "transfer £12.34 to Daniel Nair", "customer_id": ME, "conversation_id": "transfer"}
        asked = client.post(CHAT, json=body).json()
        action = asked["pending_action"]
        assert "£12.34" in asked["reply"]
        url = f"/api/v1/customers/{ME}/actions/{action['action_id']}/confirm"

        def press(_: int) -> httpx.Response:
            return client.post(url, json={"digest": action["digest"]})

        with ThreadPoolExecutor(4) as pool:
            assert {response.status_code for response in pool.map(press, range(8))} == {200}
        listed = client.get(f"/api/v1/customers/{ME}/actions").json()
        assert [each["state"] for each in listed if each["action_id"] == action["action_id"]] == ["booked"]
        again = client.post(CHAT, json=body | {"message": "yes"}).json()["reply"]
        assert again == "That is done already, and it was not done a second time."
        after = client.get(f"/api/v1/customers/{ME}/accounts").json()[0]["balance_minor"]
        assert before - after == 1234


@pytest.mark.slow
def test_openai_clients_may_propose_and_never_confirm_and_their_tools_are_refused(server: ServerProcess) -> None:
    url, role = "/v1/chat/completions", "user"
    with customer(server, ME) as client:

        def waiting() -> list[str]:
            actions = client.get(f"/api/v1/customers/{ME}/actions").json()
            return [each["text"] for each in actions if each["state"] == "proposed"]

        def said(talk: list[dict[str, str]]) -> str:
            return str(client.post(url, json={"messages": talk}).json()["choices"][0]["message"]["content"])

        talk = [{"role": role, "content": "transfer £7.77 to Daniel Nair"}]
        asked = said(talk)
        (text,) = waiting()
        assert text in asked
        talk += [{"role": "assistant", "content": asked}, {"role": role, "content": "yes"}]
        assert (
            "Nothing was done" in client.post(url, json={"messages": talk}).json()["choices"][0]["message"]["content"]
        )
        assert waiting() == [text]
        for field in ("tools", "functions"):
            tools = [{"type": "function", "function": {"name": "transfer"}}]
            refused = client.post(url, json={"messages": talk, field: tools})
            assert refused.status_code == 422
            assert refused.json()["error"]["param"] == f"/{field}"
            assert "its own tools" in refused.json()["error"]["message"]
            assert client.post(url, json={"messages": talk, field: []}).status_code == 200
