"""A folder with train.csv and test.csv is a data set, and every fault is reported with its file and row."""

import shutil
from pathlib import Path

import pytest

from bankllm.datasets import licence, load, teller77
from bankllm.errors import DataError

GOOD = "text,category\nhello you,greeting\n"


def write(folder: Path, train: str | bytes, test: str = "text,category\nhello there,greeting\n") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "train.csv").write_bytes(train if isinstance(train, bytes) else train.encode())
    (folder / "test.csv").write_text(test, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("query,intent\nhi,greeting\n", r"expected the columns text,category, found query,intent"),
        ("text,category\n", r"expected rows below the header, found none"),
        ("text,category\nhi,greeting\nhi\n", r"row 3: expected 2 columns \(text,category\), found 1"),
        ("text,category\n\u200b\ufeff,greeting\n", r"row 2: the text is empty"),
        ("text,category\nhi,\u2060\n", r"row 2: the category is empty"),
        ('text,category\n"hi,greeting\n', r"row 2: not valid CSV"),
        ("text,category\nhi,greeting\nh\0i,greeting\n", r"row 3: found a NUL byte\. The file is damaged or UTF-16"),
        ("text,category\nhi,greeting\nhi,gree\0ting\n", r"row 3: found a NUL byte"),
        (b"text,category\nhello,greeting\ncaf\xe9,greeting\n", r"row 3: expected UTF-8 text, found other bytes\. Save"),
    ],
)
def test_a_fault_is_reported_with_its_row(tmp_path: Path, train: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "own", train))


def test_byte_order_marks_and_unusual_line_separators_are_accepted(tmp_path: Path) -> None:
    train = '\ufefftext,category\r\none\u2028text,greeting\r\n"two\nlines",greeting\r\n'
    assert load(write(tmp_path / "own", train)).train.texts == ("one\u2028text", "two\nlines")


@pytest.mark.parametrize("blank", ["\n\n\n", "  \n", "\t", "\r\n", "\u200b\n", '""\n'])
def test_blank_lines_are_no_rows(tmp_path: Path, blank: str) -> None:
    assert load(write(tmp_path / "end", GOOD + blank)).train.texts == ("hello you",)
    if blank.endswith("\n"):
        assert load(write(tmp_path / "middle", f"{GOOD}{blank}hi,greeting\n")).train.texts == ("hello you", "hi")


def test_unknown_labels_and_missing_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.csv has labels that train\.csv does not have: goodbye\. Every"):
        load(write(tmp_path / "own", GOOD, "text,category\nbye,goodbye\nhi,greeting\n"))
    for count, message in ((5, r"label3, label4\. Every"), (7, r"label0, label1, label2, label3, label4 and 2 more\.")):
        labels = "".join(f"text,label{i}\n" for i in range(count))
        with pytest.raises(DataError, match=message):
            load(write(tmp_path / "own", GOOD, f"text,category\n{labels}"))
    (tmp_path / "own" / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv cannot be read \(No such file or directory\).*train\.csv and test"):
        load(str(tmp_path / "own"))


def test_a_folder_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "own", GOOD)
    assert load("~/own").name == "own"


def test_published_files_keep_their_name_in_any_folder(tmp_path: Path) -> None:
    for folder in ("data", "banking77", "Données № 7"):
        shutil.copytree(teller77.FOLDER, tmp_path / folder)
        assert load(str(tmp_path / folder)).conditions() == load("teller77").conditions()
    with (tmp_path / "data" / "train.csv").open("a") as file:
        file.write("one more,greeting\n")
    assert load(str(tmp_path / "data")).name == "data"


def test_a_folder_does_not_get_the_name_of_a_known_data_set(tmp_path: Path) -> None:
    for name in ("banking77", "teller77[2 intents]", "assistant(banking77+teller77)"):
        data = load(write(tmp_path / name, GOOD))
        assert data.name == f"folder {name}"
        assert licence(data.name) is None
    mine = load(write(tmp_path / "mine", GOOD))
    assert (mine.name, licence(mine.name)) == ("mine", None)
    assert mine.describe() == "mine (folder): 1 train and 1 test texts, 1 intents"
