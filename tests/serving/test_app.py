"""The HTTP application: routes, error responses, metrics, readiness and the OpenAPI description.

The classifier and the embedder are deterministic fakes; store, ledger and responder are real.
"""

import gzip
import json
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from bankllm import __version__
from bankllm.assistant.batcher import Overloaded
from bankllm.errors import LedgerError, StoreError
from bankllm.serving.app import create_app
from bankllm.settings import Settings
from bankllm.telemetry.metrics import ServerMetrics
from tests.support.chat import BALANCE, JSON, LOCAL, assert_problem


@pytest.fixture
def client(engine):
    with TestClient(create_app(engine, Settings()), LOCAL) as made:
        yield made


def test_health_has_exactly_three_fields(client):
    body = client.get("/health").json()
    assert set(body) == {"status", "timestamp", "version"}
    assert (body["status"], body["version"]) == ("healthy", __version__)
    stamp = datetime.fromisoformat(body["timestamp"])
    assert stamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)


def test_chat_answers_from_the_ledger(client, engine):
    response = client.post("/api/v1/chat", json=BALANCE | {"conversation_id": "talk-1"})
    body = response.json()
    assert response.status_code == 200
    assert "£4,907.60" in body["reply"]
    assert set(body) == {
        *("reply", "intent", "confidence", "sources", "responder", "fallback", "unavailable"),
        *("model", "conversation_id", "request_id", "latency_ms", "calls", "question", "pending_action", "handover_id"),
        *("understood_by", "understanding_fallback"),
    }
    assert (body["intent"], body["confidence"]) == ("account_balance", 0.9)
    assert body["sources"] == ["ledger:ACC00101", "ledger:ACC00102"]
    assert body["conversation_id"] == "talk-1"
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body["latency_ms"]) == {"queue", "tokenise", "encode", "classify", "retrieve", "respond", "total"}
    assert engine.memory.for_user("CUST001").export()[0]["assistant_response"] == body["reply"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"customer_id": "CUST001"}, ["/message", "required"]),
        ({"message": "hi"}, ["/customer_id", "required"]),
        (BALANCE | {"message": " \n "}, ["/message", "at least 1 character"]),
        (BALANCE | {"message": "\x1c"}, ["1 to 2000 characters"]),
        (BALANCE | {"message": "x" * 2001}, ["/message", "at most 2000 characters"]),
        (BALANCE | {"message": "\ud800"}, ["/message", "valid string"]),
        (BALANCE | {"customer_id": "x" * 129}, ["/customer_id", "at most 128"]),
        (BALANCE | {"conversation_id": "a b"}, ["/conversation_id", "match"]),
        ([1], ["expected a JSON object"]),
        (b"{nope", ["the body is not valid JSON", '"pointer": ""']),
    ],
)
def test_invalid_requests_are_rejected_with_the_reason(client, engine, body, words):
    content = body if isinstance(body, bytes) else json.dumps(body)
    assert_problem(client.post("/api/v1/chat", content=content, headers=JSON), 422, *words)
    assert engine.memory.store.count() == 0


CONTENT = json.dumps(BALANCE).encode()
TYPES = ["application/json; charset=utf-8", 'APPLICATION/JSON;charset="UTF8"', "application/vnd.api+json"]
MISSING = "The header Content-Type is missing. Expected Content-Type: application/json."


