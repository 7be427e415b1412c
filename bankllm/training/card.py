"""The folder that a training leaves behind: the artefact, and a model card that says what it is and how good."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from bankllm import models
from bankllm.classifier import TRAINING_FILE, Artefact, IntentClassifier
from bankllm.errors import RunError, UsageError


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


def write_artefact(classifier: IntentClassifier, output: Path, right: int, tested: int) -> int:
    """Write artefact and card, all or nothing; an earlier artefact in `output` is replaced.

    Returns the bytes of its weights: adapter (or body) and head. Raises `RunError` where it cannot be written.
    """
    try:
        with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
            made = Path(folder) / "artefact"
            classifier.save(made)
            (made / "README.md").write_text(model_card(classifier.artefact, right, tested), encoding="utf-8")
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


def model_card(artefact: Artefact, right: int, tested: int) -> str:
    """`README.md` in the Hub's form: YAML front matter, then Markdown. `right` of `tested` test texts."""
    data = artefact.training
    score = (
        f"**{right / tested:.1%}** of the test texts get the right intent ({right:,} of {tested:,})"
        if tested
        else "not tested"
    )
    body = f"""
# Banking intents: {_method(artefact)} on {published_name(artefact.base_model)}

Sorts a customer's message into one of {len(artefact.label_names)} intents. Result on the test split,
which training did not see: {score}.

| data | rows | sha256 |
|---|---|---|
| {data["dataset"]}, train | {data["train_rows"]:,} | `{data["train_sha256"]}` |
| {data["dataset"]}, test | {data["test_rows"]:,} | `{data["test_sha256"]}` |

## Use

```python
from pathlib import Path

from bankllm import IntentClassifier

classifier = IntentClassifier.load(Path("."))  # this folder
print(classifier.predict(["My card has not arrived yet"]))
```

`training.json` holds the labels, the pooling and every training choice; `head.safetensors` the linear head.
Texts are cut at {artefact.max_length} tokens. It knows no intent but its own: put a threshold on the confidence.
"""
    return _front_matter(artefact) + body


def published_name(base_model: str) -> str:
    """The base model's name on the Hub, or the name of the local folder; never a path."""
    if base_model == "minilm":
        return models.MINILM_ID
    return models.resolve(base_model).name


def _front_matter(artefact: Artefact) -> str:
    fields: dict[str, object] = {
        "base_model": published_name(artefact.base_model),
        "library_name": "peft" if artefact.method in ("lora", "qlora") else "transformers",
        "pipeline_tag": "text-classification",
        "language": "en",
        "tags": ["banking", "intent-classification", artefact.method],
    }
    # JSON is YAML: no quoting rules to get wrong.
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()) + "---\n"


def _method(artefact: Artefact) -> str:
    names = {"probe": "a linear probe", "lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}
    name = names[artefact.method]
    return f"{name} (r = {artefact.training['config']['rank']})" if artefact.method in ("lora", "qlora") else name
