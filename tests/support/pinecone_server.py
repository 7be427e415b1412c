"""A fake Pinecone server that implements the part of the REST API that the real SDK uses in the tests.

Search is exact. Writes are visible immediately, or after `lag_s`. Faults of data-plane calls: `failing`, `delay_s`,
`key`, `poison`, and `stop` followed by `start` on the same port. `leak` makes queries ignore the namespace, which a
real server must not do.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

API_KEY = "test-key"
Records = dict[str, dict[str, Any]]


class PineconeServer:
    """Runs in a thread on a free port of 127.0.0.1. Use it as a context manager; `url` is its address."""

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.namespaces: dict[str, Records] = defaultdict(dict)
        """All records written, including those not yet visible to searches."""
        self.upserts: list[tuple[int, int]] = []
        """(number of records, bytes) of each upsert received."""
        self.written: list[tuple[str, str]] = []
        """(namespace, id) of each record that an upsert wrote, in order."""
        self.calls: list[str] = []
        """Paths of the data-plane calls received, including those answered with a fault."""
        self.polls_until_ready = 0
        self.leak = False
        self.key = API_KEY
        self.poison: set[str] = set()
        """Record ids; an upsert that contains one of them is rejected."""
        self.delay_s = 0.0
        self.lag_s = 0.0
        """Time in seconds until a write is visible to searches."""
        self.failing = 0
        """HTTP status that answers each data-plane call; 0: none."""
        self._shown: dict[str, Records] = defaultdict(dict)
        self._log: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        self._port = 0

    def start(self) -> None:
        routes = [
            Route("/indexes", self._create, methods=["POST"]),
            Route("/indexes/{name}", self._describe),
            Route("/vectors/upsert", self._upsert, methods=["POST"]),
            Route("/query", self._query, methods=["POST"]),
            Route("/vectors/fetch", self._fetch),
            Route("/vectors/list", self._list),
            Route("/vectors/delete", self._delete, methods=["POST"]),
        ]
        app = _Faults(Starlette(routes=routes), self)
        config = uvicorn.Config(app, host="127.0.0.1", port=self._port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the Pinecone test server did not start"
            time.sleep(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """Close the port and all connections; the written records are kept."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _create(self, request: Request) -> JSONResponse:
        body = await request.json()
        if body["name"] in self.indexes:
            return _control_error(409, "ALREADY_EXISTS", "Resource already exists")
        self.indexes[body["name"]] = {**body, "host": self.url, "deletion_protection": "disabled"}
        return JSONResponse(self._index(body["name"]), status_code=201)

    async def _describe(self, request: Request) -> JSONResponse:
        name = request.path_params["name"]
        if name not in self.indexes:
            return _control_error(404, "NOT_FOUND", f"Resource {name} not found")
        self.polls_until_ready -= 1
        return JSONResponse(self._index(name))

    def _index(self, name: str) -> dict[str, Any]:
        ready = self.polls_until_ready <= 0
        return {**self.indexes[name], "status": {"ready": ready, "state": "Ready" if ready else "Initializing"}}

    async def _upsert(self, request: Request) -> JSONResponse:
        raw, body = await request.body(), await request.json()
        self.upserts.append((len(body["vectors"]), len(raw)))
        if len(body["vectors"]) > 1000 or len(raw) > 2_000_000:
            return _data_error(400, "Request size exceeds 1000 records or 2MB")
        if refused := self.poison & {vector["id"] for vector in body["vectors"]}:
            return _data_error(400, f"Record {min(refused)} is not allowed")
        name = body.get("namespace", "")
        self.written += [(name, vector["id"]) for vector in body["vectors"]]
        return self._commit(name, body, {"upsertedCount": len(body["vectors"])})

    async def _delete(self, request: Request) -> JSONResponse:
        body = await request.json()
        if body["namespace"] not in self.namespaces:
            return _data_error(404, "Namespace not found")
        return self._commit(body["namespace"], body, {})

    def _commit(self, name: str, body: dict[str, Any], reply: dict[str, Any]) -> JSONResponse:
        """Write now; make it visible to searches after `lag_s`."""
        _apply(self.namespaces, name, body)
        self._log[name].append((time.monotonic() + self.lag_s, body))
        return JSONResponse(reply)

    def _visible(self, name: str) -> Records:
        """Return the records of a namespace that are visible to searches."""
        log = self._log[name]
        while log and log[0][0] <= time.monotonic():
            _apply(self._shown, name, log.pop(0)[1])
        return self._shown.get(name, {})

    async def _query(self, request: Request) -> JSONResponse:
        body = await request.json()
        name = body.get("namespace", "")
        namespaces = [self._visible(each) for each in (list(self._log) if self.leak else [name])]
        query, wanted = np.asarray(body["vector"]), {} if self.leak else body.get("filter")
        matches = [
            {
                "id": vector["id"],
                "score": float(_cosine(query, np.asarray(vector["values"]))),
                "metadata": vector["metadata"],
            }
            for records in namespaces
            for vector in records.values()
            if _matches_filter(vector, wanted)
        ]
        matches.sort(key=lambda match: -match["score"])
        return JSONResponse({"matches": matches[: body["topK"]], "namespace": name, "usage": {"readUnits": 1}})

    async def _fetch(self, request: Request) -> JSONResponse:
        namespace = request.query_params.get("namespace", "")
        records = self._visible(namespace)
        vectors = {id_: records[id_] for id_ in request.query_params.getlist("ids") if id_ in records}
        return JSONResponse({"vectors": vectors, "namespace": namespace})

    async def _list(self, request: Request) -> JSONResponse:
        namespace, prefix = request.query_params.get("namespace", ""), request.query_params.get("prefix", "")
        ids = sorted(id_ for id_ in self._visible(namespace) if id_.startswith(prefix))
        start, limit = int(request.query_params.get("paginationToken", 0)), int(request.query_params["limit"])
        body: dict[str, Any] = {"vectors": [{"id": id_} for id_ in ids[start : start + limit]], "namespace": namespace}
        if start + limit < len(ids):
            body["pagination"] = {"next": str(start + limit)}
        return JSONResponse(body)