@pytest.mark.parametrize(
    ("headers", "content", "status", "detail"),
    [
        *(({"content-type": type}, CONTENT, 200, "") for type in TYPES),
        *((JSON, CONTENT.decode().encode(encoding), 200, "") for encoding in ("utf-8-sig", "utf-16", "utf-16-le")),
        (JSON | {"content-encoding": "identity"}, CONTENT, 200, ""),
        ({}, CONTENT, 415, MISSING),
        ({"content-type": "text/plain;charset=UTF-8"}, CONTENT, 415, "Content-Type is text/plain;charset=UTF-8. Exp"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=b", 415, "Type is application/x-www-form-urlenc"),
        (
            JSON | {"content-encoding": "gzip"},
            gzip.compress(CONTENT, mtime=0),
            415,
            "Content-Encoding is gzip, but this server",
        ),
        (JSON | {"content-encoding": "zstd"}, b"{", 415, "Content-Encoding is zstd, but this server reads only"),
        (JSON, b'{"message": "M\xe4rz"}', 400, "The body is not valid UTF-8. Encode the JSON as UTF-8."),
        ({}, b"", 422, ""),
    ],
)
def test_bodies_and_headers_of_other_http_clients(client, headers, content, status, detail):
    response = client.post("/api/v1/chat", content=content, headers=headers)
    assert response.status_code == status
    if status != 200:
        assert detail in assert_problem(response, status)["detail"]


@pytest.mark.parametrize("root_path", ["", "/bank", "/v1"])
def test_errors_for_openai_clients_behind_a_proxy_with_a_path(engine, root_path):
    with TestClient(create_app(engine, Settings()), LOCAL, root_path=root_path) as client:
        for response in (client.post(f"{root_path}/v1/embeddings", content=b"{"), client.get(f"{root_path}/v1/none")):
            assert response.json()["error"]["type"] == "invalid_request_error"
        assert "error" not in client.get(f"{root_path}/api/v1/none").json()


def test_head_is_answered_as_get_without_a_body(client):
    paths = ["/", "/page/chat.js", "/health", "/health/ready", "/health/metrics", "/metrics", "/v1/models"]
    for path in (*paths, "/openapi.json", "/docs", "/api/v1/customers/CUST001/memory", "/nowhere"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    assert client.head("/api/v1/chat").status_code == 405
    assert 'method="HEAD",route="/health"' in client.get("/metrics").text


@pytest.mark.parametrize("customer_id", ["CUST999", "CUST001 ", "' OR 1=1 --", "\x00"])
def test_unknown_customer_is_404(client, customer_id):
    assert_problem(client.post("/api/v1/chat", json=BALANCE | {"customer_id": customer_id}), 404, "CUST001 to CUST012")
    for call in (client.get, client.delete):
        assert_problem(call("/api/v1/customers/CUST999/memory"), 404, "no customer with this id")


def test_unknown_paths_and_methods(client):
    assert_problem(client.get("/nowhere"), 404, "Not Found", "There is no such path")
    assert_problem(client.get("/api/v1/chat"), 405, "Method Not Allowed", "The header Allow")
    assert client.put("/api/v1/customers/CUST001/memory").headers["allow"] == "DELETE, GET, HEAD"


def test_customer_reads_and_deletes_the_memory(client, engine):
    for customer in ("CUST001", "CUST002"):
        client.post("/api/v1/chat", json=BALANCE | {"customer_id": customer})
    body = client.get("/api/v1/customers/CUST001/memory").json()
    (turn,) = body["messages"]
    assert body["customer_id"] == "CUST001"
    assert turn["user_message"] == BALANCE["message"]
    assert "£4,907.60" in turn["assistant_response"]
    for deleted in ([turn["message_id"]], []):  # a repeated delete is not an error
        response = client.delete("/api/v1/customers/CUST001/memory")
        assert response.status_code == 200
        receipt = response.json()
        asked = {name: receipt[name] for name in ("namespace", "asked", "asked_by", "deleted", "deleted_ids")}
        assert asked == {
            "namespace": "CUST001",
            "asked": "all",
            "asked_by": "api",
            "deleted": len(deleted),
            "deleted_ids": deleted,
        }
        assert BALANCE["message"] not in response.text
    assert client.get("/api/v1/customers/CUST001/memory").json()["messages"] == []
    assert len(engine.memory.for_user("CUST002").export()) == 1


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_overload_gives_503_with_retry_after(client, engine, monkeypatch):
    monkeypatch.setattr(engine, "begin", raising(Overloaded("Too many requests are waiting. Try again in a moment.")))
    response = client.post("/api/v1/chat", json=BALANCE)
    assert_problem(response, 503, "Too many requests are waiting")
    assert response.headers["retry-after"] == "1"


def test_request_id_is_accepted_only_if_safe_to_log(client):
    assert client.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for unfit in ("a b", "x" * 65, 'a";drop'):
        assert client.get("/health", headers={"x-request-id": unfit}).headers["x-request-id"] != unfit


def test_not_ready_until_the_engine_is_loaded(engine):
    loading = Future()
    with TestClient(create_app(loading, Settings()), LOCAL) as client:
        assert client.get("/health").status_code == 200
        for response in (client.get("/health/ready"), client.post("/api/v1/chat", json=BALANCE)):
            assert_problem(response, 503, "still loading")
            assert response.headers["retry-after"] == "1"
        loading.set_result(engine)
        assert client.get("/health/ready").json() == {"status": "ready", "model": "keywords+none"}
        assert client.post("/api/v1/chat", json=BALANCE).status_code == 200


def test_chat_works_without_memory_and_reports_it(client, engine, monkeypatch):
    with monkeypatch.context() as broken:
        for name in ("search_many", "upsert_many"):
            broken.setattr(engine.memory.store, name, raising(StoreError("/secret/path cannot be read")))
        response = client.post("/api/v1/chat", json=BALANCE)
        assert response.status_code == 200
        assert response.json()["reply"].startswith("Your account balance")
        assert response.json()["unavailable"] == ["memory", "storing"]
        assert "/secret/path" not in response.text
    assert client.post("/api/v1/chat", json=BALANCE).json()["unavailable"] == []  # it recovers without a restart
    assert len(client.get("/api/v1/customers/CUST001/memory").json()["messages"]) == 1


def test_internal_errors_are_counted_and_not_revealed(engine, monkeypatch, caplog):
    metrics = ServerMetrics("test")
    with TestClient(create_app(engine, Settings(), metrics), LOCAL) as client:
        monkeypatch.setattr(engine.responder, "stream", lambda request, facts: 1 / 0)
        response = client.post("/api/v1/chat", json=BALANCE)
        body = assert_problem(response, 500)
        assert "division" not in response.text
        assert "division by zero" in caplog.text
        assert body["request_id"] in caplog.text
        monkeypatch.setattr(engine.bank, "require", raising(LedgerError("/secret/path cannot be read")))
        response = client.post("/api/v1/chat", json=BALANCE)
        assert "/secret/path" not in response.text
        assert_problem(response, 503, "bank's ledger is unavailable")
    assert "/secret/path" in caplog.text
    assert metrics.summary()["error_rate"] == 1.0


def test_metrics_count_by_route_template(client):
    for _ in range(3):
        client.post("/api/v1/chat", json=BALANCE)
    client.post("/api/v1/chat", json={})
    client.get("/wp-login.php")
    client.request("BREW", "/api/v1/chat")
    text = client.get("/metrics").text
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert counted['http_requests_total{method="POST",route="/api/v1/chat",status="200"}'] == "3.0"
    assert counted['http_requests_total{method="POST",route="/api/v1/chat",status="422"}'] == "1.0"
    assert counted['http_requests_total{method="GET",route="unmatched",status="404"}'] == "1.0"
    assert "wp-login" not in text
    assert counted['bankllm_replies_total{fallback="none",responder="template"}'] == "3.0"
    assert counted['http_requests_total{method="_OTHER",route="/api/v1/chat",status="405"}'] == "1.0"
    assert counted["bankllm_batch_size_sum"] == "3.0"
    assert counted['bankllm_stage_duration_seconds_count{stage="encode"}'] == "3.0"
    assert counted[f'bankllm_build_info{{model="keywords+none",version="{__version__}"}}'] == "1.0"
    summary = client.get("/health/metrics").json()
    assert {"latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "requests_total", "error_rate"} <= set(summary)
    assert summary["requests_total"] == 6
