"""The folder that a training leaves behind: weights, labels, evidence, and a model card in the Hub's form.

Every number on the card comes from a record beside it: the front matter's `model-index` holds all digits, the text
holds claims that `bankllm verify FOLDER` checks.
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
"""Id of a record → the Hub's name of the metric, where the two differ."""


def check_output(output: Path) -> None:
    """Find out before the training whether its result can be written, and that nothing else is overwritten."""
    if output.exists() and not (output / TRAINING_FILE).exists() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} holds something that is not a trained classifier. Name a new or empty folder.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent):
            pass
    except OSError as error:
        raise _not_written(output, error) from error


def write_artifact(
    classifier: IntentClassifier, output: Path, predictions: Sequence[Mapping[str, object]], costs: Costs
) -> int:
    """Write artifact, evidence and card, all or nothing; an earlier artifact in `output` is replaced.

    `predictions` are the rows of `TrainResult.predictions`.
    Returns the bytes of its weights: adapter (or body) and head. Raises `RunError` where it cannot be written.
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
        f"The trained classifier cannot be written to {output} ({error}). Nothing was left there; name a folder on a "
        "disk with room that you may write to."
    )


def published_name(base_model: str) -> str:
    """The base model's name on the Hub, or the name of the local folder; never a path."""
    if base_model == "minilm":
        return base_models.MINILM_ID
    return base_models.resolve(base_model).name


def model_card(artifact: ClassifierConfig, records: Iterable[Record]) -> str:
    """`README.md` in the Hub's form: YAML front matter, then Markdown. `records` as `write_evidence` gives them."""
    by_id = {record.id: record for record in records}
    data, base = artifact.training, published_name(artifact.base_model)
    terms = licence(data["dataset"])
    has_adapter = artifact.method in ("lora", "qlora")
    plain = f"\nWith PEFT alone:\n\n{_peft_snippet(artifact, base)}\n" if has_adapter else ""
    quality = "\n".join(f"| {by_id[id].title} | {_claim(by_id[id])} | {format_interval(by_id[id])} |" for id in QUALITY)
    costs = "\n".join(f"| {by_id[id].title} | {_claim(by_id[id])} |" for id in COSTS)
    conditions = by_id["train_s"].conditions
    return f"""---
{_front_matter(artifact, by_id)}
---

# Banking intents: {_method(artifact)} on {base}

Sorts a customer's message into one of {len(artifact.label_names)} intents. On the test split, which training did not
see, each number recomputed by `bankllm verify` from `raw/` beside this card:

| | value | 95 % interval |
|---|---|---|
{quality}

| data | rows | sha256 |
|---|---|---|
| {data["dataset"]}, train | {data["train_rows"]:,} | `{data["train_sha256"]}` |
| {data["dataset"]}, test | {data["test_rows"]:,} | `{data["test_sha256"]}` |

{terms.notice if terms else "Under which licence the data may be used is not known to this card."}

## Use

```python
from bankllm.training import load

classifier = load(".")  # this folder
print(classifier.predict(["My card has not arrived yet"]))
```
{plain}
`training.json` holds the labels, the pooling and every training choice; `head.safetensors` the {_head(artifact)}.

## Limits

- It knows no intent but its own, and gives one to any text. {_abstention(artifact)}
- Texts are cut at {artifact.max_length} tokens. It learnt English, short messages from one person to a bank.
- A figure on {data["dataset"]} says little about your customers: test it on their messages before you rely on it.

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
        # After full fine-tuning the weights are the base model's too, whose own licence holds.
        license=terms.id if terms and artifact.method != "full" else None,
        pipeline_tag="text-classification",
        language="en",
        tags=["banking", "intent-classification", artifact.method],
        model_name=f"{_method(artifact)} on {published_name(artifact.base_model)}",
        eval_results=results or None,
    ).to_yaml()


def _claim(record: Record) -> str:
    """The value, bound to its record: `bankllm verify` compares."""
    if record.status != "measured" or record.value is None:
        return f"{record.status}: {record.invalid_because}"
    return f"<!-- claim: {record.id} -->{format_value(record)}<!-- /claim -->"


def _head(artifact: ClassifierConfig) -> str:
    if artifact.kernel_gamma is None:
        return "linear head"
    return (
        "kernel head: for each training text its embedding, and what it says for each intent. Whoever has the base "
        "model can guess at a training text from it: publish it only where the texts may be published"
    )


def _method(artifact: ClassifierConfig) -> str:
    probe = "a linear probe" if artifact.kernel_gamma is None else "a kernel head"
    names = {"probe": probe, "lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}
    name = names[artifact.method]
    return f"{name} (r = {artifact.training['config']['rank']})" if artifact.method in ("lora", "qlora") else name


def _abstention(artifact: ClassifierConfig) -> str:
    if artifact.threshold:
        return f"Below a confidence of {artifact.threshold:.3f} `predict` says that it abstains."
    return "No threshold was calibrated: set one on validation data, and hand over to a person below it."


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
likeness = (2 * {artifact.kernel_gamma} * (embedding @ head["landmarks"].T - 1)).exp()
logits = {artifact.logit_scale} * (likeness @ head["weight"].T + head["bias"])"""
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
embedding = normalize({pooled}.float(), dim=-1)  # one text, so no padding to leave out
head = load_file("head.safetensors")
{logits}
print(json.load(open("training.json"))["label_names"][logits.argmax()])
```"""
