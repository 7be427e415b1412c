"""Write the artifact folder of a training: weights, labels, evidence, and a model card in the format of the Hub.

Every number on the card comes from a record in the same folder; `bankllm verify FOLDER` compares them. The text of the
card is `model_card.md.j2`.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined
from safetensors import SafetensorError

from bankllm.datasets import licence
from bankllm.errors import RunError, UsageError
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import Record, write_rows
from bankllm.model import base_models
from bankllm.model.artifact import ADAPTER_FILE, BODY_FOLDER, TRAINING_FILE, ClassifierConfig
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.artifact_records import COSTS, QUALITY, Costs, write_evidence
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
ROWS = "rows.csv"
"""File of an artifact with the rows of the evaluation that its training asked for."""


def check_output(output: Path) -> None:
    """Check before the training that its result can be written to `output`.

    Raises `UsageError` if `output` is a file, or a folder with other files, which would be overwritten, and `RunError`
    if the parent folder is not writable.
    """
    if output.exists() and not (output / TRAINING_FILE).exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(
            f"{output} exists and is not a trained classifier. Choose a new or empty folder, or the folder of an "
            "earlier classifier to replace it."
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(output.parent, os.W_OK):
            raise PermissionError("permission denied")
    except OSError as error:
        raise _not_written(output, error) from error


def write_artifact(
    classifier: IntentClassifier,
    output: Path,
    predictions: Sequence[Mapping[str, object]],
    costs: Costs,
    rows: Iterable[Mapping[str, object]] | None = None,
) -> Costs:
    """Write artifact, evidence and model card, and `rows.csv` if `rows` are given. Replaces an earlier artifact.

    The folder appears only when all files are complete. `predictions` are the rows of `TrainResult.predictions`.
    Returns the costs, with the size of the weights. Raises `RunError` if writing fails.
    """
    artifact = classifier.artifact
    config = TrainConfig.model_validate(artifact.training["config"])
    try:
        with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
            made = Path(folder) / "artifact"
            made.mkdir()
            with base_models.quiet_loading():
                METHODS.get(artifact.method).artifact(classifier.module.body, made)
            classifier.save(made)
            size = sum(path.stat().st_size for path in made.rglob("*.safetensors"))
            costs = costs.model_copy(update={"adapter_bytes": size})
            records = write_evidence(made, artifact, config.published_base, predictions, costs)
            (made / "README.md").write_text(_model_card(made, artifact, config, records), encoding="utf-8")
            if rows is not None:
                write_rows(made / ROWS, rows)
            for path in made.rglob("*.*"):
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            if output.exists():
                output.rename(Path(folder) / "previous")
            made.rename(output)
    except (OSError, SafetensorError) as error:
        raise _not_written(output, error) from error
    return costs


def _not_written(output: Path, error: Exception) -> RunError:
    return RunError(
        f"The trained classifier cannot be written to {output} ({error}). No partial result was left. Choose a "
        "writable folder on a disk with enough free space."
    )


def _model_card(folder: Path, artifact: ClassifierConfig, config: TrainConfig, records: Mapping[str, Record]) -> str:
    """Return the text of `README.md`: YAML front matter for the Hub, then Markdown."""
    base, method, dataset = (config.published_base, METHODS.get(artifact.method), artifact.training["dataset"])
    terms, has_adapter = licence(dataset), (folder / ADAPTER_FILE).exists()
    title = f"{method.name} (r = {config.rank})" if method.ranked else method.title(config)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset.partition("[")[0],
            dataset_name=dataset,
            dataset_split="test",
            metric_type="f1" if id == "macro_f1" else id,  # its name on the Hub
            metric_name=records[id].title,
            metric_value=records[id].value,
        )
        for id in QUALITY
        if records[id].status == "measured"
    ]
    front_matter = ModelCardData(
        base_model=base,
        library_name="peft" if has_adapter else "transformers",
        # A folder that contains the base model's weights is under the base model's licence.
        license=terms.id if terms and not (folder / BODY_FOLDER).exists() else None,
        pipeline_tag="text-classification",
        language="en",
        tags=["banking", "intent-classification", artifact.method],
        model_name=f"{title} on {base}",
        eval_results=results or None,
    )
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    environment.filters |= {"claim": _claim, "interval": format_interval}
    conditions = records["train_s"].conditions
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        front_matter=front_matter.to_yaml(),
        artifact=artifact,
        data=artifact.training,
        terms=terms,
        base=base,
        title=title,
        has_adapter=has_adapter,
        pooled={"mean": "hidden.mean(dim=1)", "cls": "hidden[:, 0]", "last": "hidden[:, -1]"}[artifact.pooling],
        quality=[records[id] for id in QUALITY],
        costs=[records[id] for id in COSTS],
        host=", ".join(f"{key} {value}" for key, value in conditions["host"].items()),
        config=json.dumps(conditions["config"], indent=2),
    )


def _claim(record: Record) -> str:
    """Return the value as a claim, which `bankllm verify` compares with the record."""
    if record.status != "measured" or record.value is None:
        return f"{record.status}: {record.invalid_because}"
    return f"<!-- claim: {record.id} -->{format_value(record)}<!-- /claim -->"
