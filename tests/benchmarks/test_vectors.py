"""Logic of the vector benchmarks, and a small run of our store with a peer that is not installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from tests.support import BENCHMARKS


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def unit_vectors(count: int, seed: int = 0, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_sample(folder: Path, size: int) -> Path:
    import vector_data

    folder.mkdir()
    np.save(folder / "vectors.npy", unit_vectors(size))
    np.save(folder / "queries.npy", unit_vectors(vector_data.QUERIES, seed=1))
    (folder / "texts.json").write_text(json.dumps([f"message {row}" for row in range(size)]))
    return folder


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


def test_a_sample_is_extended_by_noisy_copies_of_unit_length() -> None:
    import vector_data

    real = unit_vectors(40, seed=7, dim=384)  # a different seed from that of the noise
    grown = vector_data.grow(real, 100)
    assert np.array_equal(grown[:40], real)
    assert np.linalg.norm(grown, axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    assert np.sum(grown[40:80] * real, axis=1) == pytest.approx(np.full(40, 0.958), abs=0.02)
    assert np.array_equal(vector_data.grow(real, 25), real[:25])


@pytest.mark.slow
def test_our_store_is_measured_completely_and_loses_nothing_when_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vector_contenders
    import vector_data
    import vector_peers

    absent = vector_contenders.Contender("Absent", "chroma", "whole", "bankllm-has-no-such-package")
    monkeypatch.setattr(vector_peers, "CONTENDERS", (*vector_contenders.CONTENDERS[:2], absent))
    sample = vector_data.Sample(write_sample(tmp_path / "sample", 450), 450)
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


@pytest.mark.slow
def test_a_failed_phase_is_named_with_its_error(tmp_path: Path) -> None:
    import vector_contenders
    import vector_data

    sample = vector_data.Sample(write_sample(tmp_path / "sample", 10), 10)
    (tmp_path / "memory.sqlite").write_text("not a database, and long enough to be looked at as one")
    with pytest.raises(
        StoreError, match=r"one namespace: the phase fill exited with code 1, expected 0.*file is not a"
    ):
        vector_contenders.run_phase(vector_contenders.CONTENDERS[1], "fill", sample, tmp_path)
