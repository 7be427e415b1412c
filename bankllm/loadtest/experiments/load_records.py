"""Records of load tests: ids, titles and statistics, as keyword arguments of `evidence.run.Run.measure`.

for measure in load_records.of_sweep("chat_w1", steps, raw="sweep"):
    run.measure(**measure)
"""

from collections.abc import Iterator, Sequence
from typing import Any

from bankllm.loadtest.experiments.driver_agreement import BUCKETS, TOLERANCE
from bankllm.loadtest.experiments.rate_sweep import MODEL_SERVED, NOT_DEGRADED, OBJECTIVE_MS, SERVED, Step, knee_of
from bankllm.loadtest.experiments.soak import MAX_GROWTH, SHARE

Measure = dict[str, Any]
PERCENTILES = (0.5, 0.95, 0.99)
BRIEF = (0.5, 0.95)


def record(id: str, title: str, unit: str, statistic: str, **rest: Any) -> Measure:
    """Return one record: its statistic with the arguments, the raw file and the conditions in `rest`."""
    return {"id": id, "title": title, "unit": unit, "statistic": statistic, **rest}


def percentiles(
    prefix: str, title: str, column: str, wanted: Sequence[float] = PERCENTILES, **rest: Any
) -> Iterator[Measure]:
    """Yield percentiles of a column in ms, with the ids `<prefix>.p50_ms` and so on. `rest` is added to each."""
    for q in wanted:
        name = f"p{100 * q:.0f}"
        yield record(f"{prefix}.{name}_ms", f"{title}, {name}", "ms", "percentile", column=column, q=q, **rest)


def ok(prefix: str, title: str, **rest: Any) -> Measure:
    """Return the share of requests without an error, with the id `<prefix>.ok`."""
    return record(f"{prefix}.ok", title, "share", "proportion", column="error", equals="", **rest)


def of_load(key: str, label: str, raw: str, **rest: Any) -> Iterator[Measure]:
    """Yield throughput, chat latency and success share of one load: rows in `raw`, summary in `<raw>_summary`."""
    speed = {"raw": f"{raw}_summary", "column": "requests_per_s", **rest}
    yield record(f"{key}.throughput", f"Throughput ({label})", "requests/s", "single", **speed)
    yield from percentiles(key, f"Chat latency ({label})", "latency_ms", raw=raw, where={"kind": "chat"}, **rest)
    yield ok(key, f"Requests without an error ({label})", raw=raw, **rest)


def of_answers(key: str, label: str, **rest: Any) -> Iterator[Measure]:
    """Yield the shares of the questions that were answered right, wrong, by a question, and by a person."""
    where = {**rest.pop("where", {}), "asked": "question"}
    for answer in ("right", "wrong", "asked back", "handed over"):
        about: Measure = {"column": "answer", "equals": answer, "where": where, **rest}
        id = f"{key}.{answer.replace(' ', '_')}"
        yield record(id, f"Questions with the outcome “{answer}” ({label})", "share", "proportion", **about)


