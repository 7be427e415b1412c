"""Teller77: the data set that is packaged with bankllm, with the intents of Banking77 and of the assistant."""

import json
from functools import cache
from pathlib import Path

from bankllm.datasets import DATASETS, Dataset, DataSource, Licence
from bankllm.datasets.csv_folder import read_folder
from bankllm.settings import Settings

FOLDER = Path(__file__).parents[1] / "data" / "teller77"
SHA256 = {
    "train": "735d190ab79c8afa1a7ec76e4bb903f837d6e660e505df973a1f7c0098a636ce",
    "test": "5c36acf6cd16d2e36ec3d6faa03169163b9f59754f8b9aeacd882f89ce4f3b27",
}
"""Split → sha256 of the packaged file."""
ASSISTANT_INTENTS = (
    "account_balance",
    "account_details",
    "goodbye",
    "greeting",
    "human_agent",
    "out_of_scope",
    "recent_transactions",
)
"""Intents of the assistant that Banking77 does not have."""
LICENCE = Licence(
    "cc0-1.0",
    "Trained on Teller77 by the bankllm authors, dedicated to the public domain "
    "([CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)).",
)


@cache
def intent_definitions() -> dict[str, str]:
    """Intent → its meaning in one line, for Banking77's 77 intents and the assistant's 7."""
    definitions: dict[str, str] = json.loads((FOLDER / "intents.json").read_text(encoding="utf-8"))
    return definitions


def banking77_labels() -> tuple[str, ...]:
    return tuple(sorted(set(intent_definitions()) - set(ASSISTANT_INTENTS)))


def load(settings: Settings) -> Dataset:
    return read_folder(FOLDER, "teller77", "packaged", SHA256)


DATASETS.add("teller77", DataSource(load, LICENCE, SHA256))
