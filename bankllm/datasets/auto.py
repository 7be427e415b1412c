"""Banking77 if it is available, otherwise Teller77."""

from bankllm.datasets import DATASETS, Dataset, DataSource, banking77, teller77
from bankllm.errors import DataMissing
from bankllm.settings import Settings


def load(settings: Settings) -> Dataset:
    """Load whichever is there. A damaged copy raises `DataError`: no other data set replaces it silently."""
    try:
        return banking77.load(settings)
    except DataMissing:
        return teller77.load(settings)


DATASETS.add("auto", DataSource(load))
