"""`bankllm train`: train one classifier."""

from pathlib import Path
from typing import Annotated

import typer

from bankllm.settings import parse_assignments


def train(
    output: Annotated[
        Path,
        typer.Argument(
            help="Folder for the trained classifier: a new or empty folder, or an earlier classifier to replace."
        ),
    ],
    method: Annotated[str, typer.Option(help="Training method, such as probe, lora, qlora or full.")] = "lora",
    rank: Annotated[int, typer.Option(help="Rank of the LoRA adapter.")] = 8,
    epochs: Annotated[int, typer.Option(help="Number of passes over the training texts.")] = 2,
    dataset: Annotated[str, typer.Option(help="Data set: auto, banking77, teller77, assistant or a folder.")] = "auto",
    base_model: Annotated[str, typer.Option(help="Base model: minilm, a Hugging Face id or a folder.")] = "minilm",
    max_length: Annotated[int, typer.Option(help="Maximum tokens per text; longer texts are cut.")] = 64,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="Any other field of TrainConfig, as name=value. Can be repeated."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File for the state after each epoch. An interrupted training resumes from it.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First train on a validation split, to choose the abstention threshold.")
    ] = False,
) -> None:
    """Train one classifier, save it, and print its test accuracy and costs."""
    from bankllm import datasets
    from bankllm.training.config import TrainConfig
    from bankllm.training.model_card import check_output
    from bankllm.training.split import calibrate_threshold, split_validation
    from bankllm.training.train import train as fit

    fields = {"method": method, "rank": rank, "epochs": epochs, "base_model": base_model}
    fields |= {"max_length": max_length, "seed": seed, **parse_assignments(option or [])}
    config = TrainConfig.model_validate(fields)
    check_output(output)
    data = datasets.load(dataset)
    typer.echo(data.describe())
    if calibrate:
        threshold = calibrate_threshold(fit(config, split_validation(data)).predictions)
        typer.echo(f"the classifier abstains below a confidence of {threshold:.3f}")
        config = config.model_copy(update={"threshold": threshold})
    result = fit(config, data, output, checkpoint=checkpoint)
    right = sum(row["actual"] == row["predicted"] for row in result.predictions)
    costs = result.costs
    cut = f", {costs.truncated} texts cut at {config.max_length} tokens" if costs.truncated else ""
    typer.echo(
        f"accuracy {right / len(result.predictions):.4f} on {len(result.predictions)} test texts, "
        f"{costs.seconds:.1f} s ({costs.examples_per_second:.0f} texts/s), peak memory "
        f"{costs.peak_memory_bytes / 2**20:.0f} MiB, {costs.trainable_parameters:,} trainable parameters{cut}"
    )
    typer.echo(f"Written to {output}")
