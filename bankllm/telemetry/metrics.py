"""Metrics of the server, or of all workers that share its folder: Prometheus metrics and a short summary.

Labels contain the template of a route, never a path or a customer id, so the number of series stays small.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from bankllm import __version__
from bankllm.errors import StoreError
from bankllm.telemetry.multiprocess import AllWorkers, live_workers, shared_folder
from bankllm.telemetry.request_window import WINDOW_MINUTES, Period, RequestWindow

GaugeMode = Literal["livemax", "livesum", "livemostrecent"]
Stage = Literal["queue", "tokenise", "encode", "classify", "retrieve", "respond"]

# OpenTelemetry's semantic conventions for http.server.request.duration, in seconds.
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *HTTP_BUCKETS)
# OpenTelemetry's semantic conventions for generative AI; gen_ai.operation.name is `understand`, `word` or `chat`.
FIRST_TOKEN_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BUCKETS = (1, 4, 16, 32, 64, 128, 256, 1024)
GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model")
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

# Quantile and the requests that it needs, by the early-stopping rule of MLPerf Inference with confidence 0.99.
PERCENTILES = {"latency_p50_ms": (0.50, 11), "latency_p95_ms": (0.95, 130), "latency_p99_ms": (0.99, 662)}


class ServerMetrics:
    """Raises `UsageError` for a folder that does not exist."""

    def __init__(self, model: str) -> None:
        self._folder = shared_folder()
        self._window = RequestWindow(self._folder)
        self._registry = registry = CollectorRegistry()
        request = ("route", "method", "status")
        self._requests = Counter("http_requests", "Requests answered.", request, registry=registry)
        text = "Time from the first byte of the request to the last byte of the reply."
        name = "http_request_duration_seconds"
        self._durations = Histogram(name, text, request, buckets=HTTP_BUCKETS, registry=registry)
        text = "Time that a chat request spends in one stage."
        stages = Histogram("bankllm_stage_duration_seconds", text, ("stage",), buckets=STAGE_BUCKETS, registry=registry)
        text = "Number of messages in one pass of the encoder."
        self._batches = Histogram("bankllm_batch_size", text, buckets=(1, 2, 4, 8, 16, 32), registry=registry)
        text = "Chats answered, by the responder that generated the reply and the reason for a fallback (none without)."
        self._replies = Counter("bankllm_replies", text, ("responder", "fallback"), registry=registry)
        text = "Chats answered although the message store failed, by operation: memory (reading history) or storing."
        unavailable = Counter("bankllm_unavailable", text, ("what",), registry=registry)
        text = "Texts whose embedding was requested, by its source; a miss is a text that the model encoded."
        lookups = Counter("bankllm_embedding_lookups", text, ("found",), registry=registry)
        text = "Chats, by what understood the message and the reason why rules did it (none without)."
        self._understood = Counter("bankllm_understood", text, ("by", "fallback"), registry=registry)
        text = "Time from the arrival of a request to the first token, or of a chat to the first words of its reply."
        name = "gen_ai_server_time_to_first_token_seconds"
        self._first_tokens = Histogram(name, text, GEN_AI, buckets=FIRST_TOKEN_BUCKETS, registry=registry)
        text, name = "Mean time per token after the first one.", "gen_ai_server_time_per_output_token_seconds"
        self._per_token = Histogram(name, text, GEN_AI, buckets=PER_TOKEN_BUCKETS, registry=registry)
        text, name = "Time from the arrival of a request to its last token.", "gen_ai_server_request_duration_seconds"
        self._generations = Histogram(name, text, GEN_AI, buckets=FIRST_TOKEN_BUCKETS, registry=registry)
        text, labels = "Tokens of a prompt (input) or of a text (output).", (*GEN_AI, "gen_ai_token_type")
        self._tokens = Histogram("gen_ai_client_token_usage", text, labels, buckets=TOKEN_BUCKETS, registry=registry)
        text, name = "Time that a request waits for the language model.", "bankllm_generation_queue_seconds"
        self._generation_queue = Histogram(name, text, GEN_AI[:1], buckets=STAGE_BUCKETS, registry=registry)
        text = "Mean number of requests that were generated together with a request, and itself."
        name = "bankllm_generation_batch_size"
        self._generation_batch = Histogram(name, text, buckets=(1, 2, 3, 4, 8, 16), registry=registry)
        # These series exist from the start, so that a rate over them is 0 instead of absent.
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._unavailable = {what: unavailable.labels(what) for what in ("memory", "storing")}
        self._lookup_hits, self._lookup_misses = lookups.labels("memory"), lookups.labels("miss")
        self._info("bankllm_build_info", "Version and model of the server", {"version": __version__, "model": model})
        self._update_queue: Callable[[], None] = lambda: None
        self._update_outbox: Callable[[], None] = lambda: None
        self._exported = registry
        if self._folder is None:
            ProcessCollector(registry=registry)
        else:
            self._exported = CollectorRegistry()
            self._exported.register(AllWorkers(self._folder))

    def _gauge(self, name: str, text: str, mode: GaugeMode, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _info(self, name: str, text: str, facts: Mapping[str, str]) -> None:
        gauge = self._gauge(name, f"{text}, as labels; the value is always 1.", "livemax", tuple(facts))
        gauge.labels(*facts.values()).set(1)

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is a template (`/api/v1/chat`), or one word for all unmatched paths."""
        labels = (route, method, status)
        self._requests.labels(*labels).inc()
        self._durations.labels(*labels).observe(seconds)
        if not is_monitoring_route(route):
            self._window.add(seconds, status >= 500)

    def observe_batch(self, size: int) -> None:
        self._batches.observe(size)
        self._update_queue()

    def observe_reply(
        self, stages: Mapping[str, float], responder: str, fallback: str | None = None, unavailable: Sequence[str] = ()
    ) -> None:
        """Count one answered chat: stage → seconds, and the fields `fallback` and `unavailable` of its reply."""
        for stage, seconds in stages.items():
            self._stages[stage].observe(seconds)
        self._replies.labels(responder, fallback or "none").inc()
        for what in unavailable:
            self._unavailable[what].inc()

    def observe_understood(self, by: str, fallback: str | None) -> None:
        self._understood.labels(by, fallback or "none").inc()

    def observe_first_word(self, responder: str, seconds: float) -> None:
        """Count the time from a chat's arrival to the first words of its reply."""
        self._first_tokens.labels("chat", responder).observe(seconds)

    def observe_generated(
        self,
        *,
        model: str,
        task: str,
        queue_s: float,
        first_s: float,
        total_s: float,
        prompt_tokens: int,
        output_tokens: int,
        batch: float,
    ) -> None:
        """Count one text of the language model; see `bankllm.assistant.language.engine_client.Generated`."""
        labels = (task, model)
        self._first_tokens.labels(*labels).observe(first_s)
        self._generations.labels(*labels).observe(total_s)
        if output_tokens > 1:
            self._per_token.labels(*labels).observe((total_s - first_s) / (output_tokens - 1))
        self._tokens.labels(*labels, "input").observe(prompt_tokens)
        self._tokens.labels(*labels, "output").observe(output_tokens)
        self._generation_queue.labels(task).observe(queue_s)
        self._generation_batch.observe(batch)
        self._window.add_generated(first_s, output_tokens)

    def observe_lookups(self, hits: int, misses: int) -> None:
        self._lookup_hits.inc(hits)
        self._lookup_misses.inc(misses)

    def set_model_info(self, facts: Mapping[str, str]) -> None:
        self._info("bankllm_model_info", "Facts about the loaded models", facts)

    def watch_queue(self, read: Callable[[], int]) -> None:
        """Export the number of messages that wait for the encoder, read at each of its passes and at every `render`."""
        depth = self._gauge("bankllm_queue_depth", "Number of messages that wait for the encoder.", "livesum")
        self._update_queue = lambda: depth.set(read())

    def watch_outbox(self, read: Callable[[], tuple[float, float]]) -> None:
        """Export at every `render` the number of changes not yet sent to Pinecone, and the age of the oldest one in s.

        If `read` raises `StoreError`, both values are NaN. The workers share one outbox: the latest value counts.
        """
        text = "Number of changes of the message store that were not yet sent to Pinecone."
        depth = self._gauge("bankllm_outbox_depth", text, "livemostrecent")
        text = "Age of the oldest change that was not yet sent to Pinecone."
        age = self._gauge("bankllm_outbox_oldest_seconds", text, "livemostrecent")

        def update() -> None:
            try:
                changes, oldest_s = read()
            except StoreError:
                changes = oldest_s = math.nan
            depth.set(changes)
            age.set(oldest_s)

        self._update_outbox = update

    def render(self) -> tuple[bytes, str]:
        """The metrics in Prometheus' text format, and its content type."""
        self._update_queue()
        self._update_outbox()
        return generate_latest(self._exported), TEXT_FORMAT

    def summary(self) -> dict[str, int | float | str | None]:
        """The window's requests over all workers, without those of the monitoring routes.

        A percentile is at most 1 % from the exact one. `error_rate` is the share of status 5xx. `tokens_per_s` are the
        language model's tokens in the window divided by its length, times to first token those of its requests.
        """
        total, recent, seconds = self._window.read()
        count = int(recent.durations.count)
        percentiles = {
            name: round(1000 * (recent.durations.get_quantile_value(q) or 0.0), 3) if count >= needed else None
            for name, (q, needed) in PERCENTILES.items()
        }
        return percentiles | {
            "requests_total": total,
            "error_rate": recent.failed / count if count else None,
            "time_to_first_token_p50_ms": _first_token_ms(recent, 0.5),
            "time_to_first_token_p95_ms": _first_token_ms(recent, 0.95),
            "tokens_per_s": round(recent.tokens / max(seconds, 1.0), 3),
            "window": f"the last {WINDOW_MINUTES} minutes",
            "window_requests": count,
            "workers": len(live_workers(self._folder)) if self._folder else 1,
        }


def _first_token_ms(window: Period, quantile: float) -> float | None:
    found = window.first_tokens.get_quantile_value(quantile) if window.first_tokens.count else None
    return None if found is None else round(1000 * found, 3)


def is_monitoring_route(route: str) -> bool:
    return route.startswith(("/health", "/metrics"))
