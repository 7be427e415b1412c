"""Logic of the vector benchmarks, and a small run of our store with a peer that is not installed."""

import json
from pathlib import Path

import numpy as np
import pytest


def test_recall_is_the_share_of_the_exact_nearest_and_ties_count() -> None:
    import vector_data

    vectors = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0, 1]], np.float32)
    query = np.array([1, 0], np.float32)
    assert vector_data.recall(vectors, query, [0, 1], top_k=2) == 1
    assert vector_data.recall(vectors, query, [0, 2], top_k=2) == 1
    assert vector_data.recall(vectors, query, [0, 3], top_k=2) == 0.5
    assert vector_data.recall(vectors, query, [0, 0], top_k=2) == 0.5
    assert vector_data.recall(vectors, query, [], top_k=2) == 0
    assert vector_data.recall(vectors, query, [0, 1, 2, 3], top_k=10) == 1


@pytest.mark.slow
def test_our_store_is_measured_completely_and_loses_nothing_when_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vector_contenders
    import vector_data
    import vector_peers

    absent = vector_contenders.Contender("Absent", "chroma", "whole", "bankllm-has-no-such-package")
    monkeypatch.setattr(vector_peers, "CONTENDERS", (*vector_contenders.CONTENDERS[:2], absent))
    for name, count in (("vectors", 450), ("queries", vector_data.QUERIES)):
        vectors = np.random.default_rng(count).standard_normal((count, 16), np.float32)
        np.save(tmp_path / name, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (tmp_path / "texts.json").write_text(json.dumps([f"message {row}" for row in range(450)]))
    sample = vector_data.Sample(tmp_path, 450)
    options = vector_peers.parse(["--queries", "20", "--inserts", "5", "--killed", "4", "--folder", str(tmp_path)])
    by_customer, whole, left_out = vector_peers.run_size(sample, options)
    assert by_customer["customer"]["recall"] == whole["all"]["recall"] == 1
    assert "all" not in by_customer
    assert "customer" not in whole
    for row in (by_customer, whole):
        assert (row["inserts"], row["acknowledged"], row["lost"]) == (5, 4, 0)
        assert row["disk_bytes"] > 450 * 16 * 4
    assert left_out["not_measured"].startswith("not installed; run: pip install --target")
    output = capsys.readouterr().out
    assert "Absent is left out" in output
    assert "| Absent: left out, not installed | — |" in output