class _Faults:
    """ASGI middleware that checks the API key and injects the requested faults."""

    def __init__(self, app: Starlette, server: PineconeServer) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        server, path = self._server, scope["path"]
        headers = dict(scope["headers"])
        answer: JSONResponse | None = None
        if not path.startswith("/indexes"):
            server.calls.append(path)
            await asyncio.sleep(server.delay_s)
            if server.failing:
                answer = _data_error(server.failing, "as requested by the test")
        if headers[b"api-key"].decode() != server.key:
            answer = _control_error(401, "UNAUTHENTICATED", "Invalid API key")
        await (answer or self._app)(scope, receive, send)


def _apply(namespaces: dict[str, Records], name: str, body: dict[str, Any]) -> None:
    """Apply the body of an upsert or delete call to a namespace."""
    namespaces[name].update((vector["id"], vector) for vector in body.get("vectors", ()))
    for id_ in body.get("ids", ()):
        namespaces[name].pop(id_, None)
    if "filter" in body:
        kept = {id_: vector for id_, vector in namespaces[name].items() if not _matches_filter(vector, body["filter"])}
        namespaces[name] = kept
    if body.get("deleteAll"):
        del namespaces[name]


def _matches_filter(vector: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    """Evaluate Pinecone's filter language: a missing field satisfies only `$exists: false`, `$ne` and `$nin`."""
    for key, condition in (wanted or {}).items():
        if key in ("$and", "$or"):
            combine = all if key == "$and" else any
            if not combine(_matches_filter(vector, part) for part in condition):
                return False
        elif not all(_HOLDS[name](vector["metadata"].get(key), value) for name, value in condition.items()):
            return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _typed(value: Any) -> tuple[bool, Any]:
    """Make a value comparable that is not equal to one of another type, as True and 1 are."""
    return isinstance(value, bool), value


def _any_of(found: Any) -> list[Any]:
    return [_typed(item) for item in (found if isinstance(found, list) else [found])]


_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "$exists": lambda found, value: (found is not None) == value,
    "$eq": lambda found, value: _typed(value) in _any_of(found),
    "$ne": lambda found, value: _typed(value) not in _any_of(found),
    "$gt": lambda found, value: _is_number(found) and found > value,
    "$gte": lambda found, value: _is_number(found) and found >= value,
    "$lt": lambda found, value: _is_number(found) and found < value,
    "$lte": lambda found, value: _is_number(found) and found <= value,
}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def _control_error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}, "status": status}, status_code=status)


def _data_error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"code": status, "message": message, "details": []}, status_code=status)