def of_curve(steps: Sequence[Step], raw: str, pieces: str, **rest: Any) -> Iterator[Measure]:
    """Yield the knee of the language model's path, and what users get at each rate: by whom, how fast, and how right.

    `raw` has the rows of the requests, and `pieces` those of the pieces of their streams.
    """
    title = "Highest offered rate at which the language model has time for 90 % of the chats"
    knee: Measure = {"offered": "offered_per_s", "where": {"judged": "yes"}, "raw": raw, **NOT_DEGRADED, **rest}
    yield record("load.model.knee", title, "requests/s", "share_knee", **knee)
    for step in steps:
        key, label = f"load.model.at_{f'{step.rate:g}'.replace('.', '_')}", f"{step.rate:g}/s, streamed"
        where = {"offered_per_s": str(float(step.rate))}
        about: Measure = {"invalid_because": step.result.invalid_because, **rest}
        rows: Measure = {"raw": raw, "where": where, **about}
        by_model = {"column": "served_by", "equals": "model"}
        yield record(f"{key}.share", f"Chats served by the model ({label})", "share", "proportion", **by_model, **rows)
        yield record(f"{key}.goodput", f"Goodput ({label})", "requests/s", "goodput", **MODEL_SERVED, **rows)
        answered: Measure = {**rows, "where": {**where, "error": ""}}
        yield from percentiles(f"{key}.ttft", f"Time to the first word ({label})", "ttft_ms", BRIEF, **answered)
        yield from percentiles(key, f"Time to the whole reply ({label})", "latency_ms", **rows)
        yield ok(key, f"Requests without an error ({label})", **rows)
        yield from of_answers(key, label, **rows)
        model: Measure = {"raw": pieces, "where": {**where, "served_by": "model"}, **about}
        speed = {"start": "at_s", "end": "at_s", **model}
        yield record(f"{key}.tokens", f"Tokens of the model per second ({label})", "tokens/s", "throughput", **speed)
        gaps: Measure = {**model, "where": {**model["where"], "place": "later"}}
        title = f"Time between two tokens ({label})"
        yield record(f"{key}.itl.mean_ms", f"{title}, mean", "ms", "mean", column="gap_ms", **gaps)
        yield from percentiles(f"{key}.itl", title, "gap_ms", (0.95, 0.99), **gaps)


def of_cache(raw: str, **rest: Any) -> Iterator[Measure]:
    """Yield the latency of each workload, and the spread of the medians."""
    for name in ("cold", "warm", "zipf", "repeated"):
        where = {"where": {"workload": name}, "raw": raw, **rest}
        yield from percentiles(f"load.cache.{name}", f"Chat latency, texts {name}", "latency_ms", BRIEF, **where)
    title = "Spread of the median latencies of cold, warm, Zipf and repeated texts"
    yield record("load.cache.spread", title, "share", **_spread("workload", 0.5), raw=raw, **rest)


def of_sweep(name: str, steps: Sequence[Step], raw: str) -> Iterator[Measure]:
    """Yield the knee of one sweep, and the goodput and latency at the knee. `name` is kind and workers: `chat_w2`."""
    kind, _, workers = name.partition("_w")
    key, label = f"load.sweep.{name}", f"{kind}, {workers} worker{'' if workers == '1' else 's'}"
    conditions = {"loop": "open", "arrivals": "poisson", "server_workers": int(workers), "objective_ms": OBJECTIVE_MS}
    where, common = {"sweep": name, "judged": "yes"}, {"raw": raw, "conditions": conditions}
    title = f"Highest offered rate with p95 within {OBJECTIVE_MS} ms ({label})"
    rate: Measure = {"where": where, "offered": "offered_per_s", **SERVED, **common}
    yield record(f"{key}.knee", title, "requests/s", "knee", **rate)
    if (knee := knee_of(steps)) is None:
        return
    common["where"] = {**where, "offered_per_s": str(knee)}
    yield record(f"{key}.goodput", f"Goodput at the knee ({label})", "requests/s", "goodput", **SERVED, **common)
    yield from percentiles(key, f"Latency at the knee ({label})", "latency_ms", BRIEF, **common)


