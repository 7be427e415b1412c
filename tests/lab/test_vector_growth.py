"""Growth: a file that grows and is searched by a separate process at each size."""

from pathlib import Path

import pytest

from bankllm.lab import vector_growth
from bankllm.vectors.sqlite.store import SQLiteStore


@pytest.mark.slow
def test_a_file_grows_and_is_searched_at_each_size(tmp_path: Path) -> None:
    searches, sizes = vector_growth.grow(tmp_path, (700, 300), searches=5)
    assert [(row["rows"], row["vectors"]) for row in sizes] == [(300, 500), (700, 400)]
    assert int(str(sizes[0]["file_bytes"])) < int(str(sizes[1]["file_bytes"]))
    assert all(float(str(row["memory_bytes"])) > 0 < float(str(row["seconds"])) for row in sizes)
    for size in (300, 700):
        for scope in ("all", "customer"):
            scope_rows = [row for row in searches if (row["rows"], row["scope"]) == (size, scope)]
            assert [row["first"] for row in scope_rows] == [True] + [False] * 5
            assert all(float(str(row["search_ms"])) > 0 for row in scope_rows)
    store = SQLiteStore(tmp_path / "growth.sqlite", vector_growth.DIM, vector_growth.EMBEDDER)
    assert (store.count(vector_growth.EVERYTHING), store.count(vector_growth.CUSTOMER)) == (700, 200)
    store.close()
