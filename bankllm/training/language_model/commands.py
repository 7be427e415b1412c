"""`bankllm evaluate` and `bankllm export` of a fine-tuned language model; a classifier is exported, too."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bankllm.errors import UsageError


def evaluate(
    adapter: Annotated[Path, typer.Argument(help="Folder of a language model's adapter.")],
    base_model: Annotated[
        str, typer.Option(help="The model of the adapter: smollm2, a Hub id or a folder.")
    ] = "smollm2",
    engine: Annotated[str, typer.Option(help="openvino, or transformers for models other than smollm2.")] = "openvino",
    untuned: Annotated[bool, typer.Option("--untuned", help="Evaluate the base model, too.")] = False,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Only so many examples of each test set, in equal distances.")
    ] = None,
) -> None:
    """Evaluate a fine-tuned language model on the test sets of TellerChat, and print what it reached.

    The outputs, records and card of the adapter's folder are updated.
    """
    from bankllm.datasets.tellerchat import Understand, Word, load
    from bankllm.evidence.format import format_interval, format_value
    from bankllm.model import generation
    from bankllm.training.language_model import evaluate_adapter as evaluation
    from bankllm.util.sampling import subset

    if not is_language_model(adapter):
        raise UsageError(f"{adapter} is no adapter of a language model. Expected one of `bankllm train --data`.")
    records = evaluation.evaluate(
        adapter,
        lambda folder: generation.load(base_model, folder, engine=engine),
        subset(load(Understand, "test"), examples),
        subset(load(Word, "test"), examples),
        untuned=untuned,
    )
    for record in records:
        typer.echo(f"{record.title:<70} {format_value(record):>16}  {format_interval(record)}")


def export(
    adapter: Annotated[
        Path, typer.Argument(help="Folder of the trained classifier, or of a language model's adapter.")
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            help="ONNX file or new folder to write.", show_default="beside the adapter: NAME.onnx, NAME-gguf"
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="onnx (a classifier); merged (a folder for transformers) or gguf (Ollama, llama.cpp)."),
    ] = None,
    weights: Annotated[str, typer.Option(help="Type of the matrices in GGUF: F32, F16, Q8_0 or Q4_1.")] = "F16",
    check: Annotated[
        bool, typer.Option("--check", help="Compare the export's outputs with the adapter's own, which takes minutes.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(help="Also upload the export to this repository (USER/NAME) of the Hugging Face Hub.")
    ] = None,
    base_model: Annotated[
        str, typer.Option(help="Of a language model's adapter: smollm2, a Hub id or a folder.")
    ] = "smollm2",
    examples: Annotated[int | None, typer.Option(min=1, help="Examples of each test set for --check.")] = None,
) -> None:
    """Export a trained classifier or language model, with its adapter merged into it, for other programs.

    With --check, the exit code is 1 if the export loses more than 0.5 points of what the adapter reaches.
    """
    expected = ("merged", "gguf") if is_language_model(adapter) else ("onnx",)
    to = to or expected[0]
    if to not in expected or (to == "onnx" and (check or push)):
        options = " or ".join(f"--to {form}" for form in expected)
        raise UsageError(
            f"{adapter} cannot be exported so. Expected {options}; --check and --push need a language model."
        )
    if to == "onnx":
        from bankllm.model.export import export_onnx

        written = export_onnx(adapter, output or adapter.with_name(f"{adapter.name}.onnx"))
        typer.echo(f"Written to {written} ({written.stat().st_size / 2**20:.1f} MiB)")
        return
    from bankllm.model import base_models, generation
    from bankllm.model.generation import merged_weights as exports
    from bankllm.settings import get_settings

    settings, folder = get_settings(), output or adapter.with_name(f"{adapter.name}-{to}")
    base = base_models.resolve(base_model, settings)
    generation.check_base(adapter, base)
    if to == "merged":
        exports.export_merged(base, adapter, folder, settings)
    else:
        exports.export_gguf(base, adapter, folder, weights, settings)
    typer.echo(f"Written to {folder} ({sum(path.stat().st_size for path in folder.iterdir()) / 2**20:.0f} MiB)")
    if check:
        _check_export(adapter, folder, to if to == "merged" else f"{to}_{weights}", base, examples)
    if push:
        exports.push(folder, push, settings)
        typer.echo(f"Uploaded to https://huggingface.co/{push}")


def _check_export(adapter: Path, folder: Path, name: str, base: Any, examples: int | None) -> None:
    from bankllm.datasets.tellerchat import Understand, Word, load
    from bankllm.evidence.format import format_interval, format_value
    from bankllm.settings import get_settings
    from bankllm.training.language_model import adapter_folder, parity
    from bankllm.util.sampling import subset

    tests = subset(load(Understand, "test"), examples), subset(load(Word, "test"), examples)
    rows = parity.parity(adapter, folder, base, *tests, get_settings())
    records = adapter_folder.add_outputs(adapter, {f"parity_{name}": rows})
    found = [record for record in records if record.id.startswith(f"parity_{name}_")]
    for record in found:
        typer.echo(f"{record.title:<70} {format_value(record):>16}  {format_interval(record)}")
    if lost := parity.lost(found):
        typer.echo(f"The export loses more than {parity.MAX_LOSS:.1%}: {', '.join(lost)}", err=True)
        raise typer.Exit(1)


def is_language_model(folder: Path) -> bool:
    from bankllm.model.artifact import TRAINING_FILE

    try:
        return bool(json.loads((folder / TRAINING_FILE).read_bytes()).get("task") == "language-model")
    except (OSError, ValueError, AttributeError):
        return False
