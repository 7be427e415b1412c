"""Evaluate an adapter on the test sets of TellerChat, beside the untuned model and the rules.

    bankllm evaluate adapters/mine [--untuned] [--examples 100]

The outputs and their records are added to the adapter's folder, after each pass over a test set.
"""

import json
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

from tqdm.auto import tqdm

from bankllm.assistant.bank.tools import calls_schema
from bankllm.assistant.language_tasks import MAX_TOKENS
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.evidence.records import Record
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.training.language_model import adapter_folder
from bankllm.training.language_model.task_scores import Row, understand_rows, word_rows
from bankllm.training.language_model.token_rows import Example, task_of

T = TypeVar("T")
TODAY = date(2026, 11, 17)
"""The day of TellerChat's examples, from which rules count relative dates. An evaluation gives the same on any day."""


def evaluate(
    folder: Path,
    load: Callable[[Path | None], GenerationEngine],
    understand: Sequence[Understand],
    word: Sequence[Word],
    *,
    untuned: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Generate answers for test examples, and add them to the folder of an adapter. Returns all records of the folder.

    `load` opens the engine for an adapter, or for the base model (None), which is evaluated, too, if `untuned`. Raises
    `ModelError` if an engine cannot be loaded, or stops generating.
    """
    records: list[Record] = []
    rows = understand_rows(understand, rules_texts(understand, progress))
    adapter_folder.add_outputs(folder, {"understand_rules": rows})
    for adapter, suffix in [(folder, ""), *([(None, "_untuned")] if untuned else [])]:
        engine = load(adapter)
        try:
            for name, constrained in ((f"understand{suffix}", True), (f"understand{suffix}_free", False)):
                texts, cost = generate(engine, understand, constrained, name if progress else None)
                outputs = {name: understand_rows(understand, texts)}
                adapter_folder.add_outputs(folder, outputs, {name: cost})
            name = f"word{suffix}"
            texts, cost = generate(engine, word, False, name if progress else None)
            records = adapter_folder.add_outputs(folder, {name: word_rows(word, texts)}, {name: cost})
        finally:
            engine.close()
    return records


def generate(
    engine: GenerationEngine, examples: Sequence[Example], constrained: bool, progress: str | None = None
) -> tuple[list[str], Row]:
    """Return a text per example, and the costs of all: `engine`, `requests`, `tokens` and `seconds`.

    `constrained` calls are valid, and their free values are copies. `progress` is the title of a progress bar.
    """
    requests = [
        GenerationRequest(task_of(example)[0], MAX_TOKENS, calls_schema(), example.messages)
        if constrained and isinstance(example, Understand)
        else GenerationRequest(task_of(example)[0], MAX_TOKENS)
        for example in examples
    ]
    began = time.perf_counter()
    streams = engine.generate(requests)
    texts = [stream.text() for stream in tqdm(streams, desc=progress, disable=progress is None)]
    seconds, tokens = time.perf_counter() - began, sum(len(stream.token_ids) for stream in streams)
    return texts, {"engine": engine.name, "requests": len(requests), "tokens": tokens, "seconds": seconds}


def rules_texts(examples: Sequence[Understand], progress: bool = True) -> list[str]:
    """Return the calls of the encoder with rules as JSON, one text per example."""
    from bankllm.assistant.understanding import rules  # needs packages of the extra `serve`
    from bankllm.assistant.understanding.tool_head import ToolHead
    from bankllm.vectors.embedder import Embedder

    head, embedder = ToolHead.load(), Embedder()
    bar = tqdm(examples, desc="understand_rules", disable=not progress)
    return [json.dumps(rules.propose(example.messages, head, embedder.encode, TODAY)) for example in bar]


def subset(examples: Sequence[T], count: int | None) -> list[T]:
    """Return `count` examples in equal distances, the same ones each time; all if there are fewer, or for None."""
    if count is None or count >= len(examples):
        return list(examples)
    return [examples[number * len(examples) // count] for number in range(count)]
