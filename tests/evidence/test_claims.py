"""Claims are filled in from a run. Wrong, stale and unbound numbers, and numbers on other data, are reported."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.claim_syntax import CLAIM, LATEX_CLAIM
from bankllm.evidence.claims import audit_claims, write_claims
from bankllm.evidence.manifest import read_manifest, write_manifest
from tests.support.sealed_run import ENVIRONMENT, TELLER77, replace_text, sealed_run

PAGE = """<!-- claims-run: runs/one profile=quick -->
# A page

## Results

- Accuracy <!-- claim: training.lora_r8.accuracy dataset=banking77 -->?<!-- /claim -->
  (<!-- claim: training.lora_r8.accuracy#ci95 -->?<!-- /claim -->,
  n = <!-- claim: training.lora_r8.accuracy#n -->?<!-- /claim -->)
- p95 <!-- claim: chat.sequential.p95_ms -->?<!-- /claim -->
"""


@pytest.fixture
def page(tmp_path: Path, folder: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text(PAGE, encoding="utf-8")
    assert write_claims(file, folder) == 4
    return file


def test_written_claims_pass_the_check(page: Path, folder: Path) -> None:
    assert audit_claims(page, folder) == []
    text = page.read_text(encoding="utf-8")
    assert "-->93.0 %<!-- /claim -->" in text
    assert "-->88.6 – 95.8 %<!-- /claim -->,\n  n = <!-- claim: training.lora_r8.accuracy#n -->200<" in text
    assert "-->190.0 ms<!--" in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("190.0 ms", "189.0 ms", ":9: chat.sequential.p95_ms: expected '190.0 ms' as in the record, found '189.0 ms'"),
        ("-->200<", "-->3,080<", ":8: training.lora_r8.accuracy: expected '200' as in the record, found '3,080'"),
        ("88.6 –", "90.6 –", ":7: training.lora_r8.accuracy: expected '88.6 – 95.8 %' as in the record, found '90.6"),
        ("chat.sequential.p95_ms", "chat.sequential.p99_ms", "run one has no valid record for chat.sequential.p99_ms"),
        ("dataset=banking77", "dataset=teller77", "requires dataset=teller77, the record has dataset=banking77"),
        ("profile=quick", "profile=full", "the claim requires profile=full, the record has profile=quick"),
        ("accuracy#n", "accuracy#m", "#m: unknown part. Expected #ci95, #n, or no part"),
        ("- p95", "- 3 times p50 of 62.5 ms; p95", ":9: '62.5 ms' is in a results section and has no claim"),
        ("- p95", "- 12 % better; p95", "'12 %' is in a results section and has no claim"),
    ],
)
def test_a_fault_is_reported_with_its_line_and_reason(
    page: Path, folder: Path, old: str, new: str, expected: str
) -> None:
    replace_text(page, old, new)
    faults = audit_claims(page, folder)
    assert any(expected in fault for fault in faults), faults


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_writing_changes_only_the_claims(tmp_path: Path, folder: Path, encoding: str, end: str) -> None:
    text = PAGE.replace("# A page", "# A page – café\x0c\x1d").replace("\n", end)
    file = tmp_path / "README.md"
    file.write_bytes(text.encode(encoding))
    write_claims(file, folder)
    written = file.read_bytes().decode(encoding)
    assert CLAIM.sub(r"\g<open>?\g<close>", written) == text
    assert audit_claims(file, folder) == []
    file.write_bytes(written.replace("190.0 ms", "191.0 ms").encode(encoding))
    (fault,) = audit_claims(file, folder)
    assert fault.startswith(f"{file}:9: chat.sequential.p95_ms: expected '190.0 ms'")


LATEX_PAGE = r"""% !TEX encoding = the one of the test
% <!-- claims-run: runs/one profile=quick -->
\documentclass{article}
\newcommand\claim[3][]{#3}
\section*{Café results} % 12 ms in a comment
\item Accuracy \claim[dataset=banking77]{training.lora\_r8.accuracy}{?}
  (\claim{training.lora_r8.accuracy\#ci95}{?}), p95 \textbf{\claim{chat.sequential.p95_ms}{?}}
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_writing_latex_changes_only_the_claims(
    tmp_path: Path, folder: Path, encoding: str, end: str, last: str
) -> None:
    text = (LATEX_PAGE.rstrip("\n") + last).replace("\n", end)
    file = tmp_path / "cv.tex"
    file.write_bytes(text.encode(encoding))
    assert write_claims(file, folder) == 3
    written = file.read_bytes().decode(encoding)
    for claim in (
        r"accuracy}{93.0 \%}",
        r"\#ci95}{88.6 -- 95.8 \%}",
        r"\textbf{\claim{chat.sequential.p95_ms}{190.0 ms}}",
    ):
        assert claim in written
    assert LATEX_CLAIM.sub(r"\g<open>?\g<close>", written) == text
    assert audit_claims(file, folder) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dataset=banking77", "dataset=teller77", ":6: training.lora_r8.accuracy: the claim requires dataset=teller77"),
        (r"\textbf{", r"8\,ms \textbf{", ":7: '8 ms' is in a results section and has no claim"),
        (r"accuracy}{93.0 \%}", "accuracy}", r":6: '\\claim[dataset=banking77]{' is not a complete claim"),
    ],
)
def test_a_fault_in_latex_is_reported(tmp_path: Path, folder: Path, old: str, new: str, expected: str) -> None:
    file = tmp_path / "cv.tex"
    file.write_text(LATEX_PAGE, encoding="utf-8")
    write_claims(file, folder)
    replace_text(file, old, new)
    (fault,) = audit_claims(file, folder)
    assert expected in fault


@pytest.mark.parametrize(
    "heading",
    [
        *("# Results #", "Results\n=======", "  ## Results  ", "**Results**", "<h2 id=r>Results</h2>", "Results\n---"),
        *(r"\subsection*{Results}", "\t# Results", "##   Results {#results}"),
    ],
)
def test_writing_keeps_the_style_of_headings(tmp_path: Path, folder: Path, heading: str) -> None:
    text = f"{heading}\n\n<!-- claim: chat.sequential.p95_ms -->?<!-- /claim -->  \n\ttrailing \n"
    file = tmp_path / "README.md"
    file.write_text(text, encoding="utf-8")
    write_claims(file, folder)
    assert file.read_text(encoding="utf-8") == text.replace("?", "190.0 ms")


VALUE, INTERVAL = (f"<!--claim:training.lora_r8.accuracy{part}\n-->{{}}<!--/claim-->" for part in ("", "#ci95"))
TEX, TEX_P95 = r"\claim{{training.lora\_r8.accuracy}}{{{}}}", r"\claim {{chat.sequential.p95_ms}} {{{}}}"
HTML = "<data title='p95' value='chat.sequential.p95_ms' class='claim'>{}</data>"
SPELLED = [
    *((VALUE, text) for text in ("93.0%", "**93.0 %**", "93,0&nbsp;%", "93.0\u202f%", "93.0 percent", "93.0 per cent")),
    *((INTERVAL, text) for text in ("88.6-95.8%", "88.6 — 95.8 %")),
    *((TEX, text) for text in (r"93.0\%", r"93.0\,\%", r"$93.0\%$", r"\textbf{93.0}~\%")),
    *((TEX_P95, text) for text in ("190.0~ms", r"190.0\;ms", "190.0{~}milliseconds", r"\SI{190.0}{ms}")),
    *((TEX_P95, text) for text in (r"\qty{190.0}{\milli\second}", r"$190.0$\,ms", r"\textbf{190.0\,ms}")),
    *((HTML, text) for text in ("190.0&#160;ms", "190.0ms")),
]


def test_usual_spellings_of_a_number_pass_and_wrong_numbers_do_not(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "page.tex"
    page = "\n".join(claim.format(text) for claim, text in SPELLED)
    file.write_text(page, encoding="utf-8")
    assert audit_claims(file, folder) == []
    assert write_claims(file, folder) == len(SPELLED)
    assert file.read_text(encoding="utf-8") == page
    file.write_text(re.sub(r"(93|88|190)([.,])", r"1\1\2", page), encoding="utf-8")
    assert len(audit_claims(file, folder)) == len(SPELLED)
    assert write_claims(file, folder) == len(SPELLED)
    assert audit_claims(file, folder) == []


@pytest.mark.parametrize("hidden", ["~~{}~~", "<del>{}</del>", "<s>{}</s>", "<span hidden>{}</span>"])
def test_a_number_that_readers_do_not_see_is_no_claim(page: Path, folder: Path, hidden: str) -> None:
    write_claims(page, folder)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("190.0 ms", hidden.format("190.0 ms"), 1), encoding="utf-8")
    (fault,) = audit_claims(page, folder)
    assert "expected '190.0 ms' as in the record, found" in fault


@pytest.mark.parametrize(
    "part", ["<!-- claim: chat.sequential.p95_ms -->1", "1<!-- /claim -->", r"\claim{a.b}", "<data class='claim'>"]
)
def test_an_incomplete_claim_is_reported_except_in_code(page: Path, folder: Path, part: str) -> None:
    page.write_text(f"{PAGE}\n`{part}`\n\nthen {part}\n", encoding="utf-8")
    write_claims(page, folder)
    (fault,) = audit_claims(page, folder)
    assert ":13: " in fault
    assert "is not a complete claim. Expected <!-- claim: ID -->text<!-- /claim -->" in fault


def test_claims_are_stale_when_the_file_names_another_run(page: Path, folder: Path, tmp_path: Path) -> None:
    other = sealed_run(tmp_path / "runs" / "two")
    (fault,) = audit_claims(page, other)
    assert "stale: the file names the run runs/one, but was checked against" in fault


def test_a_file_that_names_two_runs_is_refused(page: Path, folder: Path) -> None:
    page.write_text(f"{PAGE}\n<!-- claims-run: runs/two profile=full -->\n", encoding="utf-8")
    before = page.read_bytes()
    for command in (write_claims, audit_claims):
        with pytest.raises(RunError, match=r"one run in claims-run; found runs/\w+.*, runs/two profile=full"):
            command(page, folder)
    assert page.read_bytes() == before


def test_a_run_of_one_finished_notebook_supports_claims(tmp_path: Path, page: Path) -> None:
    folder = sealed_run(tmp_path / "runs" / "two", complete=False)
    write_claims(page, folder)
    assert audit_claims(page, folder) == []


def test_claims_are_stale_when_a_raw_file_changed(page: Path, folder: Path) -> None:
    replace_text(folder / "raw/01_chat.csv.gz", "200.0", "201.0")
    assert any("stale: chat.sequential.p95_ms of one does not verify" in fault for fault in audit_claims(page, folder))


def test_claims_are_stale_when_an_old_version_measured(tmp_path: Path, page: Path) -> None:
    folder = sealed_run(tmp_path / "runs" / "two", environment=ENVIRONMENT | {"libraries": {"bankllm": "0.0.9"}})
    write_claims(page, folder)
    assert any("run two was made by bankllm 0.0.9" in fault for fault in audit_claims(page, folder))


def test_claims_are_stale_when_a_notebook_failed(tmp_path: Path, page: Path) -> None:
    folder = sealed_run(tmp_path / "runs" / "two", complete=False)
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, notebooks=[replace(manifest.notebooks[0], status="failed")]))
    write_claims(page, folder)
    assert any("stale: run two is not complete" in fault for fault in audit_claims(page, folder))