def of_cost(chunks: str, chats: str, *, price_per_hour: float, cores: int, **rest: Any) -> Iterator[Measure]:
    """Yield what chats cost by path, of one user and of many, and how many chats ask the language model.

    `chunks` and `chats` are the raw files with the rows of `unit_cost.measure_cost`. Without a price, `price_per_hour`
    is 0, and there are no records of money.
    """
    for path, what in (("rules", "rules and templates"), ("model", "as installed, with the language model")):
        for load, label in (("busy", "many users"), ("one", "one user")):
            key, title = f"load.cost.{path}.{load}", f"{what}, {label}"
            common: Measure = {"raw": chunks, "where": {"path": path, "load": load}, **rest}
            clock = {"before": "all_before_s", "after": "all_after_s", "per": "chats", **common}
            yield record(f"{key}.cpu", f"CPU time of 1,000 chats ({title})", "s/1000 chats", "consumption", **clock)
            about = {"column": "all_memory_bytes", **common}
            yield record(f"{key}.memory", f"Peak memory ({title})", "bytes", "maximum", **about)
            if price_per_hour:
                paid: Measure = {"price_per_hour": price_per_hour, "cores": cores, **clock}
                title = f"Price of a million chats ({title}; {price_per_hour:g} USD an hour for {cores} cores)"
                yield record(f"{key}.price", title, "USD/million chats", "price", **paid)
    engine = {"before": "engine_before_s", "after": "engine_after_s", "per": "texts", "raw": chunks, **rest}
    for load, label in (("busy", "several at once"), ("one", "one at a time")):
        title = f"CPU time of 1,000 texts of the language model, {label}"
        where = {"path": "model", "load": load}
        yield record(f"load.cost.texts.{load}.cpu", title, "s/1000 texts", "consumption", where=where, **engine)
    title = "Chats that ask the language model"
    share: Measure = {"column": "consulted", "equals": "yes", "raw": chats, "where": {"path": "model"}, **rest}
    yield record("load.cost.consulted", title, "share", "proportion", **share)


def of_crosscheck(table: str, requests: str) -> Iterator[Measure]:
    """Yield the share of comparisons that agree (raw file `table`) and the spread of the drivers (`requests`)."""
    title = "Comparisons of the load tools, and with the server's histogram, that are within tolerance"
    conditions = {"tolerance": TOLERANCE, "histogram_buckets": BUCKETS}
    agrees: Measure = {"raw": table, "column": "agrees", "equals": "yes", "conditions": conditions}
    yield record("load.crosscheck.agree", title, "share", "proportion", **agrees)
    for q in BRIEF:
        name = f"p{100 * q:.0f}"
        common: Measure = {"raw": requests, "conditions": conditions}
        title = f"Spread of the load tools, one user, {name}"
        yield record(f"load.crosscheck.{name}_spread", title, "share", **_spread("driver", q), **common)


def of_session(driver: str, runs: int, raw: str, **rest: Any) -> Iterator[Measure]:
    """Yield minimum, median and maximum over the runs of one driver: rows in `raw`, summaries in `<raw>_summary`."""
    key = f"load.session.{driver.replace('-', '')}"
    chats = {"raw": raw, "where": {"kind": "chat"}, "of": "percentile", "column": "latency_ms", "q": 0.95}
    speed = {"raw": f"{raw}_summary", "of": "single", "column": "requests_per_s"}
    for pick in ("min", "median", "max"):
        label, how = f"with {driver}, {pick} of {runs} runs", {"group": "run", "pick": pick, **rest}
        yield record(f"{key}.throughput_{pick}", f"Throughput {label}", "requests/s", "across", **speed, **how)
        yield record(f"{key}.p95_ms_{pick}", f"Chat latency {label}, p95", "ms", "across", **chats, **how)
    yield ok(key, f"Requests without an error with {driver}, {runs} runs", raw=raw, **rest)


def of_soak(
    raw: str, memory: str, *, rate: float, minutes: float, key: str = "load.soak", **rest: Any
) -> Iterator[Measure]:
    """Yield memory growth, success share and chat latency of a soak; `rate` is in requests per second."""
    conditions = {"loop": "open", "rate": rate, "share_of_knee": SHARE, "minutes": minutes, "flat_up_to": MAX_GROWTH}
    common = {"conditions": conditions, **rest}
    title = f"Growth of the server's memory in {minutes:.1f} minutes of steady load"
    grown = {"raw": memory, "at": "at_s", "value": "rss_bytes", **common}
    yield record(f"{key}.memory_growth", title, "share", "growth", **grown)
    yield ok(key, "Requests without an error in the soak", raw=raw, **common)
    yield from percentiles(key, "Chat latency in the soak", "latency_ms", raw=raw, **common)


def _spread(group: str, q: float) -> Measure:
    column = {"of": "percentile", "column": "latency_ms", "q": q}
    return {"statistic": "across", "group": group, "pick": "spread", **column}
