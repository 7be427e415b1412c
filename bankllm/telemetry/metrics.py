"""What the server counts about itself, for Prometheus and for a person in a hurry.

Histograms keep OpenTelemetry's boundaries: with coarser ones a 10 ms service reads as p95 = 95 ms.
Labels take the route's template, never a raw path or a customer, so that the number of series stays small.
Each `ServerMetrics` has its own registry and counts for itself. Where workers share a folder (`workers`), each
speaks for all of them, and a process has one: prometheus_client keeps its values there by process.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from bankllm import __version__
from bankllm.errors import StoreError
from bankllm.telemetry.multiprocess import AllWorkers, shared_folder
from bankllm.telemetry.recent_requests import Recent

Stage = Literal["queue", "tokenise", "encode", "classify", "retrieve", "respond"]

# OpenTelemetry's semantic conventions for http.server.request.duration, in seconds; likewise `_OTHER` below.
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *HTTP_BUCKETS)
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})

PERCENTILES = {"latency_p50_ms": (0.50, 11), "latency_p95_ms": (0.95, 130), "latency_p99_ms": (0.99, 662)}
"""Each percentile of `summary` and the requests it needs (MLPerf Inference's early-stopping rule, c = 0.99)."""


class ServerMetrics:
    """Metrics of this process, or of all workers that share its folder.

    `window` bounds how many raw durations `summary` looks back on. Raises `UsageError` for a folder that cannot be
    used, or for a second `ServerMetrics` of the same process in it.
    """

    def __init__(self, model: str, version: str = __version__, window: int = 10_000) -> None:
        folder = shared_folder()
        self._recent = Recent(window, folder)
        self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter("http_requests", "Requests answered.", labels, registry=self._registry)
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Time from the request's first byte in to the reply's last byte out.",
            labels,
            buckets=HTTP_BUCKETS,
            registry=self._registry,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        stages = Histogram(
            "bankllm_stage_duration_seconds",
            "Time that a chat request spent in one stage.",
            ("stage",),
            buckets=STAGE_BUCKETS,
            registry=self._registry,
        )
        # A series from the start on, so that a rate over it is 0 and not absent.
        self._stages: dict[str, Histogram] = {name: stages.labels(name) for name in get_args(Stage)}
        self._batches = Histogram(
            "bankllm_batch_size",
            "Messages that one pass of the encoder had.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self._registry,
        )
        info = Gauge(
            "bankllm_build_info",
            "Always 1; the labels tell.",
            ("version", "model"),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        info.labels(version, model).set(1)
        self._replies = Counter(
            "bankllm_replies",
            "Chats answered, by who worded the reply and why it was not who was asked (none where it was).",
            ("responder", "fallback"),
            registry=self._registry,
        )
        self._reply_series: dict[tuple[str, str], Counter] = {}
        unavailable = Counter(
            "bankllm_unavailable",
            "Chats answered without something that did not answer: memory to read, or storing the turn.",
            ("what",),
            registry=self._registry,
        )
        self._unavailable = {what: unavailable.labels(what) for what in ("memory", "storing")}
        lookups = Counter(
            "bankllm_embedding_lookups",
            "Texts whose embedding was asked for, by where it came from; a miss is one that the model encoded.",
            ("found",),
            registry=self._registry,
        )
        self._lookups = [lookups.labels(found) for found in ("memory", "shared", "miss")]
        self._waiting: Callable[[], int] | None = None
        self._looks: list[Callable[[], None]] = []
        self._shown = self._registry
        if folder is None:
            ProcessCollector(registry=self._registry)
        else:
            self._shown = CollectorRegistry()
            self._shown.register(AllWorkers(folder))

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is the template (`/api/v1/chat`), one fixed word where none matched."""
        labels = (route, method if method in METHODS else "_OTHER", status)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = (self._requests.labels(*labels), self._durations.labels(*labels))
        requests, durations = series
        requests.inc()
        durations.observe(seconds)
        if not is_upkeep(route):
            self._recent.add(seconds, status >= 500)

    def observe_batch(self, size: int) -> None:
        """Count one pass of the encoder and its messages, and look at the queue that it leaves behind."""
        self._batches.observe(size)
        self._look_at_queue()

    def observe_reply(self, stages: Mapping[str, float], responder: str, fallback: str | None = None) -> None:
        """Count one answered chat: its stages in seconds, who worded it, and why that is not who was asked."""
        for stage, seconds in stages.items():
            self._stages[stage].observe(seconds)
        labels = (responder, fallback or "none")
        series = self._reply_series.get(labels)
        if series is None:
            series = self._reply_series[labels] = self._replies.labels(*labels)
        series.inc()

    def observe_unavailable(self, what: str) -> None:
        """Count one chat that was answered without `memory`, or without `storing`."""
        self._unavailable[what].inc()

    def observe_lookups(self, memory: int, shared: int, missed: int) -> None:
        """Count texts whose embedding the process had, other processes had, or the model had to make."""
        for counter, count in zip(self._lookups, (memory, shared, missed), strict=True):
            if count:
                counter.inc(count)

    def tell_model(self, facts: Mapping[str, str]) -> None:
        """Show what answers, as the labels of one series whose value is always 1. Once, when the models are there."""
        info = Gauge(
            "bankllm_model_info",
            "Always 1; the labels tell.",
            tuple(facts),
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        info.labels(*facts.values()).set(1)

    def watch_queue(self, read: Callable[[], int]) -> None:
        """Show how many messages wait for the encoder; of several workers, of all that live.

        `read` is asked at every pass of the encoder and whenever the metrics are, so that another worker's part is
        as old as its last pass.
        """
        self._depth = Gauge(
            "bankllm_queue_depth",
            "Messages that wait for the encoder.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._waiting = read
        self._looks.append(self._look_at_queue)

    def _look_at_queue(self) -> None:
        if self._waiting is not None:
            self._depth.set(self._waiting())

    def watch_outbox(self, read: Callable[[], tuple[float, float]]) -> None:
        """Show how many changes of the memory Pinecone was not told of yet, and for how many s the oldest waits.

        `read` is asked whenever the metrics are; NaN stands where it raises `StoreError`. The workers share the
        outbox, so that the one that looked last speaks for all.
        """
        texts = {
            "bankllm_outbox_depth": "Changes of the memory that Pinecone was not told of yet.",
            "bankllm_outbox_oldest_seconds": "For how long the oldest of them waits.",
        }
        gauges = [
            Gauge(name, text, registry=self._registry, multiprocess_mode="livemostrecent")
            for name, text in texts.items()
        ]

        def look() -> None:
            try:
                values = read()
            except StoreError:
                values = (math.nan, math.nan)
            for gauge, value in zip(gauges, values, strict=True):
                gauge.set(value)

        self._looks.append(look)

    def render(self) -> tuple[bytes, str]:
        """The metrics in Prometheus' text format, and its content type."""
        for look in self._looks:
            look()
        return generate_latest(self._shown), TEXT_FORMAT

    def summary(self) -> dict[str, int | float | None]:
        """A few figures over the most recent requests of all workers, without those for health and metrics.

        Percentiles are empirical (nearest rank), in ms, and None below the samples in `PERCENTILES`;
        `error_rate` is the share answered with 5xx, None before the first request; `requests_total` counts since
        the start, those of ended workers too, `window` is how many requests the other figures rest on, `workers`
        how many processes are at work.
        """
        total, recent = self._recent.read()
        durations = np.sort(recent["seconds"])
        count = len(durations)
        figures: dict[str, int | float | None] = {
            name: round(1000 * float(durations[math.ceil(q * count) - 1]), 3) if count >= needed else None
            for name, (q, needed) in PERCENTILES.items()
        }
        return figures | {
            "requests_total": total,
            "error_rate": float(recent["failed"].mean()) if count else None,
            "window": count,
            "workers": self._recent.workers(),
        }


def is_upkeep(route: str) -> bool:
    """Whether a route is asked by machines that watch the service, and not by customers."""
    return route.startswith(("/health", "/metrics"))
