"""Evaluate an adapter on the test sets of TellerChat, beside the untuned model, the rules, and the service's choice.

    bankllm evaluate adapters/mine [--untuned] [--examples 100]

The outputs and their records are added to the adapter's folder, after each pass over a test set.
"""

import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from bankllm.assistant.bank.tools import Call, calls_schema
from bankllm.assistant.language.language_tasks import MAX_TOKENS, calls_text
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.evidence.records import Record
from bankllm.model.generation import GenerationEngine, GenerationRequest, TextStream
from bankllm.training.language_model import adapter_folder
from bankllm.training.language_model.task_scores import Row, understand_rows, word_rows
from bankllm.training.language_model.token_rows import Example, task_of

if TYPE_CHECKING:
    from bankllm.assistant.understanding.rules import Rules  # needs packages of the extra `serve`

TODAY = date(2026, 11, 17)
"""The day of TellerChat's examples, from which rules count relative dates. An evaluation gives the same on any day."""


def evaluate(
    folder: Path,
    load: Callable[[Path | None], GenerationEngine],
    understand: Sequence[Understand],
    word: Sequence[Word],
    *,
    untuned: bool = False,
) -> list[Record]:
    """Generate answers for test examples, and add them to the folder of an adapter. Returns all records of the folder.

    `load` opens the engine for an adapter, or for the base model (None), which is evaluated, too, if `untuned`. Raises
    `ModelError` if an engine cannot be loaded, or stops generating.
    """
    records: list[Record] = []
    rules = packaged_rules()
    read = rules_calls(understand, rules)
    rows = understand_rows(understand, [calls_text(calls) for calls in read])
    adapter_folder.add_outputs(folder, {"understand_rules": rows})
    for adapter, suffix in [(folder, ""), *([(None, "_untuned")] if untuned else [])]:
        engine = load(adapter)
        try:
            for name, constrained in ((f"understand{suffix}", True), (f"understand{suffix}_free", False)):
                streams, cost = generate(engine, understand, constrained, name)
                sure = [stream.confidence for stream in streams]
                rows = understand_rows(understand, [stream.written for stream in streams], confidence=sure)
                outputs = {name: rows}
                if name == "understand_free":
                    outputs["understand_routed"] = routed_rows(understand, rules, read, streams)
                adapter_folder.add_outputs(folder, outputs, {name: cost})
            name = f"word{suffix}"
            streams, cost = generate(engine, word, False, name)
            rows = word_rows(word, [stream.written for stream in streams])
            records = adapter_folder.add_outputs(folder, {name: rows}, {name: cost})
        finally:
            engine.close()
    return records


def generate(
    engine: GenerationEngine, examples: Sequence[Example], constrained: bool, progress: str | None = None
) -> tuple[list[TextStream], Row]:
    """Return a complete stream per example, and the costs: `engine`, `requests`, `tokens` and `seconds`.

    `constrained` calls are valid. `progress` is the title of a progress bar.
    """
    schema = calls_schema() if constrained else None
    requests = [GenerationRequest(task_of(example)[0], MAX_TOKENS, schema) for example in examples]
    began = time.perf_counter()
    streams = engine.generate(requests)
    for stream in tqdm(streams, desc=progress, disable=progress is None):
        stream.text()
    seconds, tokens = time.perf_counter() - began, sum(len(stream.token_ids) for stream in streams)
    return streams, {"engine": engine.name, "requests": len(requests), "tokens": tokens, "seconds": seconds}


def packaged_rules() -> "Rules":
    """Return the rules without a customer, for the day of the data."""
    from bankllm.assistant.understanding.rules import Rules
    from bankllm.assistant.understanding.tool_head import ToolHead
    from bankllm.vectors.embedder import Embedder

    return Rules(ToolHead.load(), Embedder().encode, TODAY)


def rules_calls(examples: Sequence[Understand], rules: "Rules", progress: bool = True) -> list[list[Call]]:
    """Return per example the calls of the encoder with rules."""
    return [rules.propose(one.messages) for one in tqdm(examples, desc="understand_rules", disable=not progress)]


def routed_rows(
    examples: Sequence[Understand], rules: "Rules", read: Sequence[list[Call]], streams: Sequence[TextStream]
) -> list[Row]:
    """Return the rows of what the service answers: `reader` is `rules`, `model`, or `rules instead` of an unsure one.

    `read` is the result of `rules_calls`; `streams` were generated without a constraint.
    """
    from bankllm.assistant.language.fallbacks import GenerationFailed
    from bankllm.assistant.language.language_model import needs_model, trusted

    chosen, readers = [], []
    for example, calls, stream in zip(examples, read, streams, strict=True):
        reader = "rules"
        if needs_model(example.messages, rules, calls):
            try:
                calls, reader = trusted(stream, example.messages, rules, calls), "model"
            except GenerationFailed:
                reader = "rules instead"
        chosen.append(calls_text(calls))
        readers.append(reader)
    return understand_rows(examples, chosen, reader=readers)
