"""A small finished run with rows as notebooks write them, sealed as by the pipeline."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bankllm import __version__
from bankllm.evidence.known_facts import KNOWN_DATA
from bankllm.evidence.manifest import Manifest, NotebookRun, write_manifest
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.profiles import PROFILES
from tests.support.evidence_run import MODEL, write_notebook

BANKING77 = {
    "dataset": "banking77",
    **KNOWN_DATA["banking77"],
    "intents": 77,
    **MODEL,
}
TELLER77 = BANKING77 | {"dataset": "teller77", **KNOWN_DATA["teller77"], "intents": 84}
ENVIRONMENT = {
    "cpu": "Sample CPU",
    "cores_usable": 2,
    "cpu_limit": None,
    "memory_gib": 8.0,
    "memory_limit_gib": None,
    "gpus": [],
    "machine": "x86_64",
    "libraries": {"bankllm": __version__},
}


def fill(run: Run, *, data: dict[str, Any] = BANKING77, wrong: Sequence[int] = range(14), slower: float = 1.0) -> None:
    """Adds rows and records: 200 predictions, wrong at the indices `wrong`; 200 latencies, 1 … 200 ms × `slower`."""
    run.conditions |= data
    answers = [{"text_id": i, "actual": "a", "predicted": "b" if i in wrong else "a"} for i in range(200)]
    run.write_rows("answers", answers)
    how = {"configuration": "LoRA r=8"}
    run.measure(
        "training.lora_r8.accuracy", "accuracy", "answers", title="LoRA r=8: accuracy", unit="share", conditions=how
    )
    run.write_rows("costs", [{"seconds": 160.5, "bytes": 322552}])
    for column, name, title, unit in (
        ("seconds", "train_s", "training time, embedding included", "s"),
        ("bytes", "adapter", "weights on disk", "bytes"),
    ):
        run.measure(
            f"training.lora_r8.{name}",
            "single",
            "costs",
            title=f"LoRA r=8: {title}",
            unit=unit,
            conditions=how,
            column=column,
        )
    run.write_rows("chat", ({"ms": slower * i} for i in range(1, 201)))
    run.measure_percentiles("chat.sequential", "chat", title="Chat, one request at a time", column="ms")
    run.write_rows("load", [{"requests_per_s": 84.2}])
    run.measure(
        "load.ab.throughput", "single", "load", title="Throughput (ab)", unit="requests/s", column="requests_per_s"
    )
    run.not_measured("load.locust.p95_ms", title="Locust, p95", unit="ms", why="locust is not here <apt>")


def sealed_run(folder: Path, *, environment: dict[str, Any] = ENVIRONMENT, complete: bool = True, **how: Any) -> Path:
    """Writes and seals a run of the quick profile in `folder`; `how` are arguments of `fill`. Returns the folder."""
    run = Run(folder, "01_local_validation", PROFILES["quick"])
    folder.mkdir(parents=True, exist_ok=True)
    fill(run, **how)
    manifest = Manifest(
        run_id=folder.name,
        profile="quick",
        command="bankllm run --profile quick -p only=lora_r8",
        started=datetime(2026, 11, 23, 10, 15, tzinfo=UTC),
        git_commit="d" * 40,
        git_dirty=False,
        environment=environment,
        notebooks=[NotebookRun(name="01_local_validation", status="done", seconds=1.0)],
    )
    write_manifest(folder, manifest)
    render(folder)
    write_notebook(folder, run.notebook)
    write_crate(folder, manifest)
    seal_run(folder, manifest, complete=complete)
    return folder
