"""Write the artifact folder of a training: weights, labels, evidence, and a model card in the format of the Hub.

Every number on the card comes from a record in the same folder. The `model-index` of the front matter holds the full
values. The text holds claims, which `bankllm verify FOLDER` compares with the records.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import EvalResult, ModelCardData
from safetensors import SafetensorError

from bankllm.datasets import licence
from bankllm.errors import RunError, UsageError
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import Record
from bankllm.model import base_models
from bankllm.model.artifact import TRAINING_FILE, ClassifierConfig
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.artifact_records import COSTS, QUALITY, Costs, write_evidence

HUB_METRICS = {"macro_f1": "f1"}
"""Id of a record → name of the metric on the Hub, if the names differ."""


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
        with TemporaryDirectory(dir=output.parent):
            pass
    except OSError as error:
        raise _not_written(output, error) from error


def write_artifact(
    classifier: IntentClassifier, output: Path, predictions: Sequence[Mapping[str, object]], costs: Costs
) -> int:
    """Write artifact, evidence and model card. An earlier artifact in `output` is replaced.

    The folder appears only when all files are complete. `predictions` are the rows of `TrainResult.predictions`.
    Returns the size of the weights in bytes: adapter (or body) and head. Raises `RunError` if writing fails.
    """
    artifact = classifier.artifact
    try:
        with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
            made = Path(folder) / "artifact"
            classifier.save(made)
            records = write_evidence(made, artifact, published_name(artifact.base_model), predictions, costs)
            (made / "README.md").write_text(model_card(artifact, records), encoding="utf-8")
            files = [path for path in made.rglob("*") if path.is_file()]
            for path in files:
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            if output.exists():
                output.rename(Path(folder) / "previous")
            made.rename(output)
    except (OSError, SafetensorError) as error:
        raise _not_written(output, error) from error
    return sum(path.stat().st_size for path in output.rglob("*.safetensors"))


def _not_written(output: Path, error: Exception) -> RunError:
    return RunError(
        f"The trained classifier cannot be written to {output} ({error}). No partial result was left. Choose a "
        "writable folder on a disk with enough free space."
    )


def published_name(base_model: str) -> str:
    """Return the name of the base model on the Hub, or the name of the local folder. Never returns a path."""
    if base_model == "minilm":
        return base_models.MINILM_ID
    return base_models.resolve(base_model).name


def model_card(artifact: ClassifierConfig, records: Iterable[Record]) -> str:
    """Return the text of `README.md` in the format of the Hub: YAML front matter, then Markdown.

    `records` are those that `write_evidence` returns.
    """
    by_id = {record.id: record for record in records}
    data, base = artifact.training, published_name(artifact.base_model)
    terms = licence(data["dataset"])
    has_adapter = artifact.method in ("lora", "qlora")
    plain = f"\nWith PEFT only, without bankllm:\n\n{_peft_snippet(artifact, base)}\n" if has_adapter else ""
    quality = "\n".join(f"| {by_id[id].title} | {_claim(by_id[id])} | {format_interval(by_id[id])} |" for id in QUALITY)
    costs = "\n".join(f"| {by_id[id].title} | {_claim(by_id[id])} |" for id in COSTS)
    conditions = by_id["train_s"].conditions
    return f"""---
{_front_matter(artifact, by_id)}
---

# Banking intents: {_method(artifact)} on {base}

Classifies a customer's message into one of {len(artifact.label_names)} intents. Results on the test split, which was
not used for training (`bankllm verify` recomputes each number from the files in `raw/`):

| | value | 95 % interval |
|---|---|---|
{quality}

| data | rows | sha256 |
|---|---|---|
| {data["dataset"]}, train | {data["train_rows"]:,} | `{data["train_sha256"]}` |
| {data["dataset"]}, test | {data["test_rows"]:,} | `{data["test_sha256"]}` |

{terms.notice if terms else "The licence of the data is unknown."}

## Use

```python
from bankllm.training import load

classifier = load(".")  # this folder
print(classifier.predict(["My card has not arrived yet"]))
```
{plain}
`training.json` holds the labels, the pooling and all training settings. `head.safetensors` holds the {_head(artifact)}.

## Limits

