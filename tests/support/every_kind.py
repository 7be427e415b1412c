"""A sealed run with every kind of rows, made by the code that the notebooks call: streams, curves, tool calls, …"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bankllm.assistant.language.language_tasks import calls_text
from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.evidence.manifest import NotebookRun, read_manifest
from bankllm.evidence.report.render import render
from bankllm.evidence.run import Run
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.lab import vector_retrieval
from bankllm.loadtest.experiments import load_records, rate_sweep
from bankllm.loadtest.load import piece_rows
from bankllm.profiles import PROFILES
from bankllm.training.language_model import adapter_folder, task_scores
from bankllm.training.language_model.parity import parity_rows
from bankllm.util.sampling import subset
from tests.support.queue_model import open_loop
from tests.support.sealed_run import TELLER77, add_excluded_loads, recorded_run, write_notebook

NOTEBOOKS = ("01_local_validation", "02_load_testing", "03_finetuning_benchmark", "04_vector_search")
ADAPTER = "adapters/language_lora_r8"


def run_of_every_kind(folder: Path, *, served: str = "model") -> Path:
    """Writes and seals the run, and returns its folder. `served` says who answers every fifth stream and its pieces."""
    manifest = read_manifest(recorded_run(folder, data=TELLER77))
    chats, loads, training, search = (Run(folder, name, PROFILES["quick"]) for name in NOTEBOOKS)
    for run in (chats, loads, training, search):
        run.conditions |= TELLER77
    add_excluded_loads(chats)
    add_streams(chats, served)
    add_conversations(chats)
    add_loads(loads)
    understand, word = subset(load(Understand, "test"), 40), subset(load(Word, "test"), 40)
    read = ["[]" if n % 5 == 0 else calls_text(each.calls) for n, each in enumerate(understand)]
    said = [each.reply + (" It is £999,999.99." if n % 8 == 0 else "") for n, each in enumerate(word)]
    understood = task_scores.understand_rows(understand, read)
    worded = task_scores.word_rows(word, said)
    add_language(training, understood, worded)
    texts = [[*read, *said], ["no calls" if n % 9 == 0 else text for n, text in enumerate([*read, *said])]]
    tokens = ([[ord(sign) for sign in text] for text in outputs] for outputs in texts)
    add_adapter(folder / ADAPTER, understood, worded, parity_rows(understand, word, *tokens, Characters()))
    add_searches(search)
    (folder / "plots").mkdir()
    for number, name in enumerate(NOTEBOOKS):
        Image.new("RGB", (8, 8), (number * 50, 0, 0)).save(folder / "plots" / f"{name[:3]}plot.png")
    render(folder)
    for run in (chats, loads, training, search):
        write_notebook(run, folded=run is search)
    entries = [NotebookRun(name=name, status="done", seconds=1.0) for name in NOTEBOOKS]
    manifest = replace(manifest, notebooks=entries)
    write_crate(folder, manifest)
    seal_run(folder, manifest, complete=False)
    return folder


class Characters:
    """A tokenizer whose tokens are the code points of characters."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


def add_streams(run: Run, served: str) -> None:
    rows = [row | {"kind": "stream"} for row in open_loop(20, 60).measured]
    for row in rows[::5]:
        row["served_by"] = served
    run.write_rows("stream", rows)
    sent = [(float(row["sent_s"]), str(row["served_by"])) for row in rows]
    times = ([at + 0.05, at + 0.08 + n / 1000, at + 0.12 + n / 500] for n, (at, _) in enumerate(sent))
    pieces = [piece_rows(n, at, found, by) for n, ((at, by), found) in enumerate(zip(sent, times, strict=True))]
    run.write_rows("stream_pieces", [piece for each in pieces for piece in each])
    how = {"title": "Streamed chat", "raw": "stream"}
    for measure in (
        *load_records.percentiles("chat.stream", column="latency_ms", wanted=(0.5, 0.95), **how),
        *load_records.percentiles("chat.stream.first", column="ttft_ms", wanted=(0.5,), **how),
        *load_records.of_answers("chat.stream", "streamed", raw="stream"),
    ):
        run.measure(**measure)
    by_model = {"column": "served_by", "equals": "model", "unit": "share", "title": "Streams by the model"}
    run.measure("chat.stream.by_model", "proportion", "stream", **by_model)
    gaps = {"column": "gap_ms", "unit": "ms", "title": "Between two pieces", "where": {"place": "later"}}
    run.measure("chat.stream.gap_ms", "mean", "stream_pieces", **gaps)


