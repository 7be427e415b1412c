"""Small finished runs made by the real code: rows as notebooks write them, records, pages, notebooks, a seal."""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from bankllm import __version__, datasets
from bankllm.datasets.banking77 import SHA256
from bankllm.evidence.documents import parse
from bankllm.evidence.manifest import (
    MANIFEST,
    UNSEALED,
    Manifest,
    NotebookRun,
    read_manifest,
    seal_of,
    write_manifest,
)
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.crate_checks import METADATA, crate_facts
from bankllm.evidence.verification.record_checks import read_record_lines
from bankllm.evidence.verification.run_checks import hash_files
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.lab import tables
from bankllm.model.base_models import MINILM_SHA256
from bankllm.profiles import PROFILES, ProfileName
from bankllm.util.file_hash import sha256_file

NOTEBOOK = "01_local_validation"
MODEL = {"model": "all-MiniLM-L6-v2", "model_sha256": MINILM_SHA256}
TELLER77 = datasets.load("teller77").conditions() | MODEL
HASHES = {f"{split}_sha256": sha256 for split, sha256 in SHA256.items()}
BANKING77 = TELLER77 | {"dataset": "banking77", "train_rows": 10003, "test_rows": 3080, "intents": 77} | HASHES
ENVIRONMENT: dict[str, Any] = {
    "cpu": "Sample CPU",
    "cores_usable": 2,
    "cpu_limit": None,
    "machine": "x86_64",
    "gpus": [],
}
ENVIRONMENT |= {"cpu_limit": None, "memory_gib": 8.0, "memory_limit_gib": None, "libraries": {"bankllm": __version__}}


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
        options: dict[str, Any] = {"title": f"LoRA r=8: {title}", "unit": unit, "conditions": how, "column": column}
        run.measure(f"training.lora_r8.{name}", "single", "costs", **options)
    run.write_rows("chat", ({"ms": slower * i} for i in range(1, 201)))
    run.measure_percentiles("chat.sequential", "chat", title="Chat, one request at a time", column="ms")
    run.write_rows("load", [{"requests_per_s": 84.2}])
    run.measure(
        "load.ab.throughput", "single", "load", title="Throughput (ab)", unit="requests/s", column="requests_per_s"
    )
    run.not_measured("load.locust.p95_ms", title="Locust, p95", unit="ms", why="locust is not here <apt>")


def add_excluded_loads(run: Run) -> None:
    """Adds loads: a valid one, one with a busy generator, one that says why not, one the notebook cut."""
    for name, busy, because in (("mix", 0.4, ""), ("openloop", 0.97, ""), ("health", 0.2, "the server restarted")):
        rows = ({"kind": kind, "latency_ms": 20 + i % 40} for i in range(132) for kind in ("health", "chat"))
        run.write_rows(f"load_{name}", rows)
        run.write_rows(f"load_{name}_summary", [{"generator_cpu_share": busy, "invalid_because": because}])
        options: dict[str, Any] = {"where": {"kind": "chat"}, "column": "latency_ms", "percentiles": (0.95,)}
        run.measure_percentiles(f"load.{name}", f"load_{name}", title=f"Chat latency ({name})", **options)
    run.write_rows("soak", [{"rss_bytes": 3e8 + i} for i in range(8)])
    soak: dict[str, Any] = {"unit": "bytes", "column": "rss_bytes", "invalid_because": "the soak was cut short"}
    run.measure("load.soak.memory", "maximum", "soak", title="Most memory in the soak", **soak)


def recorded_run(
    folder: Path, *, environment: dict[str, Any] = ENVIRONMENT, profile: ProfileName = "quick", **how: Any
) -> Path:
    """Writes the rows, records and manifest of a run; `how` are arguments of `fill`."""
    folder.mkdir(parents=True, exist_ok=True)
    fill(Run(folder, NOTEBOOK, PROFILES[profile]), **how)
    manifest = Manifest(
        run_id=folder.name,
        profile=profile,
        command=f"bankllm run --profile {profile} -p only=lora_r8",
        started=datetime(2026, 11, 23, 10, 15, tzinfo=UTC),
        git_commit="d" * 40,
        git_dirty=False,
        environment=environment,
        notebooks=[NotebookRun(name=NOTEBOOK, status="done", seconds=1.0)],
    )
    write_manifest(folder, manifest)
    return folder


