"""Intent-classification data sets, checked against their published files.

`load(NAME)` loads a registered data set: `banking77`, `teller77` (packaged), `auto` (Banking77 if it is available,
otherwise Teller77), `assistant` (the training set of the served classifier), or one of another package. `load(FOLDER)`
reads `train.csv` and `test.csv` of a folder, with the columns `text,category`; published files keep their name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bankllm.datasets.csv_folder import read_folder
from bankllm.datasets.dataset import Dataset, Split, normalise
from bankllm.errors import DataError
from bankllm.settings import Settings, get_settings
from bankllm.util.registry import Registry

__all__ = ["DATASETS", "DataSource", "Dataset", "Licence", "Split", "licence", "load", "normalise"]


@dataclass(frozen=True)
class Licence:
    """The licence of a data set and the attribution that it requires."""

    id: str
    """Identifier of the Hugging Face Hub."""
    notice: str
    """One line of Markdown that names the source and the licence."""


@dataclass(frozen=True)
class DataSource:
    """A registered data set."""

    load: Callable[[Settings], Dataset]
    """Returns the data set; its name is the registered one. Raises `DataError` if it is missing or damaged."""
    licence: Licence | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    """`train` and `test` → sha256 of the published file. A folder with these files is this data set."""


DATASETS: Registry[DataSource] = Registry("data set", "bankllm.datasets", __name__)


def load(name: str = "auto", settings: Settings | None = None) -> Dataset:
    """Load a data set by name or folder. Raises `DataError` if it is unknown, missing or damaged."""
    if name in DATASETS:
        return DATASETS.get(name).load(settings or get_settings())
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        folder_name = folder.resolve().name.encode(errors="replace").decode()  # its bytes may be no valid UTF-8
        data = read_folder(folder, f"folder {folder_name}" if licence(folder_name) else folder_name, "folder")
        published = (name for name in DATASETS if DATASETS.get(name).sha256 == data.sha256)
        return replace(data, name=next(published, data.name))
    raise DataError(
        f"Unknown data set {name!r}. Expected one of {', '.join(DATASETS)}, or a folder with train.csv and test.csv "
        "(columns text,category)."
    )


def licence(name: str) -> Licence | None:
    """Licence of the data set with that `Dataset.name`, None if unknown: of the whole for a selection such as
    `banking77[8 intents]`, of the first part for a joined set such as `assistant(banking77+teller77)`."""
    first = name.partition("[")[0].removeprefix("assistant(").partition("+")[0].removesuffix(")")
    return DATASETS.get(first).licence if first in DATASETS else None
