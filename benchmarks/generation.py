"""Generation engines on SmolLM2 with an adapter: loading, memory, latency of one reply, and throughput of many.

    python benchmarks/generation.py adapters/mine [--streams 1 4 16 64] [--only "openvino F16"] [--rows 64]

Each engine runs in a process of its own. *word* prompts of TellerChat's test set are answered in at most `--tokens`
tokens. Memory is the peak of the process. The last columns compare *understand* with and without the JSON Schema, with
16 requests at once. transformers answers one request after the other, so it is asked 4 at most.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bankllm.assistant.bank.tools import calls_schema
from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.model import base_models
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.model.generation.gguf_file import cached_gguf
from bankllm.model.generation.openvino_engine import OpenVinoEngine
from bankllm.model.generation.transformers_engine import TransformersEngine
from bankllm.settings import get_settings
from bankllm.training.language_model.evaluate_adapter import subset
from bankllm.training.language_model.token_rows import task_of

OPENVINO: dict[str, dict[str, Any]] = {
    "openvino F16": {},
    "openvino F16, prompt lookup 3": {"prompt_lookup": 3},
    "openvino F32": {"weights": "F32"},
    "openvino Q8_0": {"weights": "Q8_0"},
    "openvino F16, 8-bit activations": {"properties": {}},
}
ENGINES = [*OPENVINO, "transformers"]
CONSTRAINED = 16


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
    words = [GenerationRequest(task_of(one)[0], tokens) for one in subset(load(Word, "test"), rows)]
    firsts, following = [], []
    for request in words[:8]:
        began = time.perf_counter()
        (stream,) = engine.generate([request])
        pieces = iter(stream)
        next(pieces)
        firsts.append(time.perf_counter() - began)
        before = len(stream.token_ids)
        for _ in pieces:
            pass
        following.append((time.perf_counter() - began - firsts[-1]) / max(1, len(stream.token_ids) - before))
    found |= {"first ms": 1000 * median(firsts), "token ms": 1000 * median(following)}
    for count in streams:
        if count <= (4 if isinstance(engine, TransformersEngine) else rows):
            found[f"tokens/s at {count}"] = _rate(engine, words, count)
    if not isinstance(engine, TransformersEngine):
        messages = [task_of(one)[0] for one in subset(load(Understand, "test"), rows)]
        for title, schema in (("free", None), ("constrained", calls_schema())):
            requests = [GenerationRequest(message, tokens, schema) for message in messages]
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
