"""Generation engines on SmolLM2 with an adapter: loading, memory, latency of one reply, and throughput of many.

    python benchmarks/generation.py adapters/mine [--streams 1 4 16 64] [--only "openvino F16"] [--rows 64]

Each engine runs in a process of its own. Prompts of TellerChat's test set are answered in at most `--tokens` tokens.
First token, following tokens and the whole answer are medians of requests one at a time. Memory is the peak of the
process. The last columns compare *understand* with and without the JSON Schema, with 16 requests at once. transformers
answers one request after the other, so it is asked 4 at most.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bankllm.assistant.bank.tools import calls_schema
from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.model import base_models
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.model.generation.merged_weights import cached_gguf
from bankllm.model.generation.openvino_engine import OpenVinoEngine
from bankllm.model.generation.transformers_engine import TransformersEngine
from bankllm.settings import get_settings
from bankllm.training.language_model.token_rows import task_of
from bankllm.util.sampling import subset

OPENVINO: dict[str, dict[str, Any]] = {
    "openvino F16": {},
    "openvino F32": {"weights": "F32"},
    "openvino Q8_0": {"weights": "Q8_0"},
    "openvino F16, 8-bit activations": {"properties": {}},
}
ENGINES = [*OPENVINO, "transformers"]
CONSTRAINED = 16
ALONE = 12
"""Requests of each task that are answered one after the other."""


def opened(name: str, adapter: Path) -> GenerationEngine:
    base, settings = base_models.resolve("smollm2"), get_settings()
    if name == "transformers":
        return TransformersEngine(base, adapter, settings)
    return OpenVinoEngine(base, adapter, settings, **OPENVINO[name])


def measure(name: str, adapter: Path, streams: list[int], rows: int, tokens: int) -> dict[str, float]:
    began = time.perf_counter()
    engine = opened(name, adapter)
    found = {"load s": time.perf_counter() - began}
    found["loaded MiB"] = _peak()
    tasks = {"understand": subset(load(Understand, "test"), rows), "word": subset(load(Word, "test"), rows)}
    asked = {task: [GenerationRequest(task_of(one)[0], tokens) for one in some] for task, some in tasks.items()}
    for task, requests in asked.items():
        firsts, following, wholes = [], [], []
        for request in requests[:ALONE]:
            began = time.perf_counter()
            (stream,) = engine.generate([request])
            pieces = iter(stream)
            next(pieces)
            firsts.append(time.perf_counter() - began)
            before = len(stream.token_ids)
            for _ in pieces:
                pass
            wholes.append(time.perf_counter() - began)
            following.append((wholes[-1] - firsts[-1]) / max(1, len(stream.token_ids) - before))
        times = {"first ms": firsts, "token ms": following, "whole ms": wholes}
        found |= {f"{task}: {title}": 1000 * median(values) for title, values in times.items()}
    for count in streams:
        if count <= (4 if isinstance(engine, TransformersEngine) else rows):
            found[f"tokens/s at {count}"] = _rate(engine, asked["word"], count)
    if not isinstance(engine, TransformersEngine):
        for title, schema in (("free", None), ("constrained", calls_schema())):
            requests = [replace(request, schema=schema) for request in asked["understand"]]
            found[f"{title} tokens/s"] = _rate(engine, requests, min(CONSTRAINED, rows))
    engine.close()
    return {**found, "peak MiB": _peak()}


def _rate(engine: GenerationEngine, requests: list[GenerationRequest], count: int) -> float:
    """Tokens per second, with `count` requests at once."""
    total, began = 0, time.perf_counter()
    for start in range(0, len(requests), count):
        streams = engine.generate(requests[start : start + count])
        for stream in streams:
            stream.text()
        total += sum(len(stream.token_ids) for stream in streams)
    return total / (time.perf_counter() - began)


def _peak() -> float:
    """Peak of this process in MiB. That of `resource` counts the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--only", choices=ENGINES, action="append")
    parser.add_argument("--one", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        options = (arguments.adapter, arguments.streams, arguments.rows, arguments.tokens)
        print(json.dumps(measure(arguments.one, *options)))
        return
    base, settings = base_models.resolve("smollm2"), get_settings()
    for name in arguments.only or ENGINES:
        if name in OPENVINO:  # before the measured loading
            cached_gguf(base, arguments.adapter, OPENVINO[name].get("weights", "F16"), settings)
        command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found: dict[str, float] = json.loads(output.splitlines()[-1])
        print(name, *(f"{title} {value:.4g}" for title, value in found.items()), sep="  ", flush=True)


if __name__ == "__main__":
    main()
