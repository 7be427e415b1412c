"""Raw CSV files: plain and gzip, read in bounded memory, with errors that name the file and line."""

import gzip
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence import raw_files
from bankllm.evidence.raw_files import RawFiles, inside, read_table
from bankllm.evidence.records import Raw, write_rows
from bankllm.evidence.run import Run
from bankllm.util.file_hash import sha256_file

ROWS = [{"label": f"l{i % 3}", "ms": i / 7, "note": 'a "quoted", word\nof two lines'} for i in range(50)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_written_rows_are_read_back_unchanged(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name, ROWS)
    raw = Raw(path=name, sha256=sha256_file(tmp_path / name), where={"label": "l1"})
    found = RawFiles(tmp_path).rows(raw)
    assert list(found) == [{k: str(v) for k, v in row.items()} for row in ROWS if row["label"] == "l1"]
    assert found[-1] == found[len(found) - 1]
    with pytest.raises(IndexError):
        found[len(found)]
    assert RawFiles(tmp_path).estimate(raw, "maximum", {"column": "ms"}).value == 49 / 7
    assert RawFiles(tmp_path).estimate(raw, "count", {}).value == 17


def test_a_file_is_hashed_once_and_the_table_read_last_is_cached(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"name\n{name}\n")
    files = RawFiles(tmp_path)
    first, second = (Raw(path=name, sha256=sha256_file(tmp_path / name), where={}) for name in ("a.csv", "b.csv"))
    assert [list(files.rows(raw)) for raw in (first, second)] == [[{"name": "a.csv"}], [{"name": "b.csv"}]]
    (tmp_path / "b.csv").unlink()
    assert list(files.rows(second)) == [{"name": "b.csv"}]
    with pytest.raises(RunError, match=r"b\.csv is missing"):
        RawFiles(tmp_path).rows(second)
    (tmp_path / "a.csv").write_text("name\nc.csv\n")
    with pytest.raises(RunError, match=r"a\.csv was changed: expected sha256"):
        RawFiles(tmp_path).rows(first)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_rows(tmp_path / folder / f"{folder}.csv.gz", ROWS)
    assert (tmp_path / "a/a.csv.gz").read_bytes() == (tmp_path / "b/b.csv.gz").read_bytes()
    write_rows(tmp_path / "plain.csv", ROWS)
    assert gzip.decompress((tmp_path / "a/a.csv.gz").read_bytes()) == (tmp_path / "plain.csv").read_bytes()


def test_raw_rows_are_compressed_and_only_one_file_remains(run: Run) -> None:
    write_rows(run.folder / "raw/01_load.csv", ROWS)  # as an earlier version left it
    for count in (3, 5000):
        run.write_rows("load", ({"ms": i} for i in range(count)))
        assert [path.name for path in (run.folder / "raw").iterdir()] == ["01_load.csv.gz"]
        record = run.measure("load.n", "count", "load", title="n", unit="requests")
        assert (record.value, record.raw and record.raw.path) == (count, "raw/01_load.csv.gz")


FAULTS = {
    "one cell missing": (b"a,b\n1,2\n3\n", r"rows\.csv, line 3: expected 2 cells, found 1"),
    "one extra cell": (b"a,b\n1,2,3\n", r"rows\.csv, line 2: expected 2 cells, found 3"),
    "empty file": (b"", "no header with distinct column names"),
    "duplicate column": (b"a,a\n1,2\n", "no header with distinct column names"),
    "not UTF-8": (b"a\n\xff\xfe\n", "cannot be read as CSV text"),
    "unclosed quote": (b'a\n"1\n', r"rows\.csv, line 2: unexpected end of data"),
    "endless line": (b"a\n" + b"0" * 2**18, r"a line of more than 131,072 characters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_names_the_unreadable_line(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_table(tmp_path / "rows.csv", "rows.csv")


def test_the_error_names_a_damaged_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    write_rows(path, ROWS)
    whole = path.read_bytes()
    for content in (whole[:-9], whole[:40], b"a,b\n1,2\n", whole[:-6] + b"xxxxxx", whole[:30] + b"zz" + whole[32:]):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"rows\.csv\.gz cannot be read as CSV text"):
            read_table(path, "rows.csv.gz")


def test_a_file_over_the_limits_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv.gz"
    write_rows(path, ({"ms": i / 7, "kind": "chat"} for i in range(20_000)))
    monkeypatch.setattr(raw_files, "MAX_CELLS", 40_000)
    assert len(read_table(path, path.name)) == 20_000
    monkeypatch.setattr(raw_files, "MAX_CELLS", 39_998)
    with pytest.raises(RunError, match="has more than 19,999 rows, the limit for 2 columns"):
        read_table(path, path.name)
    monkeypatch.setattr(raw_files, "MAX_FILE_BYTES", 2**16)
    with pytest.raises(RunError, match="decompresses to more than the limit of 0 MiB"):
        read_table(path, path.name)


def test_a_path_outside_the_folder_and_a_symbolic_link_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/rows.csv").write_text("a\n1\n")
    (tmp_path / "link").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/link.csv").symlink_to(tmp_path / "raw/rows.csv")
    assert inside(tmp_path, "raw/rows.csv") == tmp_path / "raw/rows.csv"
    for name in ("../secret", "raw/../../secret", "/etc/passwd", "raw\\..\\secret", "", "a\0b"):
        with pytest.raises(RunError, match="is outside the run folder"):
            inside(tmp_path, name)
    for name in ("link/rows.csv", "raw/link.csv"):
        with pytest.raises(RunError, match="is a symbolic link"):
            inside(tmp_path, name)
