"""One training in two processes that `accelerate launch` starts."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from bankllm import training
from bankllm.datasets import Dataset, Split, load
from bankllm.training.config import TrainConfig
from bankllm.training.train import train

OPTIONS = ["--rank", "4", "--epochs", "2", "--option", "batch_size=16"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("teller77").first_intents(5)


@pytest.fixture(scope="module")
def folder(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as CSV files, because each process reads its data from disk."""
    folder = tmp_path_factory.mktemp("five-intents")
    for name, split in (("train", data.train), ("test", data.test)):
        write(folder / f"{name}.csv", split, data.label_names)
    return folder


def write(path: Path, split: Split, names: tuple[str, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "category"])
        writer.writerows(zip(split.texts, (names[label] for label in split.labels), strict=True))


def launch(folder: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    arguments = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "bankllm.training"]
    return subprocess.run(
        [*command, *arguments, str(output), "--dataset", str(folder), *OPTIONS, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_train_a_classifier_as_accurate_as_one_process(folder, data, tmp_path):
    done = launch(folder, tmp_path / "adapter")
    assert done.returncode == 0, done.stderr
    # Each line appears once, because the second process prints nothing.
    lines = (
        r"five-intents\d+ \(folder\): .*",
        r"2 processes share each batch",
        r"accuracy (0\.\d+|1\.0+) on (\d+) test texts, .*",
        r"Written to .*",
    )
    output = re.fullmatch("\n".join(lines) + "\n", done.stdout)
    assert output, done.stdout
    assert int(output[2]) == len(data.test)

    config = TrainConfig(rank=4, epochs=2, batch_size=16)
    one_process = []
    for seed in range(3):
        result = train(config.model_copy(update={"seed": seed}), data, progress=False)
        one_process.append(mean(row["actual"] == row["predicted"] for row in result.predictions))
    text = 1 / len(data.test)
    assert min(one_process) - 2 * text <= float(output[1]) <= max(one_process) + 2 * text

    classifier = training.load(tmp_path / "adapter")
    answers = classifier.predict(data.test.texts)
    right = mean(answer.intent == data.label_names[y] for answer, y in zip(answers, data.test.labels, strict=True))
    assert right == pytest.approx(float(output[1]), abs=1e-4)


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_evenly_is_refused_once(folder, tmp_path):
    done = launch(folder, tmp_path / "adapter", "--option", "batch_size=15")
    assert done.returncode != 0
    assert done.stderr.count("Error: A batch of 15 texts cannot be divided evenly among 2 processes") == 1
    assert not (tmp_path / "adapter").exists()
