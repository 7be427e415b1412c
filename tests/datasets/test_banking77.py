"""Banking77: only the published files are accepted, whether from a folder or downloaded."""

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bankllm.datasets import load, normalise
from bankllm.datasets.banking77 import SHA256
from bankllm.datasets.teller77 import banking77_labels
from bankllm.errors import DataError, DataMissing


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is set, and downloads are allowed."""
    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    monkeypatch.setenv("BANKLLM_OFFLINE", "0")


def test_the_published_files_have_the_documented_content(banking77: Path) -> None:
    data = load("banking77")
    assert (len(data.train), len(data.test), len(data.label_names)) == (10_003, 3_080, 77)
    assert data.sha256 == SHA256
    assert data.label_names == banking77_labels()
    assert {data.test.labels.count(label) for label in range(77)} == {40}
    train = [normalise(text) for text in data.train.texts]
    assert len(train) - len(set(train)) == 31
    assert sum(normalise(text) in set(train) for text in data.test.texts) == 25


def test_a_changed_file_is_refused(banking77: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        shutil.copy(banking77 / f"{split}.csv", tmp_path)
        (tmp_path / f"{split}.csv").chmod(0o644)
    with (tmp_path / "train.csv").open("a") as file:
        file.write("one more,age_limit\n")
    monkeypatch.setenv("BANKLLM_BANKING77", str(tmp_path))
    for name in ("banking77", "auto"):  # `auto` must not fall back to another data set silently
        with pytest.raises(DataError, match=r"is not the published banking77 file: expected sha256 b06e26ac.*found"):
            load(name)
    changed = load(str(tmp_path))
    assert (changed.name, len(changed.train)) == (tmp_path.name, 10_004)


def test_without_a_folder_auto_falls_back_to_teller77(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    assert load("auto").name == "teller77"
    with pytest.raises(DataMissing, match=r"BANKLLM_BANKING77 is not set.*BANKLLM_OFFLINE=1"):
        load("banking77")
    monkeypatch.setenv("BANKLLM_BANKING77", str(tmp_path / "nowhere"))
    for name in ("banking77", "auto"):
        with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\).*train\.csv and test\.csv"):
            load(name)


@pytest.mark.usefixtures("online")
def test_a_failed_download_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, url: str) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.DownloadManager.download", refuse)
    with pytest.raises(DataMissing, match=r"the download failed \(ConnectionError: "):
        load("banking77")
    assert load("auto").name == "teller77"


@pytest.mark.usefixtures("online")
def test_downloaded_files_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A download from a local HTTP server, with the real `datasets` package."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,category\nhow old must I be,age_limit\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", tmp_path / "cache")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{{split}}.csv"
        monkeypatch.setattr("bankllm.datasets.banking77.URL", address)
        for name in ("banking77", "auto"):
            with pytest.raises(DataError, match="is not the published banking77 file"):
                load(name)
        server.shutdown()
    assert list((tmp_path / "cache").iterdir())
