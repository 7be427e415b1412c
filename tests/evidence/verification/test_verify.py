"""verify: an unchanged run verifies, and damaged or hostile files give a verdict. See also `test_tamper`."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import RunError
from bankllm.evidence.manifest import Manifest, read_manifest, write_manifest
from bankllm.evidence.report.render import changed_pages, render, renderer
from bankllm.evidence.run import Run
from bankllm.evidence.share.publish import publish
from bankllm.evidence.verification.run_checks import as_text
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import verify
from bankllm.util.file_hash import sha256_file
from tests.support.sealed_run import NOTEBOOK, edit_text, reseal, write_notebook

NOW = datetime.now(UTC)
P95 = "chat.sequential.p95_ms"


def faults(folder: Path) -> dict[str, str]:
    return {finding.subject: finding.detail for finding in verify(folder).findings if not finding.holds}


def edit_record(folder: Path, index: int, **changes: object) -> None:
    lines = (folder / "records.jsonl").read_text().splitlines()
    lines[index] = json.dumps(json.loads(lines[index]) | changes)
    (folder / "records.jsonl").write_text("\n".join(lines) + "\n")


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_unchanged_run_verifies(folder: Path) -> None:
    verdict = verify(folder)
    assert verdict.holds
    status = {f.subject: f.status for f in verdict.findings}
    assert status[P95] == status["RESULTS.md"] == status[f"notebooks/{NOTEBOOK}.ipynb"] == "ok"
    assert (status["chat.sequential.p99_ms"], status["load.locust.p95_ms"]) == ("invalid", "not measured")
    assert verdict.summary() == "HOLDS: 10 ok, 1 invalid, 1 not measured, 0 does not hold"


LEFT_BY_TOOLS = [
    *(".DS_Store", "raw/._01_chat.csv.gz", "raw/._01_marks.csv", "plots/Thumbs.db", "RESULTS.html:Zone.Identifier"),
    *("RESULTS.md~", ".RESULTS.md.swp", "#RESULTS.md#", "RESULTS.md.bak", ".idea/workspace.xml", "raw/~$01_chat.csv"),
    *("raw/.~lock.01_chat.csv#", "notebooks/.ipynb_checkpoints/01-checkpoint.ipynb", "__pycache__/a.pyc"),
]


def test_files_that_other_programs_leave_are_no_evidence(folder: Path, tmp_path: Path) -> None:
    for name in LEFT_BY_TOOLS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\xff")
    (folder / ".#RESULTS.md").symlink_to("user@host.1234:5678")  # as Emacs locks a file
    assert verify(folder).holds
    publish(folder, tmp_path / "copy")
    left = [path for name in LEFT_BY_TOOLS if (path := tmp_path / "copy" / name).exists()]
    assert left == []
    assert verify(tmp_path / "copy").holds
    seal_run(folder, read_manifest(folder), complete=True)
    assert not any(name in read_manifest(folder).files for name in LEFT_BY_TOOLS)
    (folder / "raw" / "02_more.csv").write_text("a\n1\n")
    assert faults(folder) == {"raw/02_more.csv": "is in the run folder, but the manifest does not list it"}


@pytest.mark.parametrize(
    "text", ["a\tb\n c", "a | b", "<!-- claim: a.b -->1<!-- /claim -->", "a\u2028b\x85", "\ud800 💳 رصيدي"]
)
def test_unusual_titles_and_reasons_verify(run: Run, text: str) -> None:
    run.write_rows("costs", [{"seconds": 160.5}])
    what: dict[str, Any] = {"title": text, "unit": "s"}
    run.measure("load.a", "single", "costs", **what, column="seconds", invalid_because=text)
    run.not_measured("load.b", **what, why=text)
    run.not_measured("load.c", **what, why="")
    manifest = Manifest(
        run_id="run", profile="smoke", command="", started=NOW, git_commit=None, git_dirty=None, environment={}
    )
    write_manifest(run.folder, manifest)
    render(run.folder)
    write_notebook(run)
    seal_run(run.folder, manifest, complete=False)
    assert faults(run.folder) == {}
    assert [record.invalid_because for record in run.records()][2] == "no reason was given"


def test_pages_are_rendered_again_only_if_this_code_rendered_them(folder: Path) -> None:
    assert read_manifest(folder).renderer == renderer()
    page = folder / "RESULTS.md"
    page.write_text(page.read_text() + "\nFast.\n")
    reseal(folder)  # as an attacker, who keeps the renderer
    assert faults(folder) == {"RESULTS.md": "differs from the page that these records give"}
    assert changed_pages(folder) == ["RESULTS.md"]
    seal_run(folder, read_manifest(folder), complete=False)
    assert read_manifest(folder).renderer is None
    assert verify(folder).holds


def test_a_run_of_the_old_verifier_gets_the_new_one_when_it_is_sealed_again(folder: Path) -> None:
    (folder / "verify.py").write_text("")
    seal_run(folder, read_manifest(folder), complete=True)
    assert [path.name for path in folder.glob("verify.*")] == ["verify.pyz"]
    assert verify(folder).holds


def test_an_unsealed_run_and_a_file_outside_the_folder_do_not_verify(folder: Path) -> None:
    edit_manifest(folder, files={})
    found = faults(folder)["manifest.json"]
    assert found == "lists no files: the run did not finish. Continue with: bankllm run --resume one"
    edit_manifest(folder, files={"../../etc/passwd": "0"})
    assert faults(folder)["../../etc/passwd"] == "the manifest lists it, but it is missing"


def test_a_folder_without_a_manifest_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run: manifest\.json is missing"):
        verify(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    assert "cannot be read" in faults(tmp_path)["manifest.json"]


@pytest.mark.parametrize(
    "line", ["{", "[]", "null", "1e400", '"text"', "\x00", "[" * 100_000, '{"id": "a"}', '{"id": "a", "id": "b"}']
)
def test_an_unreadable_line_is_named_and_the_other_lines_are_checked(folder: Path, line: str) -> None:
    path = folder / "records.jsonl"
    path.write_text(path.read_text() + line + "\n")
    reseal(folder)
    found = faults(folder)
    assert found.keys() == {"records.jsonl, line 9"}
    assert "not a measurement record" in found["records.jsonl, line 9"]
    assert verify(folder).counts()["ok"] == 10


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: (f / "records.jsonl").write_bytes(b"\xff\xfe"),
        lambda f: (f / "records.jsonl").unlink(),
        lambda f: edit_record(f, 0, value=10**400),
        lambda f: edit_record(f, 0, conditions={"dataset": [], "model": {}, "profile": 1}),
        lambda f: (f / "manifest.json").write_text("[]"),
        lambda f: (f / "manifest.json").write_text("[" * 100_000),
        lambda f: (f / "raw/01_chat.csv.gz").write_bytes(b"\xff\x00"),
        lambda f: (f / "raw/01_marks.csv").write_text("a\n1\n"),
        lambda f: (f / "raw/01_chat_summary.csv").write_text("generator_cpu_share\nx\n"),
        lambda f: (f / f"notebooks/{NOTEBOOK}.ipynb").write_text(
            '{"cells": [{"outputs": [{"data": {"text/html": 3}}]}]}'
        ),
        lambda f: (f / "RESULTS.html").write_bytes(b"<!doctype html><table></td>\xff"),
        lambda f: ((f / "raw/01_chat.csv.gz").unlink(), (f / "raw/01_chat.csv.gz").mkdir()),
        lambda f: os.mkfifo(f / "pipe"),
        lambda f: os.mkfifo(f / "raw/09_marks.csv"),
    ],
)
def test_damaged_files_give_a_verdict(folder: Path, spoil: Callable[[Path], object]) -> None:
    spoil(folder)
    assert not verify(folder).holds


def test_a_name_with_line_breaks_and_terminal_commands_stays_in_its_line(folder: Path) -> None:
    (folder / "raw/a\nHOLDS: 999 ok\x1b[2J.csv").write_text("a\n1\n")
    (folder / os.fsdecode(b"raw/\xff.csv")).write_text("a\n1\n")
    lines = as_text(verify(folder), as_json=False).split("\n")
    assert not [line for line in lines if line.startswith("HOLDS") or not line.isprintable()]
    assert [r"raw/a\nHOLDS: 999 ok\x1b[2J.csv" in line for line in lines].count(True) == 1
    assert [r"raw/\udcff.csv" in line for line in lines].count(True) == 1


@pytest.mark.parametrize(
    "active",
    [
        "<script>document.querySelector('data').textContent = '99.9 %'</script>",
        "<ScRiPt src=a.js></ScRiPt>",
        "<p onclick = 'edit()'>",
        "<a href='javascript:edit()'>",
        "<link rel=stylesheet href='https://example.org/a.css'>",
    ],
)
def test_a_page_that_another_version_rendered_has_no_active_content(folder: Path, active: str) -> None:
    edit_text(folder / "RESULTS.html", lambda text: text.replace("</body>", f"{active}</body>"))
    edit_manifest(folder, renderer="bankllm 9.9")
    reseal(folder)
    assert "has active content" in faults(folder)["RESULTS.html"]


def test_an_attacker_who_names_the_renderer_gets_a_verdict(folder: Path) -> None:
    for index in range(8):
        edit_record(folder, index, conditions={"profile": "quick"})
    reseal(folder, data={}, models={})
    assert "cannot be rendered again (KeyError: 'host')" in faults(folder)["RESULTS.md"]


@pytest.mark.slow
def test_huge_files_are_rejected_in_bounded_memory(folder: Path) -> None:
    """Raw files of 1 GiB (sparse, or about 1 MB as gzip) with many rows or one endless line; a page of 128 MiB."""
    packed = folder / "raw" / "01_rows.csv.gz"
    packed.write_bytes(gzip.compress(b"ms\n") + gzip.compress(b"0.25\n" * 2**21, 1) * 100)
    for name, size in (("raw/01_zeros.csv", 2**30), ("RESULTS.md", 2**27)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    (folder / "raw" / "01_line.csv.gz").write_bytes(gzip.compress(bytes(2**24), 1) * 64)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    (chat,) = (record for record in records if record["id"] == P95)
    for name in ("01_rows.csv.gz", "01_line.csv.gz", "01_zeros.csv"):
        sha256 = sha256_file(folder / "raw" / name)
        records.append(chat | {"id": name, "raw": {"path": f"raw/{name}", "sha256": sha256, "where": {}}})
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    reseal(folder)
    script = (
        "import json, re, sys\nfrom bankllm.evidence.verification.verify import verify\n"
        "found = {f.subject: f.detail for f in verify(sys.argv[1]).findings if not f.holds}\n"
        # Not ru_maxrss: it starts at the peak of the parent process.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "print(json.dumps([found, int(peak)]))"
    )
    own = subprocess.run([sys.executable, "-I", folder / "verify.pyz"], capture_output=True, text=True, check=False)
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    found, peak_kib = json.loads(done.stdout)
    assert "has more than 750,000 rows" in found["01_rows.csv.gz"]
    for name in ("01_line.csv.gz", "01_zeros.csv"):
        assert "a line of more than 131,072 characters" in found[name]
    assert "has 128 MiB" in found["RESULTS.md"]
    assert peak_kib < 300 * 1024
    assert own.returncode == 1
    assert "DOES NOT HOLD" in own.stdout


def test_verifying_loads_no_heavy_package_and_uses_no_network(folder: Path) -> None:
    script = (
        "import sys\nfor name in ('torch', 'transformers', 'peft', 'pandas', 'numpy', 'matplotlib', 'httpx', 'locust',"
        " 'fastapi'):\n    sys.modules[name] = None\nimport socket\nsocket.socket.connect = None\n"
        "from bankllm.evidence.verification.verify import verify\nprint(verify(sys.argv[1]).summary())"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("HOLDS: 10 ok"), done.stderr
