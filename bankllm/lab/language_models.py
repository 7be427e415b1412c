"""Notebook 03: train language models on TellerChat, and let them, the base model and rules answer the same examples."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bankllm.assistant.language.language_tasks import calls_text
from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.errors import NotMeasured
from bankllm.model import generation, smollm2
from bankllm.model.artifact import TRAINING_FILE
from bankllm.profiles import Profile
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model import evaluate_adapter
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.task_scores import Row, understand_rows, word_rows
from bankllm.training.sweep import language_ids
from bankllm.util.sampling import subset


def trained(
    profile: Profile,
    folder: Path,
    *,
    only: Sequence[str] = (),
    steps: int = 0,
    report: Callable[[str], object] = print,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Train the language models of a profile. Returns name → adapter folder, and name → why it was not measured.

    `only` selects them by their `language_ids`; empty selects all. `steps` limits the gradient steps of each; 0: as
    the profile says. Finished trainings are kept, and an interrupted one resumes.
    """
    examples: list[Understand | Word] = [*load(Understand, "train"), *load(Word, "train")]
    adapters, reasons = {}, {}
    for id, entry in zip(language_ids(profile), profile.language, strict=True):
        for seed in entry.seeds if not only or id in only else ():
            key = id + (f"_seed{seed}" if len(entry.seeds) > 1 else "")
            name, output, checkpoint = key.removeprefix("language_"), folder / key, folder / f"{key}.checkpoint"
            options = {"method": entry.method, "rank": entry.rank, "epochs": entry.epochs, "seed": seed}
            limit = {"max_steps": steps} if steps else {}
            config = LanguageModelConfig.model_validate(options | entry.options | limit)
            try:
                if not (output / TRAINING_FILE).exists():
                    fine_tune(config, examples, output, checkpoint=checkpoint, progress=False)
            except NotMeasured as reason:
                reasons[name] = str(reason)
                continue
            shutil.rmtree(checkpoint, ignore_errors=True)
            adapters[name] = output
            amount = f"{config.max_steps} steps of {config.batch_size} examples" if config.max_steps else "all examples"
            report(f"{name}: {amount}")
    return adapters, reasons


def tests(profile: Profile) -> tuple[list[Understand], list[Word]]:
    """The test examples of the profile, in equal distances."""
    understand, word = profile.language_tests or (None, None)
    return subset(load(Understand, "test"), understand), subset(load(Word, "test"), word)


def answers(
    adapters: Mapping[str, Path | None], understand: Sequence[Understand], word: Sequence[Word]
) -> dict[str, list[Row]]:
    """Return rows of `task_scores` and of costs, each with its `model`: `understand`, `word` and `generation`.

    `adapters` has a folder, or None for the base model, by the name of the model. Tool calls are constrained by their
    schema. Rules, which answer as the model `rules`, cannot word a reply.
    """
    found = evaluate_adapter.rules_calls(understand, evaluate_adapter.packaged_rules(), progress=False)
    read = [calls_text(calls) for calls in found]
    rules = understand_rows(understand, read)
    rows: dict[str, list[Row]] = {"understand": [{"model": "rules", **row} for row in rules], "word": []}
    rows["generation"] = []
    fast = smollm2.gguf_file() is not None and importlib.util.find_spec("openvino_genai") is not None
    for name, adapter in adapters.items():
        engine = generation.load("smollm2", adapter, engine="openvino" if fast else "transformers")
        try:
            calls, call_costs = evaluate_adapter.generate(engine, understand, constrained=True)
            replies, reply_costs = evaluate_adapter.generate(engine, word, constrained=False)
        finally:
            engine.close()
        scored = understand_rows(understand, [stream.written for stream in calls])
        rows["understand"] += [{"model": name, **row} for row in scored]
        rows["word"] += [{"model": name, **row} for row in word_rows(word, [stream.written for stream in replies])]
        costs = {"understand": call_costs, "word": reply_costs}
        rows["generation"] += [{"model": name, "task": task, **cost} for task, cost in costs.items()]
    return rows


def side_by_side(rows: Sequence[Row], column: str, first: Mapping[str, Sequence[object]]) -> list[Row]:
    """Return one row per example: the columns of `first`, then `column` of each model under the name of the model."""
    models = dict.fromkeys(str(row["model"]) for row in rows)
    columns = {**first, **{model: [row[column] for row in rows if row["model"] == model] for model in models}}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