def test_a_number_on_teller77_on_a_line_about_banking77_is_reported(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "teller", data=TELLER77)
    file = tmp_path / "page.md"
    file.write_text("On Banking77: <!-- claim: training.lora_r8.accuracy -->?<!-- /claim -->\n")
    write_claims(file, folder)
    (fault,) = audit_claims(file, folder)
    assert "was measured on teller77, but its line mentions Banking77" in fault
    file.write_text(PAGE)
    with pytest.raises(RunError, match=r"dataset=banking77, the record has dataset=teller77\. Nothing"):
        write_claims(file, folder)
    assert file.read_text() == PAGE


def test_every_number_on_the_pages_of_a_run_is_bound(folder: Path) -> None:
    for name in ("RESULTS.md", "RESULTS.html", "RESUME.md"):
        assert audit_claims(folder / name, folder) == [], name


def test_the_command_writes_and_checks_with_the_run_that_the_file_names(page: Path, bankllm) -> None:
    replace_text(page, "93.0 %", "94.0 %")
    wrong = bankllm("claims", page)
    assert wrong.returncode == 1
    assert "training.lora_r8.accuracy: expected '93.0 %' as in the record, found '94.0 %'" in wrong.stderr
    assert bankllm("claims", "--write", page).returncode == 0
    done = bankllm("claims", "--check", page)
    assert (done.returncode, done.stderr) == (0, "")
    done = bankllm("claims", "--check", "--write", page)
    assert done.returncode == 2
    assert "Give only one of --write, --check and --scan." in done.stderr
