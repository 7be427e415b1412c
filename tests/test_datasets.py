"""Data sets are checked when they are loaded; every fault raises an error that names the fix."""

import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bankllm import datasets
from bankllm.datasets import BANKING77_SHA256, Dataset, Split, load, normalise
from bankllm.errors import DataError, DataMissing


def write(folder: Path, train: str, test: str = "text,category\nhello there,greeting\n") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_text(train, encoding="utf-8")
    (folder / "test.csv").write_text(test, encoding="utf-8")
    return str(folder)


def test_banking77_has_the_published_files(banking77: Path) -> None:
    data = load("banking77")
    assert (len(data.train), len(data.test), len(data.label_names)) == (10_003, 3_080, 77)
    assert data.sha256 == BANKING77_SHA256
    assert data.label_names == datasets.banking77_labels()
    assert {data.test.labels.count(label) for label in range(77)} == {40}
    train = [normalise(text) for text in data.train.texts]
    assert len(train) - len(set(train)) == 31
    assert sum(normalise(text) in set(train) for text in data.test.texts) == 25


def test_a_changed_banking77_is_refused(banking77: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_auto_falls_back_to_teller77_if_banking77_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    assert load("auto").name == "teller77"
    with pytest.raises(DataMissing, match=r"BANKLLM_BANKING77 is not set.*BANKLLM_OFFLINE=1"):
        load("banking77")


def test_downloaded_files_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`datasets` downloads the published URL, and the result must have the published sha256."""
    import datasets as hf

    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    monkeypatch.setenv("BANKLLM_OFFLINE", "0")
    requested_urls: list[str] = []
    fetched = tmp_path / "cached.csv"
    fetched.write_text("text,category\nhow old must I be,age_limit\n")

    def download(self: object, url: str) -> str:
        requested_urls.append(url)
        return str(fetched)

    monkeypatch.setattr(hf.DownloadManager, "download", download)
    with pytest.raises(DataError, match="is not the published banking77 file"):
        load("auto")
    assert [url.rpartition("/")[2] for url in requested_urls] == ["train.csv", "test.csv"]

    def refuse(self: object, url: str) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(hf.DownloadManager, "download", refuse)
    with pytest.raises(DataMissing, match=r"the download failed \(ConnectionError\)"):
        load("banking77")
    assert load("auto").name == "teller77"


def test_the_files_are_downloaded_over_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A download from a local HTTP server, with the real `datasets` package."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text("text,category\nhow old must I be,age_limit\n")
    monkeypatch.delenv("BANKLLM_BANKING77", raising=False)
    monkeypatch.setenv("BANKLLM_OFFLINE", "0")
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", tmp_path / "cache")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{{split}}.csv"
        monkeypatch.setattr("bankllm.datasets.BANKING77_URL", address)
        with pytest.raises(DataError, match="is not the published banking77 file"):
            load("banking77")
        server.shutdown()
    assert list((tmp_path / "cache").iterdir())


GOOD = "text,category\nhello you,greeting\n"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("query,intent\nhi,greeting\n", r"expected the columns text,category, found query,intent"),
        ("", r"expected the columns text,category, found nothing"),
        ("text,category\n", r"expected rows below the header, found none"),
        ("text,category\nhi,greeting\n\n", r"row 3: expected 2 columns \(text,category\), found 0"),
        ("text,category\nhi,greeting,now\n", r"row 2: expected 2 columns .* found 3"),
        ("text,category\n  ,greeting\n", r"row 2: the text is empty"),
        ("text,category\nhi,\n", r"row 2: the category is empty"),
        ('text,category\n"hi,greeting\n', r"not valid CSV"),
        ("text,category\nhi,greeting\nh\0i,greeting\n", r"row 3: found a NUL byte\. The file is damaged or UTF-16"),
    ],
)
def test_a_fault_is_reported_with_its_row(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "own", train))


def test_invalid_utf8_is_reported_with_its_row(tmp_path: Path) -> None:
    folder = write(tmp_path / "own", GOOD)
    (tmp_path / "own" / "train.csv").write_bytes(b"text,category\nhello,greeting\ncaf\xe9,greeting\n")
    with pytest.raises(
        DataError, match=r"train\.csv, row 3: expected UTF-8 text, found other bytes\. Save the file as UTF-8"
    ):
        load(folder)


def test_byte_order_marks_and_unusual_line_separators_are_accepted(tmp_path: Path) -> None:
    train = '\ufefftext,category\r\none\u2028text,greeting\r\n"two\nlines",greeting\r\n'
    data = load(write(tmp_path / "own", train))
    assert data.train.texts == ("one\u2028text", "two\nlines")
    (tmp_path / "own" / "train.csv").write_bytes(b"\xef\xbb\xbftext,category\na,greeting\nb\xe9,greeting\n")
    with pytest.raises(DataError, match="row 3: expected UTF-8 text"):
        load(str(tmp_path / "own"))


def test_a_folder_does_not_get_the_name_of_a_known_data_set(tmp_path: Path) -> None:
    for name in ("banking77", "teller77[2 intents]"):
        data = load(write(tmp_path / name, GOOD))
        assert data.name == f"folder {name}"
        assert datasets.licence(data.name) is None
    assert datasets.licence(load(write(tmp_path / "mine", GOOD)).name) is None


def test_selections_keep_the_licence_of_their_data_set() -> None:
    teller = load("teller77")
    assert [datasets.licence(d.name) for d in (teller, teller.first_intents(2))] == [datasets.LICENCES["teller77"]] * 2
    assert datasets.LICENCES["teller77"].id == "cc0-1.0"
    for name in ("banking77", "banking77[validation 0.1, seed 0]", "assistant(banking77+teller77)"):
        found = datasets.licence(name)
        assert found is not None
        assert found.id == "cc-by-4.0"
        assert all(word in found.notice for word in ("PolyAI", "Casanueva et al., 2020", "2003.04807", "CC BY 4.0"))


@pytest.mark.parametrize(
    ("labels", "train", "message"),
    [
        (
            ("a", "b"),
            Split(("one", " \n"), (0, 1)),
            r"d, train text 1 \(counted from 0\): expected a non-blank text, got ' \\n'",
        ),
        (("a", "b"), Split(("one", None), (0, 1)), r"train text 1 .*expected a non-blank text, got None"),  # type: ignore[arg-type]
        (("a", "b"), Split(("one", "two"), (0, 2)), r"train text 1 .*a label from 0 to 1 .*got 2"),
        (("a", "b"), Split(("one",), (-1,)), r"train text 0 .*got -1"),
        (("a", "b"), Split(("one",), ("a",)), r"train text 0 .*a position in label_names\), got 'a'"),  # type: ignore[arg-type]
        (("a", "a"), Split(("one",), (0,)), r"d: label names must be unique, got a, a"),
    ],
)
def test_an_invalid_dataset_object_is_refused(labels: tuple[str, ...], train: Split, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset("d", labels, train, Split((), ()), {}, "here")
    with pytest.raises(DataError, match=message.replace("train", "test")):
        Dataset("d", labels, Split((), ()), train, {}, "here")


def test_a_split_needs_one_label_per_text() -> None:
    with pytest.raises(DataError, match="one label per text, got 2 texts and 1 labels"):
        Split(("one", "two"), (0,))


def test_unknown_labels_missing_files_and_unknown_names_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        DataError, match=r"test\.csv has labels that train\.csv does not have: goodbye\. Every test label"
    ):
        load(write(tmp_path / "own", GOOD, "text,category\nbye,goodbye\nhi,greeting\n"))
    seven = "".join(f"text,label{i}\n" for i in range(7))
    with pytest.raises(DataError, match=r"does not have: label0, label1, label2, label3, label4 and 2 more\."):
        load(write(tmp_path / "own", GOOD, f"text,category\n{seven}"))
    monkeypatch.setenv("BANKLLM_BANKING77", write(tmp_path / "b77", "text,category\nhi,greetings\n"))
    with pytest.raises(DataError, match=r"row 2: unknown label 'greetings'\. Expected one of the 77 published"):
        load("banking77")
    monkeypatch.setenv("BANKLLM_BANKING77", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\).*train\.csv and test\.csv"):
        load("banking77")
    with pytest.raises(DataError, match=r"Unknown data set 'banking78'\. Expected auto, banking77, teller77"):
        load("banking78")


def test_a_selection_has_a_suffix_in_its_name() -> None:
    data = Dataset("d", ("a", "b", "c"), Split(("1", "2", "3"), (0, 1, 2)), Split(("4", "5"), (2, 0)), {}, "here")
    some = data.first_intents(2)
    assert some.name == "d[2 intents]"
    assert (some.train, some.test) == (Split(("1", "2"), (0, 1)), Split(("5",), (0,)))
    assert data.first_intents(None) is data
    picked = data.select(("c", "a"), "picked")
    assert picked.test == Split(("4", "5"), (0, 1))


def test_the_assistant_data_set_combines_banking77_and_teller77(banking77: Path) -> None:
    data = load("assistant")
    assert data.name == "assistant(banking77+teller77)"
    assert set(data.label_names) == set(datasets.intent_definitions())
    teller = load("teller77")
    position = data.train.texts.index(next(t for t, y in _labelled(teller.train, teller) if y == "account_balance"))
    assert data.label_names[data.train.labels[position]] == "account_balance"
    assert len(data.train) == 10_003 + sum(y in datasets.ASSISTANT_INTENTS for _, y in _labelled(teller.train, teller))


def _labelled(split: Split, data: Dataset) -> list[tuple[str, str]]:
    return [(text, data.label_names[label]) for text, label in zip(split.texts, split.labels, strict=True)]
