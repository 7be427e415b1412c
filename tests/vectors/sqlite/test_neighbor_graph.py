"""A namespace with an approximate index: high recall, exact scores, and the same promises as an exact search."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import UsageError
from bankllm.vectors.rows import Row, unit_vectors
from bankllm.vectors.sqlite import matrices, neighbor_graph
from bankllm.vectors.sqlite.neighbor_graph import MAX_TOP_K, NeighborGraph
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.server_client import until

DIM, ROWS = 48, 3000


@pytest.fixture(autouse=True)
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_graph, "TAIL_ROWS", 100)


def clustered(rows: int, seed: int = 0) -> np.ndarray:
    """(rows, dim) unit vectors around 50 centres, which do not depend on the seed."""
    centres = np.random.default_rng(9).normal(size=(50, DIM))
    draw = np.random.default_rng(seed)
    return unit_vectors(centres[draw.integers(50, size=rows)] + 0.5 * draw.normal(size=(rows, DIM)), DIM)


def message(number: int, vector: np.ndarray) -> Row:
    return Row(f"m{number}", f"text {number}", vector)


class Counted(NeighborGraph):
    """Counts the searches that it made approximate."""

    used = 0

    def propose(self, vectors: np.ndarray, queries: np.ndarray, top_k: int) -> np.ndarray | None:
        proposed = super().propose(vectors, queries, top_k)
        Counted.used += proposed is not None
        return proposed


@pytest.fixture
def store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStore]:
    """A store with `ROWS` rows of one customer, whose graph is ready."""
    monkeypatch.setattr(matrices, "NeighborGraph", Counted)
    with closing(SQLiteStore(path, DIM, "embedder", approximate_above=1000)) as store:
        store.upsert("CUST001", [message(*item) for item in enumerate(clustered(ROWS))])
        store.upsert("CUST002", [message(number, vector) for number, vector in enumerate(clustered(900, seed=7))])
        wait_for_graph(store)
        yield store


def wait_for_graph(store: SQLiteStore) -> None:
    Counted.used = 0
    until(lambda: store.search("CUST001", clustered(1)[0], 1) and Counted.used)


def test_the_nearest_are_found_with_their_exact_scores(store: SQLiteStore) -> None:
    vectors, queries, recalls = clustered(ROWS), clustered(50, seed=1), []
    for query in queries:
        found = store.search("CUST001", query, 10)
        exact = np.sort(vectors @ query)[::-1]
        assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
        for match in found:
            assert match.score == pytest.approx(float(vectors[int(match.id[1:])] @ query), abs=1e-5)
        recalls.append(np.mean([match.score >= exact[9] - 1e-5 for match in found]))
    assert Counted.used > 50
    assert np.mean(recalls) >= 0.95


def test_a_small_namespace_or_many_matches_are_searched_exactly(store: SQLiteStore) -> None:
    used, query = Counted.used, clustered(1, seed=2)[0]
    store.search("CUST002", query, 10)
    found = store.search("CUST001", query, MAX_TOP_K + 1)
    assert Counted.used == used
    exact = np.sort(clustered(ROWS) @ query)[::-1]
    assert [match.score for match in found] == pytest.approx(exact[: MAX_TOP_K + 1].tolist(), abs=1e-5)


def test_new_rows_are_found_at_once(store: SQLiteStore) -> None:
    for number, vector in enumerate(clustered(400, seed=3), ROWS):
        store.upsert("CUST001", [message(number, vector)])
        assert store.search("CUST001", vector, 1)[0].id == f"m{number}"
    wait_for_graph(store)


def test_deleted_and_replaced_rows_are_not_found_again(store: SQLiteStore) -> None:
    vectors = clustered(ROWS)
    store.delete("CUST001", ["m5"])
    assert store.search("CUST001", vectors[5], 1)[0].id != "m5"
    moved = clustered(1, seed=4)[0]
    store.upsert("CUST001", [message(6, moved)])
    assert store.search("CUST001", moved, 1)[0].id == "m6"
    assert store.search("CUST001", vectors[6], 1)[0].id != "m6"
    wait_for_graph(store)  # built again
    found = {match.id for query in vectors[:20] for match in store.search("CUST001", query, 10)}
    assert "m5" not in found
    assert store.search("CUST001", moved, 1)[0].id == "m6"
    assert store.search("CUST001", vectors[6], 1)[0].id != "m6"


def test_other_customers_rows_are_never_proposed(store: SQLiteStore) -> None:
    for query in clustered(900, seed=7)[:20]:  # vectors of CUST002
        assert store.search("CUST001", query, 1)[0].score < 0.999
        assert store.search("CUST002", query, 1)[0].score == pytest.approx(1, abs=1e-5)


def test_expired_rows_are_not_found(store: SQLiteStore) -> None:
    vector = clustered(1, seed=5)[0]
    store.upsert("CUST001", [Row("old", "text", vector, expires_at=1.0)])
    assert store.search("CUST001", vector, 1)[0].id != "old"


def test_an_index_without_its_package_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(UsageError, match=r"needs the package usearch\. Run: pip install 'bankllm\[approximate\]'"):
        SQLiteStore(path, DIM, "embedder", approximate_above=1000)
    assert not path.exists()


def test_threads_search_while_the_graph_grows(store: SQLiteStore) -> None:
    queries = clustered(300, seed=6)

    def search(part: np.ndarray) -> None:
        for query in part:
            assert len(store.search("CUST001", query, 10)) == 10

    with ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(search, part) for part in np.array_split(queries, 3)]
        rows = [message(*item) for item in enumerate(clustered(2000, seed=8), ROWS)]
        for start in range(0, len(rows), 50):
            store.upsert("CUST001", rows[start : start + 50])
        for one in searches:
            one.result()
    assert store.search("CUST001", rows[-1].vector, 1)[0].id == rows[-1].id


def test_a_process_can_end_while_a_graph_is_built() -> None:
    code = """
import numpy as np
from bankllm.vectors.sqlite.neighbor_graph import NeighborGraph
vectors = np.random.default_rng(0).normal(size=(100_000, 64)).astype(np.float32)
graph = NeighborGraph(64)
print(graph.propose(vectors, vectors[:1], 5))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")