def add_conversations(run: Run) -> None:
    graded = ({"dialogue": f"talk-{n}", "theme": "cards", "passed": "no" if n % 6 == 0 else "yes"} for n in range(48))
    run.write_rows("conversations", graded)
    passed = {"column": "passed", "equals": "yes", "unit": "share", "title": "Graded conversations that pass"}
    run.measure("chat.conversations.passed", "proportion", "conversations", **passed)


def add_loads(run: Run) -> None:
    """Adds a load, a sweep and a degradation curve."""
    result = open_loop(50, 120)
    run.write_rows("load_openloop", result.measured)
    run.write_rows("load_openloop_summary", [result.summary()])
    sweep = rate_sweep.sweep(partial(open_loop, capacity=200), first_rate=100, step_s=0.5, max_steps=4, max_s=1e9)
    run.write_rows("sweep", rate_sweep.rows_of(sweep, "chat_w1"))
    curve = rate_sweep.curve(partial(open_loop, capacity=200), [50, 400], step_s=0.6, requests=12)
    pieces = [piece for n in range(30) for piece in piece_rows(n, n, [n + 0.2, n + 0.3, n + 0.5 + n / 99], "model")]
    curve[0] = rate_sweep.Step(50, replace(curve[0].result, pieces=pieces))
    run.write_rows("curve", rate_sweep.rows_of(curve, "model"))
    run.write_rows("curve_pieces", rate_sweep.piece_rows(curve, "model"))
    for measure in (
        *load_records.of_load("load.steady", "50/s", "load_openloop"),
        *load_records.of_answers("load.steady", "50/s", raw="load_openloop"),
        *load_records.of_sweep("chat_w1", sweep, "sweep"),
        *load_records.of_curve(curve, "curve", "curve_pieces"),
    ):
        run.measure(**measure)


def add_language(run: Run, understood: list[dict[str, Any]], worded: list[dict[str, Any]]) -> None:
    run.write_rows("language_understand", understood)
    run.write_rows("language_word", worded)
    rules = ["[]" if n % 2 else row["actual"] for n, row in enumerate(understood)]
    paired = zip(understood, rules, strict=True)
    run.write_rows("language_paired", ({"actual": a["actual"], "lora": a["predicted"], "rules": b} for a, b in paired))
    for task, metrics in (("understand", task_scores.UNDERSTAND), ("word", task_scores.WORD)):
        for id, (title, unit, statistic, parameters) in metrics.items():
            how = {"title": f"{task}: {title}", "unit": unit, **parameters}
            run.measure(f"language.lora.{task}_{id}", statistic, f"language_{task}", **how)
    against: dict[str, Any] = {"a": "lora", "b": "rules", "unit": "p", "title": "Exact McNemar test against rules"}
    run.measure("language.lora.against_rules_p", "mcnemar", "language_paired", **against)


def add_adapter(
    folder: Path, understood: list[dict[str, Any]], worded: list[dict[str, Any]], parity: list[dict[str, Any]]
) -> None:
    """Writes the folder of an adapter, whose weights are no weights, with its outputs, records and model card."""
    (folder / "raw").mkdir(parents=True)
    (folder / adapter_folder.WEIGHTS).write_bytes(bytes(range(256)))
    made = {"model": "SmolLM2-135M-Instruct", "model_sha256": "5" * 64, "dataset": "tellerchat", "train_rows": 9}
    made |= {"rows_sha256": "7" * 64, "config": {"method": "lora", "rank": 8}, "host": {"device": "cpu"}}
    (folder / adapter_folder.TRAINING_FILE).write_text(json.dumps(made))
    cost = {"seconds": 20.5, "tokens": 4000, "computed_tokens": 3000, "peak_memory_bytes": 3e8, "too_long": 1}
    cost |= {"trainable_parameters": 4096, "adapter_bytes": 256}
    adapter_folder.write_rows(folder / "raw" / adapter_folder.COST, [cost])
    outputs = {"understand": understood, "word": worded, "parity_merged": parity}
    adapter_folder.add_outputs(folder, outputs, {"word": {"tokens": 900, "seconds": 6.5}})


def add_searches(run: Run) -> None:
    places = ("1", "2 5", "", "3", "1 4", "10")
    ranked = (
        {"question": n, "kind": "code" if n % 2 else "name", "relevant": 2}
        | {mode: places[(n + shift) % 6] for shift, mode in enumerate(("dense", "lexical", "hybrid"))}
        for n in range(36)
    )
    run.write_rows("articles", ranked)
    vector_retrieval.measure(run, "articles", "articles", ("name",))
    run.write_rows("answerable", ({"in_scope": "no" if n % 3 else "yes", "confidence": 1 - n / 60} for n in range(45)))
    run.measure("vectors.answerable.auroc", "auroc", "answerable", title="Answerable or not", unit="share")
