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
from bankllm.errors import RunError, UsageError, explained
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.manifest import left_by_tools
from bankllm.evidence.records import Record, write_rows
from bankllm.model.artifact import ADAPTER_FILE, BODY_FOLDER, TRAINING_FILE, ClassifierConfig
from bankllm.model.quiet_loading import quiet_loading
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.artifact_records import COSTS, QUALITY, Costs, write_evidence
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS
from bankllm.util.atomic_files import atomic_folder

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
ROWS = "rows.csv"
"""File of an artifact with the rows of the evaluation that its training asked for."""


def check_output(output: Path) -> None:
    """Check before the training that its result can be written to `output`.

    Raises `UsageError` if `output` is a file, or a folder with other files, which would be overwritten, and `RunError`
    if no folder with this name can be written.
    """
    output = Path(os.path.realpath(output))  # unlike `resolve`, without an exception for a loop of links
    others = output.is_file() or (output.is_dir() and any(not left_by_tools(path.name) for path in output.iterdir()))
    if others and not (output / TRAINING_FILE).exists():
        raise UsageError(
            f"{output} exists and is not a trained classifier. Choose a new or empty folder, or the folder of an "
            "earlier classifier to replace it."
        )
    advice = "Nothing was trained. Choose a new folder inside a writable folder."
    with explained(RunError, f"A trained classifier cannot be written to {output}", advice, OSError):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_mount() or output.is_symlink() or (output.exists() and not os.access(output, os.W_OK)):
            raise PermissionError("it is a mount point, read-only, or a link to itself, so it cannot be replaced")
        with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
            (Path(folder) / output.name).mkdir()


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
    output, artifact = output.resolve(), classifier.artifact
    config = TrainConfig.model_validate(artifact.training["config"])
    fault, causes = f"The trained classifier cannot be written to {output}", (OSError, SafetensorError)
    advice = (
        "No partial result was left. Choose a writable folder on a disk with enough free space, and train again with "
        "the same checkpoint: the training resumes after its last epoch."
    )
    with explained(RunError, fault, advice, causes), atomic_folder(output) as made:
        with quiet_loading():
            METHODS.get(artifact.method).artifact(classifier.module.body, made)
        classifier.save(made)
        size = sum(path.stat().st_size for path in made.rglob("*.safetensors"))
        costs = costs.model_copy(update={"adapter_bytes": size})
        records = write_evidence(made, artifact, config.published_base, predictions, costs)
        (made / "README.md").write_text(_model_card(made, artifact, config, records), encoding="utf-8")
        if rows is not None:
            write_rows(made / ROWS, rows)
    return costs


def _model_card(folder: Path, artifact: ClassifierConfig, config: TrainConfig, records: Mapping[str, Record]) -> str:
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
    conditions = records["train_s"].conditions
    return render_card(
        TEMPLATE,
        front_matter,
        conditions["host"],
        conditions["config"],
        artifact=artifact,
        data=artifact.training,
        terms=terms,
        base=base,
        title=title,
        has_adapter=has_adapter,
        pooled={"mean": "hidden.mean(dim=1)", "cls": "hidden[:, 0]", "last": "hidden[:, -1]"}[artifact.pooling],
        quality=[records[id] for id in QUALITY],
        costs=[records[id] for id in COSTS],
    )


def render_card(
    template: Path, front_matter: ModelCardData, host: Mapping[str, object], config: object, **values: object
) -> str:
    """Return a model card: YAML front matter for the Hub, then Markdown from a template with these values."""
    environment = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    environment.filters |= {"claim": claim, "interval": format_interval}
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        front_matter=front_matter.to_yaml(),
        host=", ".join(f"{key} {value}" for key, value in host.items()),
        config=json.dumps(config, indent=2),
        **values,
    )


def claim(record: Record) -> str:
    """Return the value as a claim, which `bankllm verify` compares with the record."""
    if record.status != "measured" or record.value is None:
        return f"{record.status}: {record.invalid_because}"
    return f"<!-- claim: {record.id} -->{format_value(record)}<!-- /claim -->"
