"""A file appears whole or not at all, and a line that a killed process wrote in part is removed."""

import os
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.util.atomic_files import append_line, atomic_writer, check_writable, cut_torn_line


def test_a_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    with atomic_writer(path) as file:
        file.write(b"whole")
        assert not path.exists()
        assert [other.name.startswith(".file.") for other in path.parent.iterdir()] == [True]
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_the_data_is_flushed_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed_bytes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed_bytes.append(os.fstat(handle).st_size))
    with atomic_writer(tmp_path / "file") as file:
        file.write(b"whole")
    append_line(tmp_path / "lines", "x")
    assert flushed_bytes == [5, 2]


def test_an_error_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"former")
    with pytest.raises(ValueError, match="stop"), atomic_writer(path) as file:  # noqa: PT012
        file.write(b"half")
        raise ValueError("stop")
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    expected = r"cannot be written \(.+\)\. Nothing was changed\. Check the folder's permissions and free space"
    with pytest.raises(RunError, match=expected), atomic_writer(tmp_path / "file" / "below"):
        pass
    with pytest.raises(RunError, match=expected):
        append_line(tmp_path / "file" / "below", "line")
    for path in (tmp_path / "file" / "below", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(RunError, match=expected):
            check_writable(path)
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new"]


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("a", ""), ("a\nb\n", "a\nb\n"), ("\n", "\n")]
)
def test_a_torn_last_line_is_cut_before_a_line_is_appended(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "folder" / "lines"
    cut_torn_line(path)  # there is no file yet
    append_line(path, "x")
    assert path.read_text() == "x\n"
    path.write_text(before)
    cut_torn_line(path)
    assert path.read_text() == after
    path.write_text(before)
    append_line(path, "é")
    assert path.read_text(encoding="utf-8") == f"{after}é\n"
