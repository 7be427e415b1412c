"""The training data of the served classifier: `auto` plus the assistant's own intents of Teller77."""

import hashlib
from dataclasses import replace

from bankllm.datasets import DATASETS, Dataset, DataSource, Split, auto, teller77
from bankllm.settings import Settings


def load(settings: Settings) -> Dataset:
    packaged, main = teller77.load(settings), auto.load(settings)
    if main.name == packaged.name:
        return replace(main, name=f"assistant({main.name})")
    extra = packaged.select(teller77.ASSISTANT_INTENTS, "assistant intents")
    offset = len(main.label_names)

    def join(a: Split, b: Split) -> Split:
        return Split((*a.texts, *b.texts), (*a.labels, *(y + offset for y in b.labels)))

    return Dataset(
        name=f"assistant({main.name}+{packaged.name})",
        label_names=(*main.label_names, *extra.label_names),
        train=join(main.train, extra.train),
        test=join(main.test, extra.test),
        sha256={s: hashlib.sha256((main.sha256[s] + packaged.sha256[s]).encode()).hexdigest() for s in main.sha256},
        source=f"{main.source} and packaged",
    )


DATASETS.add("assistant", DataSource(load))
