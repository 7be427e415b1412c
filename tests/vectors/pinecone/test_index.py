"""`PineconeIndex`: the real SDK over HTTP against a local server."""

import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.rows import Row
from tests.support.pinecone_server import API_KEY, PineconeServer
from tests.support.store_model import DIM, EMBEDDER


def open_index(
    server: PineconeServer, dim: int = DIM, embedder_id: str = EMBEDDER, key: str = API_KEY
) -> PineconeIndex:
    return PineconeIndex(key, "bankllm", dim, embedder_id, host=server.url)


def test_the_index_is_created_once_and_opened_when_ready(
    server: PineconeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    server.polls_until_ready = 3
    with closing(open_index(server)) as index:
        index.put("CUST001", [Row("a", "kept", np.ones(DIM))])
    with closing(open_index(server)) as index:
        assert index.query("CUST001", np.ones(DIM), 1)[0].text == "kept"
    assert len(waits) == 2
    assert server.indexes["bankllm"]["schema"] == {
        "fields": {"_values": {"type": "dense_vector", "dimension": DIM, "metric": "cosine"}}
    }


def test_waiting_for_an_index_times_out(server: PineconeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.vectors.pinecone.index.READY_TIMEOUT_S", -1.0)
    server.polls_until_ready = 5
    with pytest.raises(StoreError, match="index 'bankllm' is Initializing after"):
        open_index(server)


def test_an_index_of_another_embedder_is_rejected(server: PineconeServer) -> None:
    open_index(server).close()
    with pytest.raises(StoreError, match=r"holds vectors of test-embedder@0123.*expected other@4567"):
        open_index(server, embedder_id="other@4567")
    with pytest.raises(StoreError, match=r"\(8, 'cosine'\); expected test-embedder@0123 with \(9, 'cosine'\)"):
        open_index(server, dim=9)


def test_batches_stay_within_pinecones_limits(server: PineconeServer) -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, DIM))
    with closing(open_index(server)) as index:
        index.put("CUST001", [Row(str(i), "short", vector) for i, vector in enumerate(vectors)])
        index.put("CUST002", [Row(str(i), "long 💳" * 4000, vector) for i, vector in enumerate(vectors[:120])])
    assert {name: len(records) for name, records in server.namespaces.items()} == {"CUST001": 1500, "CUST002": 120}
    assert server.upserts[0][0] == 1000
    assert all(records <= 1000 and size <= 2_000_000 for records, size in server.upserts)


NO_ANSWER = """
from bankllm.errors import StoreError
from bankllm.vectors.pinecone.index import PineconeIndex
try:
    PineconeIndex("key", "bankllm", 8, "test", host="http://127.0.0.1:9", timeout_s=0.2)
except StoreError as error:
    print(error)
"""


@pytest.mark.slow
def test_no_answer_is_a_store_error() -> None:
    # In a separate process, because the SDK keeps one retry budget per host name.
    done = subprocess.run([sys.executable, "-c", NO_ANSWER], capture_output=True, text=True, check=True)
    assert "Pinecone (index 'bankllm') does not answer" in done.stdout
