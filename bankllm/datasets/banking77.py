"""Banking77: the folder `BANKLLM_BANKING77`, or the published files, downloaded by Hugging Face `datasets`."""

from pathlib import Path

from bankllm.datasets import DATASETS, Dataset, DataSource, Licence
from bankllm.datasets.csv_folder import read_files, read_folder
from bankllm.errors import DataMissing, explained
from bankllm.settings import Settings

SHA256 = {
    "train": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
}
"""Split → sha256 of the published file."""
URL = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/"
    "b30ebac2744f9b815c3ea3b9aff331c09b6b6b13/banking_data/{split}.csv"
)
LICENCE = Licence(
    "cc-by-4.0",
    "Trained on Banking77 by PolyAI (Casanueva et al., 2020, *Efficient Intent Detection with Dual Sentence Encoders*, "
    "[arXiv 2003.04807](https://arxiv.org/abs/2003.04807)), licensed "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).",
)


def load(settings: Settings) -> Dataset:
    """Read the published files. Raises `DataMissing` if they are neither here nor can be downloaded."""
    if settings.banking77 is not None:
        return read_folder(settings.banking77, "banking77", "folder", SHA256)
    return read_files(_download(settings), "banking77", "published files", SHA256)


def _download(settings: Settings) -> dict[str, Path]:
    missing = (
        "Banking77 was not found: BANKLLM_BANKING77 is not set (expected a folder with the published train.csv and "
        "test.csv), and the files are not in the Hugging Face cache"
    )
    hint = "Set BANKLLM_BANKING77, go online once to download the files, or use the packaged data set teller77."
    if settings.offline:
        raise DataMissing(f"{missing}; BANKLLM_OFFLINE=1 forbids the download. {hint}")
    try:
        from datasets import DownloadConfig, DownloadManager
    except ModuleNotFoundError as error:
        raise DataMissing(
            f"{missing}. The download needs the package datasets: pip install 'bankllm[train]'. {hint}"
        ) from error
    manager = DownloadManager(download_config=DownloadConfig(max_retries=1, disable_tqdm=True))
    with explained(DataMissing, f"{missing}; the download failed", hint):
        return {split: Path(str(manager.download(URL.format(split=split)))) for split in SHA256}


DATASETS.add("banking77", DataSource(load, LICENCE, SHA256))
