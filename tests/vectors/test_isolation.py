"""Isolation of customers: random sequences of calls by thousands of customers with adversarial names.

Two connections are used. Texts repeat, so cached vectors are used too. Each match must be a row of that customer.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bankllm.vectors.namespaces import Message
from bankllm.vectors.rows import COLLECTION, Row
from bankllm.vectors.service import VectorService
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import DIM, fake_embedder, vectors
from tests.support.pinecone_server import PineconeServer
from tests.support.store_model import open_replicated

EMBEDDER = fake_embedder()
Opener = Callable[[], SQLiteStore]


@contextmanager
def sqlite(folder: Path) -> Iterator[Opener]:
    yield lambda: SQLiteStore(folder / "memory.sqlite", DIM, EMBEDDER.model_id)


@contextmanager
def replicated(folder: Path) -> Iterator[Opener]:
    """A single file that replicates. Two machines may differ for a moment, but this test compares every row."""
    with PineconeServer() as server:
        path, model = folder / "memory.sqlite", EMBEDDER.model_id
        yield lambda: open_replicated(server, path, dim=DIM, embedder_id=model)


TEXTS = [f"question {number} about my card" for number in range(12)]
COLLECTIONS = ["intents", "knowledge", "CUST001", "collection"]
HOSTILE = [
    *("CUST001", "CUST00", "CUST0011", "cust001", "Cust001", "CUST%30%301", "CUST001%20", "CUST001/", "/CUST001"),
    *("collection", "intents", "knowledge", "collection%20intents", "collection+intents", "collection/intents"),
    *("__default", "__Default__", "default", "..", ".", "%", "%25", "*", "?", "'", '"', "--", "CUST___", "CUST%"),
    *("null", "None", "0", "x" * 127, "x" * 128),
]
USERS = st.one_of(
    st.sampled_from(HOSTILE),
    st.integers(0, 2500).map(lambda number: f"CUST{number}"),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12),
).filter(lambda name: name != "__default__")
KINDS = ["store", "store", "replace", "delete", "forget", "add", "clear", "reopen", "ask", "ask", "ask", "recent"]
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 4), st.integers(0, 1), st.integers(0, 11), st.integers(1, 12)),
    min_size=10,
    max_size=25,
)


class World:
    """Two services on one store, and a model of the expected rows of each namespace."""

    def __init__(self, open_store: Opener) -> None:
        self._open_store = open_store
        self._services = [VectorService(open_store(), EMBEDDER) for _ in range(2)]
        self._kept: dict[str, dict[str, str]] = {}
        self.checked: Counter[str] = Counter()
        """Number of checked matches by kind of search: hybrid, lexical, filtered."""
        self.customers = 0

    def run(self, users: list[str], steps: list[tuple[str, int, int, int, int]]) -> None:
        for kind, who, which, number, many in steps:
            getattr(self, f"_{kind}")(self._services[which], users[who % len(users)], number, many)
        for user in users:
            self._ask(self._services[0], user, 0, 1000)
            self._ask(self._services[1], user, 1, 3)

    def add_customers(self, users: list[str]) -> None:
        for number, user in enumerate(users):
            self._store(self._services[number % 2], user, number % 12, 1)

    def close(self) -> None:
        for service in self._services:
            service.close()

    def _of(self, namespace: str) -> dict[str, str]:
        self.customers += namespace not in self._kept
        return self._kept.setdefault(namespace, {})

    def _check(self, service: VectorService, namespace: str, number: int, top_k: int) -> None:
        """Search one namespace in each way, and check each match."""
        kept, is_collection = self._of(namespace), namespace.startswith(COLLECTION)
        name = {"collection": namespace.removeprefix(COLLECTION)} if is_collection else {"user_id": namespace}
        ways = {
            "hybrid": {},
            "lexical": {"mode": "lexical"},
            "filtered": {"where": {"created_from": "2026-01-01"} if is_collection else {"intent": ""}},
        }
        for way, options in ways.items():
            matches = service.semantic_search(TEXTS[number], top_k, **name, **options)
            for match in matches:
                assert kept.get(match.id) == match.text, f"{namespace!r} found {match.id}: {match.text!r}"
            # All texts have a word of the question.
            assert len({match.id for match in matches}) == len(matches) == min(top_k, len(kept)), (namespace, way)
            self.checked[way] += len(matches)

    def _store(self, service: VectorService, user: str, number: int, many: int) -> None:
        texts = [TEXTS[(number + n) % 12] for n in range(1 + many % 3)]
        ids = service.for_user(user).store_many([Message(text) for text in texts])
        self._of(user).update(zip(ids, texts, strict=True))

    def _replace(self, service: VectorService, user: str, number: int, many: int) -> None:
        """Upsert a row with an id that all customers use and a text that only this customer has."""
        text = f"{TEXTS[number]} of {user}"
        metadata = {"assistant_response": "", "intent": ""}
        service.store.upsert(user, [Row(f"same-{number % 3}", text, vectors([text])[0], metadata)])
        self._of(user)[f"same-{number % 3}"] = text

    def _delete(self, service: VectorService, user: str, number: int, many: int) -> None:
        deleted = list(self._of(user))[number % 3 : number % 3 + 2]
        service.for_user(user).forget([*deleted, "unknown"])
        for id_ in deleted:
            del self._of(user)[id_]

    def _forget(self, service: VectorService, user: str, number: int, many: int) -> None:
        service.for_user(user).forget()
        self._of(user).clear()

    def _add(self, service: VectorService, user: str, number: int, many: int) -> None:
        name, texts = COLLECTIONS[number % 4], [TEXTS[number], TEXTS[many % 12]]
        ids = service.collection(name).add(texts)
        self._of(COLLECTION + name).update(zip(ids, texts, strict=True))

    def _clear(self, service: VectorService, user: str, number: int, many: int) -> None:
        service.collection(COLLECTIONS[number % 4]).forget()
        self._of(COLLECTION + COLLECTIONS[number % 4]).clear()

    def _reopen(self, service: VectorService, user: str, number: int, many: int) -> None:
        service.close()
        self._services[self._services.index(service)] = VectorService(self._open_store(), EMBEDDER)

    def _ask(self, service: VectorService, user: str, number: int, many: int) -> None:
        self._check(service, user, number, many)
        self._check(service, COLLECTION + COLLECTIONS[number % 4], number, many)

    def _recent(self, service: VectorService, user: str, number: int, many: int) -> None:
        own = set(self._of(user).values())
        assert {turn.user_message for turn in service.for_user(user).recent(many)} <= own
        assert {turn["user_message"] for turn in service.for_user(user).export()} == own


def run_sequences(world: World, sequences: int) -> None:
    """Run random sequences on the same store, so that rows of other customers exist; failures cannot be replayed."""

    @settings(
        max_examples=sequences,
        derandomize=True,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(USERS, min_size=2, max_size=5, unique=True), STEPS)
    def run(users: list[str], steps: list[tuple[str, int, int, int, int]]) -> None:
        world.run(users, steps)

    run()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("opened", "customers", "sequences", "least"),
    [(sqlite, 2000, 120, 5000), (replicated, 100, 25, 200)],
    ids=["sqlite", "pinecone"],
)
def test_no_customer_finds_another_customers_row(tmp_path: Path, opened, customers, sequences, least) -> None:
    EMBEDDER.clear_cache()
    with opened(tmp_path) as open_store, closing(World(open_store)) as world:
        world.add_customers([f"CUST{number}" for number in range(customers)])
        run_sequences(world, sequences)
        assert all(world.checked[way] >= least for way in ("hybrid", "lexical", "filtered")), world.checked
        assert world.customers >= customers
        assert EMBEDDER.counts.hits > EMBEDDER.counts.misses, "cached vectors were used too"
