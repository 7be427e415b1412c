"""One file used by several threads and two stores: each finds the changes of the others."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.vectors.rows import Query
from bankllm.vectors.sqlite import matrices
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import CUSTOMERS, DIM, EMBEDDER, expected_texts, row, texts, vector_of


@pytest.mark.parametrize("large", [False, True])
def test_threads_on_two_stores_match_the_model(
    path: Path, journal: str, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread changes only ids that start with its name, and checks these rows after every step."""
    if large:  # the rows are loaded in parts
        monkeypatch.setattr(matrices, "LOAD_ROWS", 4)
    one = SQLiteStore(path, DIM, EMBEDDER)
    other = SQLiteStore(path, DIM, EMBEDDER, cache_bytes=0)
    with closing(one), closing(other):

        def work(name: int) -> dict[str, dict[str, int]]:
            generator = random.Random(name)
            store = (one, other)[name % 2]
            models: dict[str, dict[str, int]] = {customer: {} for customer in CUSTOMERS}
            for step in range(25):
                customer = generator.choice(CUSTOMERS)
                model = models[customer]
                ids = [f"{name}-{generator.randrange(12)}" for _ in range(generator.randint(1, 3))]
                if generator.random() < 0.3:
                    store.delete(customer, ids)
                    for id_ in ids:
                        model.pop(id_, None)
                else:
                    rows = {id_: 1000 * name + 3 * step + n for n, id_ in enumerate(ids)}
                    store.upsert(customer, [row(id_, s) for id_, s in rows.items()])
                    model |= rows
                found = store.search(customer, vector_of(step), 1000)
                assert [match.text for match in found if match.id.startswith(f"{name}-")] == expected_texts(model, step)
                for mode in ("lexical", "hybrid"):
                    query = Query(customer, vector_of(step), ["text"], mode)
                    words = store.search_many([query], 1000)[0]
                    assert {match.id for match in words if match.id.startswith(f"{name}-")} == model.keys()
            return models

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
        for customer in CUSTOMERS:
            whole = {id_: s for models in results for id_, s in models[customer].items()}
            assert texts(one, customer) == texts(other, customer) == expected_texts(whole)
            assert {r.id: r.text for r in one.export(customer)} == {id_: f"text {s}" for id_, s in whole.items()}
