"""A small server that speaks enough of Pinecone's REST protocol for the real SDK to run against it.

Cosine search is exact and writes are visible at once. `PineconeServer.leak` makes queries ignore the
namespace, which no real server should do: it shows that the store checks whose records come back.
"""

import threading
import time
from collections import defaultdict
from typing import Any, Self

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

API_KEY = "test-key"


class PineconeServer:
    """Runs in a thread on a free port of 127.0.0.1; use it as a context manager, `url` is its address."""

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.namespaces: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self.upserts: list[tuple[int, int]] = []
        """(records, bytes) of each upsert that came."""
        self.polls_until_ready = 0
        self.leak = False

    def __enter__(self) -> Self:
        routes = [
            Route("/indexes", self._create, methods=["POST"]),
            Route("/indexes/{name}", self._describe),
            Route("/vectors/upsert", self._upsert, methods=["POST"]),
            Route("/query", self._query, methods=["POST"]),
            Route("/vectors/fetch", self._fetch),
            Route("/vectors/list", self._list),
            Route("/vectors/delete", self._delete, methods=["POST"]),
            Route("/describe_index_stats", self._stats, methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the Pinecone test server did not start"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _create(self, request: Request) -> JSONResponse:
        if request.headers["api-key"] != API_KEY:
            return _control_error(401, "UNAUTHENTICATED", "Invalid API key")
        body = await request.json()
        if body["name"] in self.indexes:
            return _control_error(409, "ALREADY_EXISTS", "Resource already exists")
        self.indexes[body["name"]] = {**body, "host": self.url, "deletion_protection": "disabled"}
        return JSONResponse(self._index(body["name"]), status_code=201)

    async def _describe(self, request: Request) -> JSONResponse:
        if request.headers["api-key"] != API_KEY:
            return _control_error(401, "UNAUTHENTICATED", "Invalid API key")
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
        space = self.namespaces[body.get("namespace", "")]
        space.update((vector["id"], vector) for vector in body["vectors"])
        return JSONResponse({"upsertedCount": len(body["vectors"])})

    async def _query(self, request: Request) -> JSONResponse:
        body = await request.json()
        spaces = self.namespaces.values() if self.leak else [self.namespaces.get(body.get("namespace", ""), {})]
        query = np.asarray(body["vector"])
        matches = [
            {
                "id": vector["id"],
                "score": float(_cosine(query, np.asarray(vector["values"]))),
                "metadata": vector["metadata"],
            }
            for space in spaces
            for vector in space.values()
        ]
        matches.sort(key=lambda match: -match["score"])
        found = matches[: body["topK"]]
        return JSONResponse({"matches": found, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}})

    async def _fetch(self, request: Request) -> JSONResponse:
        namespace = request.query_params.get("namespace", "")
        space = self.namespaces.get(namespace, {})
        vectors = {id_: space[id_] for id_ in request.query_params.getlist("ids") if id_ in space}
        return JSONResponse({"vectors": vectors, "namespace": namespace})

    async def _list(self, request: Request) -> JSONResponse:
        namespace = request.query_params.get("namespace", "")
        ids = sorted(self.namespaces.get(namespace, {}))
        start, limit = int(request.query_params.get("paginationToken", 0)), int(request.query_params["limit"])
        body: dict[str, Any] = {"vectors": [{"id": id_} for id_ in ids[start : start + limit]], "namespace": namespace}
        if start + limit < len(ids):
            body["pagination"] = {"next": str(start + limit)}
        return JSONResponse(body)

    async def _delete(self, request: Request) -> JSONResponse:
        body = await request.json()
        if body["namespace"] not in self.namespaces:
            return _data_error(404, "Namespace not found")
        if body.get("deleteAll"):
            del self.namespaces[body["namespace"]]
        for id_ in body.get("ids", ()):
            self.namespaces[body["namespace"]].pop(id_, None)
        return JSONResponse({})

    async def _stats(self, request: Request) -> JSONResponse:
        counts = {name: {"vectorCount": len(space)} for name, space in self.namespaces.items()}
        total = sum(count["vectorCount"] for count in counts.values())
        return JSONResponse({"namespaces": counts, "dimension": 8, "indexFullness": 0, "totalVectorCount": total})


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def _control_error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}, "status": status}, status_code=status)


def _data_error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"code": status, "message": message, "details": []}, status_code=status)
