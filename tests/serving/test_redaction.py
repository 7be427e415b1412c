"""A real server masks card numbers in its store, its log, its replies and its error responses."""

import json

import pytest

from tests.support.chat import BALANCE, JSON
from tests.support.live_server import CHAT, customer, guarded

pytestmark = pytest.mark.slow

MESSAGE = "please block my card 4111 1111 1111 1111 12/29 now"
MASKED = "please block my card [card …1111] 12/29 now"
NOTATIONS = [
    MESSAGE,
    "please block my card 4111\u00a01111\u200b1111.1111 12/29 now",
    "please block my card ４１１１ １１１１ １１１１ １１１１ 12/29 now",
    "please block my card 4111111111111111 12/29 now",
]
TRACES = ["4111 1111", "1111 1111", "1111.1111", "4111\u00a01111", "１１１１", "4111111111111111", "1111-1111"]
COMPLETIONS = "/v1/chat/completions"


def test_card_number_is_not_in_store_log_or_responses(tmp_path):
    texts = []

    def keep(response, status):
        assert response.status_code == status, response.text
        texts.append(response.text + json.dumps(dict(response.headers)))
        return response

    with guarded(tmp_path) as server, customer(server) as client:
        for text in NOTATIONS:
            body = BALANCE | {"message": text}
            keep(client.post(CHAT, json=body), 200)
            keep(client.post(CHAT, json=body | {"message": f"a person please, {text}"}), 200)
            keep(client.post(f"{CHAT}/stream", json=body), 200)
            talk = {"messages": [{"role": "user", "content": text}]}
            keep(client.post(COMPLETIONS, json=talk), 200)
            keep(client.post(COMPLETIONS, json=talk | {"stream": True}), 200)
            keep(client.post("/v1/embeddings", json={"input": [text]}), 200)
            parts = [{"type": "text", "text": part} for part in (text[:30], text[30:])]
            keep(client.post(COMPLETIONS, json={"messages": [{"role": "user", "content": parts}]}), 200)
            keep(client.post(CHAT, json=BALANCE | {"message": text * 60}), 422)
            keep(client.post(CHAT, json=BALANCE | {"customer_id": text}), 403)
            keep(client.post(CHAT, json=BALANCE | {"conversation_id": text}), 422)
            keep(client.post(COMPLETIONS, json={"messages": [{"role": text, "content": [text]}]}), 422)
            keep(client.post(CHAT, content=json.dumps(text)[:-1], headers=JSON), 422)
            keep(client.get("/health", params={"q": text}), 200)
        number = "4111-1111-1111-1111"
        refused = keep(client.post(CHAT, json=BALANCE | {"conversation_id": number}), 422)
        assert "looks like an account number" in refused.json()["detail"]
        keep(client.post("/v1/embeddings", json={"input": "x", "dimensions": 4111111111111111}), 422)
        keep(client.post(CHAT, json=BALANCE, headers={"x-request-id": number}), 200)
        keep(client.get(f"/api/v1/customers/{number}/memory"), 403)
        kept = keep(client.get("/api/v1/customers/CUST001/memory"), 200).json()["messages"]
    assert server.returncode == 0
    assert MASKED in [turn["user_message"] for turn in kept]
    files = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert {"memory.sqlite", "server.log"} <= set(files)
    for trace in TRACES:
        assert not [text for text in texts if trace in text or json.dumps(trace)[1:-1] in text]
        assert not [name for name, content in files.items() if trace.encode() in content], trace
