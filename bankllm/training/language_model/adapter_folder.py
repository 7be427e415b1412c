"""The folder of a fine-tuned language model: PEFT's adapter, settings, evidence and a model card.

`raw/` has one row of costs, the learning curve, and the outputs of evaluations. `bankllm verify FOLDER` computes the
records again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from bankllm.errors import ModelError, RunError, UsageError, explained
from bankllm.evidence.raw_files import read_table
from bankllm.evidence.records import Raw, Record, measure, write_records, write_rows
from bankllm.model.artifact import TRAINING_FILE
from bankllm.model.base_models import BaseModel
from bankllm.model.generation import check_base
from bankllm.training.artifact_records import host
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.task_scores import ROUTED, UNDERSTAND, WORD, Metrics, by_phenomenon, share
from bankllm.training.language_model.token_rows import Example
from bankllm.training.model_card import render_card
from bankllm.util.atomic_files import atomic_folder
from bankllm.util.file_hash import sha256_file

TEMPLATE = Path(__file__).with_name("adapter_card.md.j2")
COST, CURVE, WEIGHTS = "cost.csv", "curve.csv", "adapter_model.safetensors"
PHENOMENA, COMPARED = "phenomena.csv.gz", "compared.csv.gz"
TOKENS_PER_S = {"amount": "tokens", "seconds": "seconds"}
COSTS: Metrics = {
    "train_s": ("Training time", "s", "single", {"column": "seconds"}),
    "tokens_per_s": ("Tokens of the examples per second", "tokens/s", "rate", TOKENS_PER_S),
    "tokens": ("Tokens of the examples, in all passes", "tokens", "single", {"column": "tokens"}),
    "computed_tokens": ("Tokens that were computed", "tokens", "single", {"column": "computed_tokens"}),
    "peak_memory": ("Peak memory over the level before", "bytes", "single", {"column": "peak_memory_bytes"}),
    "trainable": ("Trainable parameters", "parameters", "single", {"column": "trainable_parameters"}),
    "adapter": ("Weights on disk", "bytes", "single", {"column": "adapter_bytes"}),
    "too_long": ("Examples left out because they are too long", "examples", "single", {"column": "too_long"}),
}
"""Id of the record → title, unit, statistic and its parameters."""
SPEED: Metrics = {
    "tokens_per_s": ("Generated tokens per second", "tokens/s", "rate", TOKENS_PER_S),
}
SIDES = {"a": "exported", "b": "own"}
PARITY: Metrics = {
    "difference": ("Right results of the export minus PEFT's", "share", "accuracy_difference", SIDES),
    "same": share("Outputs with PEFT's tokens", "same"),
    "different": ("Other tokens per output", "tokens", "mean", {"column": "different_tokens"}),
}
MAIN = "understand"
"""Outputs that are compared with all other outputs for the same examples, and by phenomenon."""
MIN_EXAMPLES = 30
"""Of a phenomenon that gets a record."""


def made_from(config: LanguageModelConfig, examples: Sequence[Example], source: str, base: BaseModel) -> dict[str, Any]:
    """What identifies a training: settings, base model, number and sha256 of the examples in their order, and start."""
    lines = "".join(f"{example.model_dump_json()}\n" for example in examples)
    made = {
        "dataset": source,
        "train_rows": len(examples),
        "rows_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        **base.conditions(),
        "config": config.published,
    }
    if config.start is not None:
        check_base(config.start, base)
        expected = "Expected a folder that `bankllm train --data` wrote."
        with explained(ModelError, f"The adapter {config.start} cannot be continued", expected):
            earlier = json.loads((config.start / TRAINING_FILE).read_bytes())
            rank, weights = earlier["config"]["rank"], sha256_file(config.start / WEIGHTS)
        if rank != config.rank:
            raise UsageError(f"The adapter {config.start} has rank {rank}, got rank {config.rank}. Use --rank {rank}.")
        made["start"] = {"weights_sha256": weights} | {
            key: earlier[key] for key in ("dataset", "train_rows", "rows_sha256", "config", "start") if key in earlier
        }
    return made


def write(
    model: Any, costs: dict[str, Any], curve: list[dict[str, object]], output: Path, made: dict[str, Any]
) -> None:
    """Write the artifact of an adapted model, and replace an earlier one.

    The folder appears when all files are complete. Raises `RunError` if it cannot be written.
    """
    output = output.resolve()
    advice = (
        "Choose a writable folder on a disk with enough free space, and train again with the same checkpoint: the "
        "training resumes after its last step."
    )
    fault = f"The adapter cannot be written to {output}"
    with explained(RunError, fault, advice, OSError), atomic_folder(output) as new:
        # PEFT recorded the folder of the base model on this machine.
        model.peft_config["default"].base_model_name_or_path = made["model"]
        model.save_pretrained(str(new), save_embedding_layers=False)
        (new / "README.md").unlink(missing_ok=True)
        store_in_16_bits(new / WEIGHTS)
        size = (new / WEIGHTS).stat().st_size
        write_rows(new / "raw" / COST, [{**costs, "adapter_bytes": size}])
        write_rows(new / "raw" / CURVE, curve)
        measured_on = host(str(costs["device"]), str(costs["precision"]))
        training = {"schema_version": 1, "task": "language-model", **made, "host": measured_on}
        (new / TRAINING_FILE).write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
        describe(new)


def store_in_16_bits(path: Path) -> None:
    """Halve the size of the weights. PEFT loads them in 32 bits."""
    from safetensors.torch import load_file, save_file

    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def add_outputs(
    folder: Path,
    outputs: Mapping[str, Sequence[Mapping[str, object]]],
    costs: Mapping[str, Mapping[str, object]] | None = None,
) -> list[Record]:
    """Add evaluated outputs to an artifact folder, and describe it again. Returns all records.

    `outputs` has the rows of `task_scores` by the name of their file in `raw/`, which starts with `understand` or
    `word`: `{"understand": …, "understand_free": …, "word": …}`; or with `parity_` for the rows of an export. `costs`
    has one row with `tokens` and `seconds` by the same names.
    """
    raw = folder / "raw"
    for name, rows in outputs.items():
        write_rows(raw / f"{name}.csv.gz", rows)
        if name == MAIN:
            write_rows(raw / PHENOMENA, by_phenomenon(rows))
    for name, row in (costs or {}).items():
        write_rows(raw / f"speed_{name}.csv.gz", [row])
    _compare(raw)
    return describe(folder)


def describe(folder: Path) -> list[Record]:
    """Compute `records.jsonl` and the model card of an artifact folder from its raw files. Returns the records."""
    made = json.loads((folder / TRAINING_FILE).read_bytes())
    conditions = {**made, "files": {name: sha256_file(folder / name) for name in (WEIGHTS, TRAINING_FILE)}}
    about: dict[str, Any] = {"notebook": "training", "conditions": conditions}
    records = []
    for prefix, path, where, metrics in _measured(folder / "raw"):
        raw = Raw(path=path.relative_to(folder).as_posix(), sha256=sha256_file(path), where=where)
        for id, (title, about["unit"], statistic, parameters) in metrics.items():
            about["title"] = f"{prefix.rstrip('_')}: {title.lower()}" if prefix else title
            records.append(measure(folder, prefix + id, statistic, raw, parameters=parameters, **about))
    write_records(folder, records)
    front_matter = ModelCardData(
        base_model=made["model"],
        library_name="peft",
        license="apache-2.0" if made["model"].startswith("SmolLM2") else None,
        pipeline_tag="text-generation",
        language="en",
        tags=["banking", "tool-calling", made["config"]["method"]],
    )
    card = render_card(TEMPLATE, front_matter, made["host"], made["config"], made=made, records=records)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return records


def _measured(raw: Path) -> Iterator[tuple[str, Path, dict[str, str], Metrics]]:
    """Yield the prefix of the ids, the raw file, the selection of its rows, and what is measured on them."""
    yield "", raw / COST, {}, COSTS
    for task, metrics in ((MAIN, UNDERSTAND), ("word", WORD), ("speed", SPEED)):
        for name, path in _outputs(raw, task):
            yield f"{name}_", path, {}, metrics
            if name == "understand_routed":
                yield f"{name}_", path, {}, ROUTED
    for prefix, path in _outputs(raw, "parity"):
        for task in sorted({row["task"] for row in read_table(path, prefix)}):
            yield f"{prefix}_{task}_", path, {"task": task}, PARITY
    if (path := raw / PHENOMENA).exists():
        counts = Counter(row["phenomenon"] for row in read_table(path, PHENOMENA))
        for name, count in counts.most_common():
            if name and count >= MIN_EXAMPLES:
                yield f"{name}_", path, {"phenomenon": name}, {"exact": UNDERSTAND["exact"]}
    if (path := raw / COMPARED).exists():
        for name in read_table(path, COMPARED)[0]:
            if name not in ("actual", MAIN):
                both = {"a": MAIN, "b": name}
                metrics = {
                    "difference": ("Exactly right calls, difference", "share", "accuracy_difference", both),
                    "p": ("Exact McNemar test", "p", "mcnemar", both),
                }
                yield f"against_{name.removeprefix(f'{MAIN}_')}_", path, {}, metrics


def _compare(raw: Path) -> None:
    """Write the predictions of all outputs for the same examples as `MAIN` side by side."""
    found = {name: read_table(path, name) for name, path in _outputs(raw, MAIN)}
    columns = {"actual": [row["actual"] for row in found.get(MAIN, ())]}
    for name, rows in found.items():
        if [row["actual"] for row in rows] == columns["actual"]:
            columns[name] = [row["predicted"] for row in rows]
    (raw / COMPARED).unlink(missing_ok=True)
    if len(columns) > 2:
        lines = zip(*columns.values(), strict=True)
        write_rows(raw / COMPARED, (dict(zip(columns, line, strict=True)) for line in lines))


def _outputs(raw: Path, task: str) -> list[tuple[str, Path]]:
    """Name and path of each file of a task."""
    return [(path.name.removesuffix(".csv.gz"), path) for path in sorted(raw.glob(f"{task}*.csv.gz"))]
