"""Storage formats of vectors: rounding errors, and files that record their precision."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.rows import Row, unit_vectors
from bankllm.vectors.sqlite.store import SQLiteStore
from bankllm.vectors.storage_precision import Precision, decode, encode

DIM = 384
EMBEDDER = "test-embedder@0123"
BYTES: dict[Precision, int] = {"float32": 1536, "float16": 768, "int8": 388}
LARGEST_ERROR: dict[Precision, float] = {"float32": 0, "float16": 2**-12, "int8": 0.002}


@pytest.fixture(params=list(BYTES))
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param


def unit(n: int) -> np.ndarray:
    return unit_vectors(list(np.random.default_rng(0).normal(size=(n, DIM))), DIM)


def test_decoded_vectors_have_small_errors_and_unit_length(precision: Precision) -> None:
    vectors = np.concatenate([unit(50), np.eye(DIM, dtype=np.float32)[:2], -np.eye(DIM, dtype=np.float32)[:2]])
    kept = encode(vectors, precision)
    back = decode(kept, DIM, precision)
    assert {len(row) for row in kept} == {BYTES[precision]}
    assert (back.dtype, back.shape) == (np.float32, vectors.shape)
    assert np.abs(back - vectors).max() <= LARGEST_ERROR[precision]
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=2e-4)
    assert decode([], DIM, precision).shape == (0, DIM)


def test_a_row_of_the_wrong_size_is_an_error(precision: Precision) -> None:
    kept = encode(unit(2), precision)
    with pytest.raises(StoreError, match=f"of {BYTES[precision]} bytes .*found 3 bytes. The file is damaged"):
        decode([kept[0], b"abc"], DIM, precision)


def test_a_store_finds_the_same_rows_and_the_file_records_its_precision(tmp_path: Path, precision: Precision) -> None:
    path, vectors = tmp_path / "memory.sqlite", unit(300)
    rows = [Row(str(i), f"text {i}", vector) for i, vector in enumerate(vectors)]
    with closing(SQLiteStore(path, DIM, EMBEDDER, precision=precision)) as store:
        store.upsert("CUST001", rows)
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        assert store.precision == precision
        exact = np.argsort(-(vectors @ vectors[7]))[:3]
        found = store.search("CUST001", vectors[7], 3)
        assert found[0].id == "7"
        assert found[0].score == pytest.approx(1, abs=1e-4)
        assert len({match.id for match in found} & set(map(str, exact))) >= 2
        np.testing.assert_allclose(store.export("CUST001")[3].vector, vectors[3], atol=0.002)
    with closing(SQLiteStore(path, DIM, EMBEDDER, precision=precision)) as store:
        assert store.count() == 300


def test_opening_with_another_precision_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    SQLiteStore(path, DIM, EMBEDDER, precision="int8").close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"stores its vectors as int8, not float16.*reindex --precision float16"):
        SQLiteStore(path, DIM, EMBEDDER, precision="float16")
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="float32, float16, int8; got 'int4'"):
        SQLiteStore(path, DIM, EMBEDDER, precision="int4")  # type: ignore[arg-type]
