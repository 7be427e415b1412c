"""Compare an exported language model with PEFT's own, example by example, on the test sets of TellerChat.

    bankllm export adapters/mine --to gguf --check

OpenVINO generates greedily from a GGUF file. Torch reads these texts in one pass and says where its own token differs;
only from there on does it generate. So its greedy outputs are known without generating each token.
"""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from bankllm.assistant.language.language_tasks import MAX_TOKENS
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.evidence.records import Record
from bankllm.model import base_models, smollm2
from bankllm.model.denormals import flush_denormals
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.model.generation.merged_weights import GGUF, merged_model
from bankllm.model.generation.openvino_engine import OpenVinoEngine
from bankllm.model.generation.streams import chat_tokenizer, prompt_ids
from bankllm.model.generation.transformers_engine import TransformersEngine
from bankllm.settings import Settings
from bankllm.training.language_model import prefix_tree
from bankllm.training.language_model.evaluate_adapter import generate
from bankllm.training.language_model.task_scores import Row, understand_rows, word_rows
from bankllm.training.language_model.token_rows import Example, TokenRow, task_of

BATCH = 16
MAX_LOSS = 0.005
"""Share of exactly right calls, or of replies without ungrounded figure, that an export may lose."""


def parity(
    adapter: Path,
    exported: Path,
    base: base_models.BaseModel,
    understand: Sequence[Understand],
    word: Sequence[Word],
    settings: Settings,
) -> list[Row]:
    """Return a row per example, see `parity_rows`, for an export of an adapter of `base`. Raises `ModelError`."""
    examples: list[Example] = [*understand, *word]
    file = exported / GGUF
    tokenizer = chat_tokenizer(base_models.ready_to_load(base, settings), base.name)
    if file.exists():
        drafts = theirs = generated(OpenVinoEngine(base, None, settings, file=file), examples)
    else:
        engine = OpenVinoEngine if base.name == smollm2.NAME else TransformersEngine
        drafts = generated(engine(base, adapter, settings), examples)
        merged = merged_model(base_models.resolve(str(exported), settings), None, settings)
        theirs = greedy(merged, tokenizer, examples, drafts)
    own = greedy(merged_model(base, adapter, settings, merge=False), tokenizer, examples, drafts)
    return parity_rows(understand, word, theirs, own, tokenizer)


def parity_rows(
    understand: Sequence[Understand],
    word: Sequence[Word],
    exported: Sequence[list[int]],
    own: Sequence[list[int]],
    tokenizer: Any,
) -> list[Row]:
    """Return a row per example. `exported` and `own` are the tokens for `understand`, then for `word`.

    `actual` is the right result, and the columns `exported` and `own` are the results: the calls, or whether the reply
    is `grounded`. `different_tokens` counts the tokens from the first one that differs.
    """
    results = []
    for outputs in (exported, own):
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in outputs]
        calls, replies = texts[: len(understand)], texts[len(understand) :]
        results.append([row["predicted"] for row in understand_rows(understand, calls)])
        results[-1] += [row["grounded"] for row in word_rows(word, replies)]
    actual = [row["actual"] for row in understand_rows(understand, [""] * len(understand))] + ["yes"] * len(word)
    tasks = ["understand"] * len(understand) + ["word"] * len(word)
    rows: list[Row] = []
    for task, right, ours, theirs, a, b in zip(tasks, actual, *results, exported, own, strict=True):
        same = next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
        different = max(len(a), len(b)) - same
        row: Row = {"task": task, "actual": right, "exported": ours, "own": theirs}
        rows.append({**row, "same": "no" if different else "yes", "different_tokens": different})
    return rows


def lost(records: Sequence[Record]) -> list[str]:
    """Titles of the records of a parity that lost more than `MAX_LOSS`."""
    return [record.title for record in records if record.value is not None and record.value < -MAX_LOSS]


def generated(engine: GenerationEngine, examples: Sequence[Example]) -> list[list[int]]:
    """Return the tokens that an engine generates for each example, without a constraint. Closes the engine."""
    with closing(engine):
        streams, _ = generate(engine, examples, constrained=False, progress="exported")
    return [stream.token_ids for stream in streams]


def greedy(model: Any, tokenizer: Any, examples: Sequence[Example], drafts: Sequence[list[int]]) -> list[list[int]]:
    """Return the tokens that `model` generates greedily for each example, with `drafts` as guesses of them."""
    prompts = [prompt_ids(tokenizer, GenerationRequest(task_of(example)[0], MAX_TOKENS)) for example in examples]
    rows = [TokenRow(tuple(prompt), tuple(draft)) for prompt, draft in zip(prompts, drafts, strict=True)]
    order = sorted(range(len(rows)), key=lambda number: rows[number].length)  # that of a tree
    outputs = [list(draft) for draft in drafts]
    flush_denormals()
    with torch.inference_mode():
        for batch in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            chosen = _chosen(model, prefix_tree.pack([rows[number] for number in batch]))
            for number, tokens in zip(batch, chosen.split([len(drafts[number]) for number in batch]), strict=True):
                differs = (tokens != torch.tensor(drafts[number])).nonzero()
                if len(differs):
                    first = int(differs[0])
                    kept = [*drafts[number][:first], int(tokens[first])]
                    outputs[number] = _continued(model, tokenizer, prompts[number], kept)
    return outputs


def _chosen(model: Any, tree: prefix_tree.Tree) -> Any:
    """The likeliest token at each place of the rows' completions."""
    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    with prefix_tree.used_in(body):
        return body.get_output_embeddings()(prefix_tree.states_before(body, tree)).argmax(1)


def _continued(model: Any, tokenizer: Any, prompt: list[int], kept: list[int]) -> list[int]:
    """Generate the rest of an output that begins with `kept`."""
    more = MAX_TOKENS - len(kept)
    if kept[-1] == tokenizer.eos_token_id or not more:
        return kept
    ids = torch.tensor([[*prompt, *kept]])
    options = {"do_sample": False, "max_new_tokens": more, "pad_token_id": tokenizer.eos_token_id}
    result = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    return result[0, len(prompt) :].tolist()  # type: ignore[no-any-return]
