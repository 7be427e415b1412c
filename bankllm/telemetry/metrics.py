"""Metrics of the server: Prometheus metrics (`render`) and a short summary (`summary`).

Histograms use OpenTelemetry's bucket boundaries. With coarser buckets, a service that takes 10 ms shows a p95 of
95 ms. Labels contain the template of a route, never a path or a customer id, so the number of series stays small.

Each `ServerMetrics` has its own registry. If several workers share a folder (`multiprocess`), each worker reports the
sums over all of them. A process can then have only one `ServerMetrics`, because prometheus_client stores its values
per process.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from bankllm import __version__
from bankllm.errors import StoreError
from bankllm.telemetry.multiprocess import AllWorkers, live_workers, shared_folder
from bankllm.telemetry.request_window import WINDOW_MINUTES, RequestWindow

Stage = Literal["queue", "tokenise", "encode", "classify", "retrieve", "respond"]

# OpenTelemetry's semantic conventions for http.server.request.duration, in seconds; likewise `_OTHER` below.
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *HTTP_BUCKETS)
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

PERCENTILES = {"latency_p50_ms": (0.50, 11), "latency_p95_ms": (0.95, 130), "latency_p99_ms": (0.99, 662)}
"""Percentile of `summary` → (quantile, smallest number of requests). The numbers follow the early-stopping rule of
MLPerf Inference with confidence 0.99."""


class ServerMetrics:
    """Metrics of this process, or of all workers that share its folder.

    `model` and `version` are labels of `bankllm_build_info`. Raises `UsageError` for a folder that cannot be used.
    """

    def __init__(self, model: str, version: str = __version__) -> None:
        self._folder = folder = shared_folder()
        self._window = RequestWindow(folder)
        self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter("http_requests", "Requests answered.", labels, registry=self._registry)
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Time from the first byte of the request to the last byte of the reply.",
            labels,
            buckets=HTTP_BUCKETS,
            registry=self._registry,
        )
        stages = Histogram(
            "bankllm_stage_duration_seconds",
            "Time that a chat request spends in one stage.",
            ("stage",),
            buckets=STAGE_BUCKETS,
            registry=self._registry,
        )
        # Create the series at the start, so that a rate over it is 0 instead of absent.
        self._stages: dict[str, Histogram] = {name: stages.labels(name) for name in get_args(Stage)}
        self._batches = Histogram(
            "bankllm_batch_size",
            "Number of messages in one pass of the encoder.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        info = Gauge(
            "bankllm_build_info",
            "Version and model of the server, as labels; the value is always 1.",
            ("version", "model"),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        info.labels(version, model).set(1)
        self._replies = Counter(
            "bankllm_replies",
            "Chats answered, by the responder that generated the reply and the reason for a fallback (none without).",
            ("responder", "fallback"),
            registry=self._registry,
        )
        unavailable = Counter(
            "bankllm_unavailable",
            "Chats answered although the message store failed, by operation: memory (reading history) or storing.",
            ("what",),
            registry=self._registry,
        )
        self._unavailable = {what: unavailable.labels(what) for what in ("memory", "storing")}
        lookups = Counter(
            "bankllm_embedding_lookups",
            "Texts whose embedding was requested, by its source; a miss is a text that the model encoded.",
            ("found",),
            registry=self._registry,
        )
        self._lookups = [lookups.labels(found) for found in ("memory", "shared", "miss")]
        self._read_queue_depth: Callable[[], int] | None = None
        self._updates: list[Callable[[], None]] = []
        self._exported = self._registry
        if folder is None:
            ProcessCollector(registry=self._registry)
        else:
            self._exported = CollectorRegistry()
            self._exported.register(AllWorkers(folder))

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request that took `seconds`.

        `route` is the template (`/api/v1/chat`), or one fixed word for all paths that match no route. Requests of the
        monitoring routes are not in the summary.
        """
        labels = (route, method if method in METHODS else "_OTHER", status)
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(seconds)
        if not is_monitoring_route(route):
            self._window.add(seconds, status >= 500)

    def observe_batch(self, size: int) -> None:
        """Count one pass of the encoder with `size` messages, and update the queue depth."""
        self._batches.observe(size)
        self._update_queue_depth()

    def observe_reply(self, stages: Mapping[str, float], responder: str, fallback: str | None = None) -> None:
        """Count one answered chat.

        `stages` is stage → seconds, `responder` the one that generated the reply, and `fallback` the reason why it is
        not the configured responder (None if it is).
        """
        for stage, seconds in stages.items():
            self._stages[stage].observe(seconds)
        self._replies.labels(responder, fallback or "none").inc()

    def observe_unavailable(self, what: str) -> None:
        """Count one chat that was answered although reading (`memory`) or storing (`storing`) messages failed."""
        self._unavailable[what].inc()

    def observe_lookups(self, memory: int, shared: int, missed: int) -> None:
        """Count texts by the source of their embedding: memory of the process, shared cache, or the model."""
        for counter, count in zip(self._lookups, (memory, shared, missed), strict=True):
            if count:
                counter.inc(count)

    def set_model_info(self, facts: Mapping[str, str]) -> None:
        """Export facts about the loaded models as the labels of one series with the value 1.

        Call it once, after the models are loaded; a second call raises `ValueError`.
        """
        info = Gauge(
            "bankllm_model_info",
            "Facts about the loaded models, as labels; the value is always 1.",
            tuple(facts),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        info.labels(*facts.values()).set(1)

    def watch_queue(self, read: Callable[[], int]) -> None:
        """Export the number of messages that wait for the encoder, summed over the live workers.

        `read` is called at every pass of the encoder and at every `render`. The number of another worker is therefore
        as old as the last pass of that worker.
        """
        self._depth = Gauge(
            "bankllm_queue_depth",
            "Number of messages that wait for the encoder.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._read_queue_depth = read
        self._updates.append(self._update_queue_depth)

    def _update_queue_depth(self) -> None:
        if self._read_queue_depth is not None:
            self._depth.set(self._read_queue_depth())

    def watch_outbox(self, read: Callable[[], tuple[float, float]]) -> None:
        """Export the number of changes not yet sent to Pinecone, and the age of the oldest one in s.

        `read` returns both and is called at every `render`; if it raises `StoreError`, both values are NaN. The
        workers share the outbox, so the most recent value of any worker is exported.
        """
        texts = {
            "bankllm_outbox_depth": "Number of changes of the message store that were not yet sent to Pinecone.",
            "bankllm_outbox_oldest_seconds": "Age of the oldest change that was not yet sent to Pinecone.",
        }
        gauges = [
            Gauge(name, text, registry=self._registry, multiprocess_mode="livemostrecent")
            for name, text in texts.items()
        ]

        def update() -> None:
            try:
                values = read()
            except StoreError:
                values = (math.nan, math.nan)
            for gauge, value in zip(gauges, values, strict=True):
                gauge.set(value)

        self._updates.append(update)

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in Prometheus' text format, and its content type."""
        for update in self._updates:
            update()
        return generate_latest(self._exported), TEXT_FORMAT

    def summary(self) -> dict[str, int | float | str | None]:
        """Summarise the requests of the window over all workers, without those of the monitoring routes.

        - `latency_p50_ms`, `latency_p95_ms`, `latency_p99_ms`: percentiles in ms, at most 1 % from the exact ones; None
          with fewer requests than `PERCENTILES` requires;
        - `requests_total`: requests since the start, including those of ended workers;
        - `error_rate`: share of the requests in the window with a status 5xx; None without requests;
        - `window` and `window_requests`: the time that the figures are computed from, and the requests in it;
        - `workers`: number of live worker processes.

        Requests of other workers appear after at most a second.
        """
        total, recent = self._window.read()
        count = int(recent.durations.count)
        percentiles = {
            name: round(1000 * (recent.durations.get_quantile_value(q) or 0.0), 3) if count >= needed else None
            for name, (q, needed) in PERCENTILES.items()
        }
        return percentiles | {
            "requests_total": total,
            "error_rate": recent.failed / count if count else None,
            "window": f"the last {WINDOW_MINUTES} minutes",
            "window_requests": count,
            "workers": len(live_workers(self._folder)) if self._folder else 1,
        }


def is_monitoring_route(route: str) -> bool:
    """Return whether a route serves health checks or metrics, rather than customers."""
    return route.startswith(("/health", "/metrics"))