- It assigns one of its own intents to every text, including texts on other topics. {_abstention(artifact)}
- Texts are cut at {artifact.max_length} tokens. The training texts are short English messages from one person to a
  bank.
- Results on {data["dataset"]} may not apply to your customers. Test the classifier on their messages before you rely
  on it.

## Cost

| | measured once |
|---|---|
{costs}

On {", ".join(f"{key} {value}" for key, value in conditions["host"].items())}.

## Training configuration

```json
{json.dumps(conditions["config"], indent=2)}
```
"""


def _front_matter(artifact: ClassifierConfig, records: Mapping[str, Record]) -> str:
    name = artifact.training["dataset"]
    terms = licence(name)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=name.partition("[")[0],
            dataset_name=name,
            dataset_split="test",
            metric_type=HUB_METRICS.get(id, id),
            metric_name=title,
            metric_value=records[id].value,
        )
        for id, title in QUALITY.items()
        if records[id].status == "measured"
    ]
    return ModelCardData(
        base_model=published_name(artifact.base_model),
        library_name="peft" if artifact.method in ("lora", "qlora") else "transformers",
        # After full fine-tuning the folder contains the base model's weights, so the base model's licence applies.
        license=terms.id if terms and artifact.method != "full" else None,
        pipeline_tag="text-classification",
        language="en",
        tags=["banking", "intent-classification", artifact.method],
        model_name=f"{_method(artifact)} on {published_name(artifact.base_model)}",
        eval_results=results or None,
    ).to_yaml()


def _claim(record: Record) -> str:
    """Return the value as a claim, which `bankllm verify` compares with the record."""
    if record.status != "measured" or record.value is None:
        return f"{record.status}: {record.invalid_because}"
    return f"<!-- claim: {record.id} -->{format_value(record)}<!-- /claim -->"


def _head(artifact: ClassifierConfig) -> str:
    if artifact.kernel_gamma is None:
        return "linear head"
    return (
        "kernel head: for each training text, its embedding and its weight for each intent. Anyone with the base "
        "model may be able to infer a training text from its embedding, so publish this file only if the texts may be "
        "published"
    )


def _method(artifact: ClassifierConfig) -> str:
    probe = "a linear probe" if artifact.kernel_gamma is None else "a kernel head"
    names = {"probe": probe, "lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}
    name = names[artifact.method]
    return f"{name} (r = {artifact.training['config']['rank']})" if artifact.method in ("lora", "qlora") else name


def _abstention(artifact: ClassifierConfig) -> str:
    if artifact.threshold:
        return f"`predict` abstains if the confidence is below {artifact.threshold:.3f}."
    return (
        "No abstention threshold was calibrated. Choose one on validation data, and hand over to a person if the "
        "confidence is below it."
    )


def _peft_snippet(artifact: ClassifierConfig, base: str) -> str:
    pooled = {"mean": "hidden.mean(dim=1)", "cls": "hidden[:, 0]", "last": "hidden[:, -1]"}[artifact.pooling]
    bits, options = "", ""
    if artifact.quantised:
        bits = (
            '\nfour_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
            "bnb_4bit_use_double_quant=True)"
        )
        options = ", quantization_config=four_bits"
    config = ", BitsAndBytesConfig" if artifact.quantised else ""
    logits = f'logits = {artifact.logit_scale} * embedding @ head["weight"].T + head["bias"]'
    if artifact.kernel_gamma is not None:
        logits = f"""head = {{name: values.float() for name, values in head.items()}}
similarity = (2 * {artifact.kernel_gamma} * (embedding @ head["landmarks"].T - 1)).exp()
logits = {artifact.logit_scale} * (similarity @ head["weight"].T + head["bias"])"""
    return f"""```python
import json

from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer{config}

base = "{base}"{bits}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base{options}), ".").eval()

batch = tokenizer("My card has not arrived yet", truncation=True, max_length={artifact.max_length}, return_tensors="pt")
hidden = model(**batch).last_hidden_state
embedding = normalize({pooled}.float(), dim=-1)  # a single text has no padding to mask
head = load_file("head.safetensors")
{logits}
print(json.load(open("training.json"))["label_names"][logits.argmax()])
```"""
