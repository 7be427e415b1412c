"""A small finished run made by the real code: several kinds of rows, records, pages, a plot, executed notebooks."""

import gzip
import random
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from bankllm.evidence.known_facts import KNOWN_DATA
from bankllm.evidence.manifest import Manifest, NotebookRun
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.profiles import PROFILES

MODEL = {
    "model": "all-MiniLM-L6-v2",
    "model_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_run(folder: Path) -> Path:
    """Writes a run into `folder`, seals it and returns the folder."""
    rng = random.Random(3)
    chat = _open(folder, "01_local_validation")
    chat.write_rows("chat", ({"latency_ms": 5 + rng.expovariate(1 / 4), "status": 200} for _ in range(140)))
    chat.measure_percentiles("chat.sequential", "chat", title="Chat, one at a time", column="latency_ms")
    ok = {"column": "status", "equals": "200", "unit": "share"}
    chat.measure("chat.sequential.ok", "proportion", "chat", title="Chat, answered with 200", **ok)
    _load(_open(folder, "02_load_testing"), rng)
    _training(_open(folder, "03_finetuning_benchmark"), rng)
    (folder / "plots").mkdir()
    (folder / "plots/01_latency.png").write_bytes(b"\x89PNG\r\n\x1a\n" + rng.randbytes(400))
    render(folder)
    names = ("01_local_validation", "02_load_testing", "03_finetuning_benchmark")
    for name in names:
        write_notebook(folder, name)
    manifest = Manifest(
        run_id=folder.name,
        profile="smoke",
        command="bankllm run --profile smoke",
        started=datetime(2026, 11, 23, 10, 15, tzinfo=UTC),
        git_commit=COMMIT,
        git_dirty=False,
        environment={"cpu": "a CPU", "cores": 2, "memory_gib": 7.5},
        notebooks=[NotebookRun(name=name, status="done", seconds=1.5) for name in names],
    )
    seal_run(folder, manifest, complete=False)
    return folder


def replaced(content: bytes, old: str, new: str) -> bytes:
    """Returns the content of a text file, plain or gzip, with the first `old` replaced."""
    if content.startswith(b"\x1f\x8b"):
        return gzip.compress(replaced(gzip.decompress(content), old, new), mtime=0)
    return content.replace(old.encode(), new.encode(), 1)


def replace_text(path: Path, old: str, new: str) -> None:
    """Replaces the first `old` in a text file, plain or gzip."""
    path.write_bytes(replaced(path.read_bytes(), old, new))


def _open(folder: Path, notebook: str) -> Run:
    run = Run(folder, notebook, PROFILES["smoke"])
    run.conditions |= {"dataset": "teller77", **KNOWN_DATA["teller77"], **MODEL, "host": "2 cores, x86_64, Linux"}
    return run


def _load(run: Run, rng: random.Random) -> None:
    """A valid load in a gzip file, one with an overloaded generator, two with an exclusion, and one not measured."""
    for driver, busy, because in (("locust", 0.4, ""), ("openloop", 0.97, ""), ("health", 0.2, "the server restarted")):
        rows = [{"kind": "chat", "latency_ms": 20 + rng.expovariate(1 / 9), "error": ""} for _ in range(132)]
        run.write_rows(f"load_{driver}", rows)
        summary = {"requests_per_s": 132 / 3.7, "generator_cpu_share": busy, "invalid_because": because}
        run.write_rows(f"load_{driver}_summary", [summary])
        options = {
            "raw": f"load_{driver}",
            "where": {"kind": "chat"},
            "column": "latency_ms",
            "percentiles": (0.5, 0.95),
        }
        run.measure_percentiles(f"load.{driver}", title=f"Chat latency ({driver})", **options)
        speed = {"unit": "requests/s", "column": "requests_per_s"}
        run.measure(f"load.{driver}.throughput", "single", f"load_{driver}_summary", title=f"Rate ({driver})", **speed)
    run.write_rows("soak", [{"rss_bytes": 3e8 + i} for i in range(8)])
    soak = {"unit": "bytes", "column": "rss_bytes", "invalid_because": "the soak was cut short"}
    run.measure("load.soak.memory", "maximum", "soak", title="Most memory in the soak", **soak)
    run.not_measured("load.ab.p95_ms", title="Chat latency (ab), p95", unit="ms", why="ab is not installed")


def _training(run: Run, rng: random.Random) -> None:
    labels = [f"intent_{i}" for i in range(5)]
    rows = [
        {"text_id": i, "actual": (actual := labels[i % 5]), "predicted": actual if rng.random() < 0.9 else "intent_0"}
        for i in range(150)
    ]
    run.write_rows("answers", [row | {"confidence": rng.random()} for row in rows])
    how = {"unit": "share", "conditions": {"configuration": "LoRA r=8"}}
    for metric in ("accuracy", "macro_f1"):
        run.measure(f"training.lora_r8.{metric}", metric, "answers", title=f"LoRA r=8: {metric}", **how)
    run.write_rows("costs", [{"total_seconds": 61.25, "adapter_bytes": 191232}])
    cost = {"conditions": how["conditions"], "title": "LoRA r=8: training"}
    run.measure("training.lora_r8.train_s", "single", "costs", unit="s", column="total_seconds", **cost)


def write_notebook(folder: Path, name: str) -> None:
    """Writes an executed notebook of the run that shows its table of records."""
    table = Run(folder, name, PROFILES["smoke"]).table()
    bundle = {"text/html": table._repr_html_(), "text/plain": table.to_string()}
    cell = new_code_cell("run.table()", outputs=[new_output("execute_result", data=bundle, execution_count=1)])
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=[cell]), folder / "notebooks" / f"{name}.ipynb")