def sealed_run(folder: Path, *, complete: bool = True, excluded: bool = False, **how: Any) -> Path:
    """Seals a `recorded_run`, and returns its folder.

    With `excluded`, the run also has the records of `add_excluded_loads` and a plot.
    """
    manifest = read_manifest(recorded_run(folder, **how))
    run = Run(folder, NOTEBOOK, PROFILES["quick"])
    if excluded:
        run.conditions |= how.get("data", BANKING77)
        add_excluded_loads(run)
        (folder / "plots").mkdir()
        (folder / "plots/01_latency.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
    render(folder)
    write_notebook(run)
    write_crate(folder, manifest)
    seal_run(folder, manifest, complete=complete)
    return folder


def write_notebook(run: Run, folded: bool = False) -> None:
    """Writes the executed notebook of a run, which shows its table of records, a page and its plots."""
    table, page = run.table(), {"text/markdown": (run.folder / "RESUME.md").read_text()}
    bundle = {"text/html": table._repr_html_(), "text/plain": table.to_string()}
    if folded:
        bundle = {"text/html": tables.folded("All records", table.reset_index()).data}
    plots = sorted((run.folder / "plots").glob(f"{run.notebook[:2]}_*.png"))
    images = [{"image/png": base64.b64encode(plot.read_bytes()).decode()} for plot in plots]
    outputs = [new_output("execute_result", data=bundle, execution_count=1)]
    outputs += [new_output("display_data", data=data) for data in (page, *images)]
    (run.folder / "notebooks").mkdir(exist_ok=True)
    notebook = new_notebook(cells=[new_code_cell("run.table()", outputs=outputs)])
    nbformat.write(notebook, run.folder / "notebooks" / f"{run.notebook}.ipynb")


def reseal(folder: Path, **changes: Any) -> None:
    """Hashes and seals a run again as an attacker can, with `changes` of the manifest; the renderer stays.

    The RO-Crate, if it was not edited itself, is made to agree with the manifest, the records and the files.
    """
    path, crate = folder / MANIFEST, folder / METADATA
    manifest = json.loads(path.read_text()) | changes
    if crate.is_file() and sha256_file(crate) == manifest["files"].get(METADATA):
        update_crate(folder, crate, manifest)
    names = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file() and f != path}
    files = {name: sha256_file(file) for name, file in names.items()}
    manifest |= {"files": files, "seal": UNSEALED}
    text = json.dumps(manifest, indent=2)
    path.write_text(text.replace(UNSEALED, seal_of(text.encode(), UNSEALED)))


def update_crate(folder: Path, crate: Path, manifest: dict[str, Any]) -> None:
    try:
        facts = crate_facts(parse(json.dumps(manifest), Manifest), read_record_lines(folder)[0], hash_files(folder)[0])
    except ValueError:
        return  # the manifest is damaged
    graph = json.loads(crate.read_text())
    for entity in graph["@graph"]:
        entity |= facts.get(entity["@id"], {})
    crate.write_text(json.dumps(graph))


def edit_text(path: Path, edit: Callable[[str], str]) -> None:
    """Edits a file in place: text, gzip text, or bytes that are no text. Raises `ValueError` if nothing changes."""
    before = path.read_bytes()
    packed = path.suffix == ".gz"
    text = (gzip.decompress(before) if packed else before).decode("utf-8", "surrogateescape")
    if (edited := edit(text)) == text:
        raise ValueError(f"the edit does not change {path}")
    after = edited.encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(after, mtime=0) if packed else after)


def replace_text(path: Path, old: str, new: str) -> None:
    """Replaces the first occurrence of a text in a file, plain or gzip."""
    edit_text(path, lambda text: text.replace(old, new, 1))
