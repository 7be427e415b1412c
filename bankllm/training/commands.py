"""`bankllm train`: train one classifier, or with `--data` fine-tune one language model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bankllm.settings import parse_assignments


def train(
    output: Annotated[
        Path,
        typer.Argument(help="Folder for the result: a new or empty folder, or an earlier result to replace."),
    ],
    method: Annotated[str, typer.Option(help="Training method, such as probe, lora, qlora or full.")] = "lora",
    rank: Annotated[int, typer.Option(help="Rank of the LoRA adapter.")] = 8,
    epochs: Annotated[int, typer.Option(help="Number of passes over the training texts.")] = 2,
    dataset: Annotated[str, typer.Option(help="Data set: auto, banking77, teller77, assistant or a folder.")] = "auto",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Fine-tune a language model on the examples of this file (JSON Lines in the format of TellerChat), or "
            "on the packaged ones: tellerchat. Can be repeated."
        ),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Base model: minilm, smollm2, a Hugging Face id or a folder.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum tokens: a classifier cuts longer texts, --data leaves them out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            help="Any other field of TrainConfig or LanguageModelConfig, as name=value. Can be repeated.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="File for the state after each epoch (--data: folder for the state after every 20 steps). An "
            "interrupted training resumes from it."
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First train on a validation split, to choose the abstention threshold.")
    ] = False,
) -> None:
    """Train one classifier or language model, save it, and print its test accuracy and costs."""
    fields = {"method": method, "rank": rank, "epochs": epochs, "base_model": base_model, "max_length": max_length}
    fields = {name: value for name, value in fields.items() if value is not None}
    fields |= {"seed": seed, **parse_assignments(option or [])}
    if data:
        _fine_tune(data, fields, output, checkpoint)
        return
    from bankllm import datasets
    from bankllm.training.config import TrainConfig
    from bankllm.training.model_card import check_output
    from bankllm.training.split import calibrate_threshold, split_validation
    from bankllm.training.train import train as fit

    config = TrainConfig.model_validate(fields)
    check_output(output)
    texts = datasets.load(dataset)
    typer.echo(texts.describe())
    if calibrate:
        threshold = calibrate_threshold(fit(config, split_validation(texts)).predictions)
        typer.echo(f"the classifier abstains below a confidence of {threshold:.3f}")
        config = config.model_copy(update={"threshold": threshold})
    result = fit(config, texts, output, checkpoint=checkpoint)
    right = sum(row["actual"] == row["predicted"] for row in result.predictions)
    costs = result.costs
    cut = f", {costs.truncated} texts cut at {config.max_length} tokens" if costs.truncated else ""
    typer.echo(
        f"accuracy {right / len(result.predictions):.4f} on {len(result.predictions)} test texts, "
        f"{costs.seconds:.1f} s ({costs.examples_per_second:.0f} texts/s), peak memory "
        f"{costs.peak_memory_bytes / 2**20:.0f} MiB, {costs.trainable_parameters:,} trainable parameters{cut}"
    )
    typer.echo(f"Written to {output}")


def _fine_tune(sources: list[str], fields: dict[str, Any], output: Path, checkpoint: Path | None) -> None:
    from bankllm.datasets.tellerchat import Understand, Word, load, read
    from bankllm.training.config import LanguageModelConfig
    from bankllm.training.language_model.fine_tune import fine_tune

    config = LanguageModelConfig.model_validate(fields)
    examples: list[Understand | Word] = []
    for source in sources:
        packaged = source == "tellerchat"
        examples += [*load(Understand, "train"), *load(Word, "train")] if packaged else read(Path(source))
    tuned = fine_tune(
        config, examples, output, source="+".join(Path(name).stem for name in sources), checkpoint=checkpoint
    )
    if tuned.too_long:
        numbers = ", ".join(str(position + 1) for position in tuned.too_long[:10])
        typer.echo(f"{len(tuned.too_long)} examples of more than {config.max_length} tokens left out: number {numbers}")
    seconds, tokens = tuned.costs["seconds"], tuned.costs["tokens"]
    typer.echo(f"{tuned.costs['examples']} examples, {tokens:,} tokens in {seconds:.0f} s ({tokens / seconds:.0f}/s)")
    typer.echo(f"Written to {output}")
