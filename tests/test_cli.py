"""The command line: output, exit codes, and errors as one paragraph without a traceback."""

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm import __version__, extras
from bankllm.errors import UsageError
from bankllm.evidence.run import Run
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support import Cli
from tests.support.pdf_file import write_pdf
from tests.support.server_client import until


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "bankllm", "version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"


def test_ctrl_c_while_it_is_imported_shows_no_traceback() -> None:
    code = (
        "import sys\nclass Interrupts:\n def find_spec(self, name, *_):\n"
        "  if name == 'bankllm.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\nfrom bankllm.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--profile", "fast"], 2, "Unknown profile 'fast'. Expected one of: smoke, quick, full."),
        (["run", "--only", "9"], 2, "Unknown notebook '9'."),
        (["run", "-p", "nonsense"], 2, "Expected name=value, such as epochs=3, got 'nonsense'."),
        (["benchmark", "--profile", "smoke", "--only", "nonsense"], 2, "has no configuration nonsense."),
        (["run", "-p", "siez=3"], 2, "No chosen notebook has a parameter siez. Their parameters"),
        (["run", "--resume", "none"], 1, "is not a run: manifest.json is missing"),
        (["run", "--output", "/dev/null/x"], 1, "cannot be written"),
        (["verify", "/nowhere"], 1, "is not a run"),
        (["train", "out", "--method", "magic"], 2, "method"),
        (["train", "/dev/null/x", "--calibrate"], 1, "Nothing was trained. Choose a new folder"),
        (
            ["loadtest", "/dev/null/x.csv", "--url", "http://127.0.0.1:9"],
            1,
            "x.csv cannot be written",
        ),
        (["nonsense"], 2, "No such command"),
        (["search", "card"], 2, "got neither. Pass --user CUST001 or --collection intents."),
        (["search", "card", "--user", "a", "--collection", "b"], 2, "got both. Pass --user CUST001 or --collection"),
        (["search", "card", "--user", "a", "--where", "intent"], 2, "Expected --where as JSON such as"),
        (["index", "teller77"], 2, "got neither. Pass --user CUST001 or --collection intents."),
        (["search", "card", "--user", "a", "--store", "/nowhere/x.sqlite"], 2, "Create one with `bankllm index`"),
    ],
)
def test_wrong_usage_prints_one_paragraph_and_writes_nothing(
    bankllm: Cli, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    result = bankllm(*arguments, BANKLLM_OUTPUT=str(tmp_path), BANKLLM_PROFILE="smoke")
    assert result.returncode == code, result.stderr
    assert message in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [("papermill", ["run"], "notebooks"), ("pypdf", ["index", "terms.pdf", "--collection", "A"], "vectors")],
)
def test_a_command_names_the_extra_that_it_needs(
    bankllm: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, arguments: list[str], extra: str
) -> None:
    monkeypatch.setattr(extras, "packages", lambda: {extra: (module.replace("_", "-"),)})
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "terms.pdf").touch()
    result = bankllm(*arguments)
    assert result.returncode == 2
    assert f"pip install 'bankllm[{extra}]'" in " ".join(result.stderr.split())


def test_debug_shows_the_traceback(bankllm: Cli) -> None:
    with pytest.raises(UsageError, match="Unknown profile 'fast'"):
        bankllm("--debug", "run", "--profile", "fast")


def test_a_damaged_data_folder_stops_a_run_before_it_starts(bankllm: Cli, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("query,intent\n")
    (tmp_path / "test.csv").write_text("text,category\n")
    result = bankllm("run", "--profile", "quick", BANKLLM_BANKING77=str(tmp_path), BANKLLM_OUTPUT=str(tmp_path / "out"))
    assert result.returncode == 1
    assert "expected the columns text,category, found query,intent" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_doctor_reports_available_and_missing_tools(bankllm: Cli, tmp_path: Path) -> None:
    result = bankllm("doctor", PATH="/nowhere")
    assert result.returncode == 0, result.stdout
    lines = {line[4:].split("  ")[1].strip() or line: line for line in result.stdout.splitlines()}
    assert "will be recorded as not measured; install apache2-utils" in result.stdout
    assert "PINECONE_API_KEY is not set: only the embedded SQLite store is used" in result.stdout
    assert any("all-MiniLM-L6-v2, sha256 53aa51172d14" in line for line in lines.values())
    assert "pc-secret" not in bankllm("doctor", PINECONE_API_KEY="pc-secret").stdout
    damaged = bankllm("doctor", BANKLLM_BANKING77=str(tmp_path))
    assert damaged.returncode == 1
    assert "train.csv cannot be read" in damaged.stdout


def test_index_and_search_the_memory_of_a_customer(bankllm: Cli, tmp_path: Path) -> None:
    texts, store = tmp_path / "texts.txt", str(tmp_path / "memory.sqlite")
    texts.write_text("my card was swallowed by the machine\n\nI would like to close my account\n", encoding="utf-8")
    stored = bankllm("index", str(texts), "--user", "CUST001", "--store", store)
    assert stored.stdout.strip() == "2 texts stored for CUST001"
    found = bankllm("search", "the ATM ate my card", "--user", "CUST001", "--store", store, "--top-k", "1")
    assert found.stdout.strip().endswith("my card was swallowed by the machine")
    assert bankllm("search", "card", "--user", "CUST002", "--store", store).stdout == ""
    by_words = ("search", "ACCOUNTS", "--user", "CUST001", "--store", store, "--mode", "lexical")
    assert bankllm(*by_words).stdout.strip().endswith("I would like to close my account")
    assert bankllm(*by_words, "--where", '{"intent": "card_arrival"}').stdout == ""
    texts.write_text("short\n" + "x" * 5000, encoding="utf-8")
    long = bankllm("index", str(texts), "--user", "CUST001", "--store", store)
    assert long.returncode == 1
    assert "line 2 has 5000 characters: expected at most 4000. Split the line." in " ".join(long.stderr.split())
    texts.write_bytes(b"\xff\xfe")
    assert bankllm("index", str(texts), "--user", "CUST001", "--store", store).returncode == 1


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"\xef\xbb\xbfmy card is lost\nhello\n", ["my card is lost", "hello"]),
        ("one\u2028line\n".encode(), ["one\u2028line"]),
        ("one\x85line\n".encode(), ["one\x85line"]),
        (b"one\x0cline\nand\x0bone\x1cmore", ["one\x0cline", "and\x0bone\x1cmore"]),
        (b"crlf\r\nlines\r\n", ["crlf", "lines"]),
        (b"old\rmac", ["old", "mac"]),
        (b"\n\n  \nhello\n\n", ["hello"]),
        ("\u200b\n\ufeff\nhello\n".encode(), ["hello"]),
        (b"no line end", ["no line end"]),
        ("  \u00e9t\u00e9 \u732b  \n".encode(), ["\u00e9t\u00e9 \u732b"]),
    ],
)
def test_index_stores_one_text_per_line(bankllm: Cli, tmp_path: Path, content: bytes, texts: list[str]) -> None:
    file, store = tmp_path / "texts", tmp_path / "memory.sqlite"
    file.write_bytes(content)
    stored = bankllm("index", str(file), "--collection", "c", "--store", str(store))
    assert stored.stdout.strip() == f"{len(texts)} texts stored in the collection c", stored.stderr
    found = bankllm("search", "hello", "--collection", "c", "--store", str(store)).stdout
    assert sorted(line[7:] for line in found.rstrip("\n").split("\n")) == sorted(texts)


@pytest.mark.slow
def test_index_reads_standard_input(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bankllm", "index", "-", "--user", "CUST001", "--store", "memory.sqlite"]
    done = subprocess.run(command, input="my card is lost\nhello\n", cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "2 texts stored for CUST001", done.stderr


def test_index_reads_a_pipe(bankllm: Cli, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="utf-8") as pipe:  # noqa: PTH123
        pipe.write("my card is lost\nhello\n")
    stored = bankllm("index", f"/dev/fd/{reading}", "--user", "CUST001", "--store", str(tmp_path / "memory.sqlite"))
    os.close(reading)
    assert stored.stdout.strip() == "2 texts stored for CUST001", stored.stderr


def test_an_option_with_a_tilde_names_the_home_folder(
    bankllm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "There is no file" in bankllm("memory", "compact", "--store=~/none").stderr
    message = bankllm("memory", "compact", "--store=~/none").stderr
    assert f"{tmp_path}/none" in message.replace("\n", "")


def test_index_and_search_a_collection(bankllm: Cli, tmp_path: Path) -> None:
    texts, store = tmp_path / "texts.txt", str(tmp_path / "memory.sqlite")
    texts.write_text("how to report a lost card\nopening hours\nopening hours\n", encoding="utf-8")
    stored = bankllm("index", str(texts), "--collection", "knowledge", "--store", store)
    assert stored.stdout.strip() == "2 texts stored in the collection knowledge", stored.stderr
    assert "embed:" in stored.stderr
    found = bankllm("search", "my card is gone", "--collection", "knowledge", "--store", store, "--top-k", "1")
    assert found.stdout.strip().endswith("how to report a lost card")


def test_index_documents(bankllm: Cli, tmp_path: Path) -> None:
    docs, store = tmp_path / "docs", str(tmp_path / "memory.sqlite")
    docs.mkdir()
    (docs / "cards.md").write_text("# Cards\n\nCards arrive within five working days.")
    write_pdf(docs / "fees.pdf", ["", "Cash abroad costs 3.50."])
    (docs / "logo.png").touch()
    first = bankllm("index", str(docs), "--collection", "knowledge", "--store", store)
    assert (first.returncode, first.stdout.strip()) == (
        0,
        "2 documents, 2 chunks in the collection knowledge: 2 added, 0 removed, the others unchanged",
    )
    assert "1 files of other types were left out" in first.stderr
    (docs / "fees.pdf").write_bytes(b"damaged")
    again = bankllm("index", str(docs), "--collection", "knowledge", "--store", store)
    assert "1 documents, 1 chunks in the collection knowledge: 0 added, 0 removed" in again.stdout
    assert (again.returncode, "not indexed: " in again.stderr) == (1, True)
    found = bankllm("search", "fee for cash in another country", "--collection", "knowledge", "--store", store)
    assert f"Cash abroad costs 3.50.  ({docs / 'fees.pdf'}, page 2)" in found.stdout
    for arguments, message in (
        ((str(docs), "--user", "CUST001"), "Documents are shared by all customers. Pass --collection knowledge"),
        ((str(tmp_path / "none.md"), "--collection", "knowledge"), "cannot be read (No such file or directory)"),
    ):
        refused = bankllm("index", *arguments, "--store", store)
        assert message in " ".join(refused.stderr.split())


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with three texts of CUST001, one of CUST002 and one of the collection news."""
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, 8, "embedder")) as opened:
        rows = [Row(f"m{n}", f"my secret {n}", np.ones(8)) for n in range(3)]
        opened.upsert_many([("CUST001", rows), ("CUST002", rows[:1]), ("collection news", rows[:1])])
    return str(path)


def test_memory_forget_gives_a_receipt_that_can_be_checked(bankllm: Cli, tmp_path: Path, store: str) -> None:
    kept = tmp_path / "receipts" / "first.json"
    chosen = ("--user", "CUST001", "--id", "m0", "--id", "never-there", "--store", store)
    assert bankllm("memory", "forget", *chosen, "--output", kept).stdout == f"1 texts deleted; receipt 1 is in {kept}\n"
    found = json.loads(kept.read_text())
    assert (found["asked_by"], found["deleted_ids"], found["unknown_ids"]) == ("cli", ["m0"], 1)
    printed = bankllm("memory", "forget", "--collection", "news", "--all", "--store", store).stdout
    assert (json.loads(printed)["deleted"], json.loads(printed)["namespace"]) == (1, "collection news")
    checked = bankllm("memory", "receipt", kept, "--store", store)
    assert checked.returncode == 0
    assert f"receipt 1 is unchanged and in the chain of 2 receipts of {store}: 1 texts of CUST001" in checked.stdout
    assert re.search(r"^other_processes +cleared_later +20\d\d-", checked.stdout, re.MULTILINE)
    kept.write_text(kept.read_text().replace("m0", "m1"))
    refused = bankllm("memory", "receipt", kept, "--store", store)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not have the hash of its content" in " ".join(refused.stderr.split())
    assert "No such file or directory" in bankllm("memory", "receipt", tmp_path / "none", "--store", store).stderr


def test_a_receipt_whose_texts_are_back_fails(bankllm: Cli, tmp_path: Path, store: str) -> None:
    kept = tmp_path / "receipt.json"
    bankllm("memory", "forget", "--user", "CUST002", "--all", "--output", kept, "--store", store)
    with closing(SQLiteStore(Path(store), 8, "embedder")) as opened:
        opened.upsert("CUST002", [Row("m0", "my secret 0", np.ones(8))])
    checked = bankllm("memory", "receipt", kept, "--store", store)
    assert (checked.returncode, checked.stderr) == (
        1,
        "1 of these texts are in the file again: delete them once more\n",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "got neither"),
        (("--user", "CUST001"), "Expected what to delete: either --all, or an --id for each text"),
        (("--user", "CUST001", "--all", "--id", "m0"), "Expected what to delete"),
        (("--user", "a b", "--all"), "Expected a user_id of 1–128 printable ASCII characters"),
        (("--collection", "", "--all"), "Expected a collection name of 1–128"),
        (("--user", "CUST001", "--id", ""), "Expected a row id of 1–512 ASCII characters"),
        (("--user", "CUST001", "--all", "--output", "/proc/none/receipt.json"), "Nothing was changed"),
    ],
)
def test_memory_forget_deletes_nothing_without_a_clear_request(
    bankllm: Cli, store: str, options: tuple[str, ...], message: str
) -> None:
    refused = bankllm("memory", "forget", *options, "--store", store)
    assert message in " ".join(refused.stderr.split())
    with closing(SQLiteStore(Path(store), 8, "embedder")) as opened:
        assert opened.count() == 5


def test_memory_retention_shows_sets_and_applies_the_time_to_live(bankllm: Cli, store: str) -> None:
    def retention(*options: str) -> list[list[str]]:
        done = bankllm("memory", "retention", *options, "--store", store)
        assert done.returncode == 0, done.stderr
        return [line.split()[:4] for line in done.stdout.splitlines()]

    customers, own = ["customers:", "kept", "172,800", "s"], ["CUST001:", "kept", "1", "s"]
    assert retention() == [["5", "never"]]
    assert retention("--user", "CUST001", "--ttl", "1s")[0] == own
    until(lambda: retention("--user", "CUST001")[1][:2] == ["3", "expired"])
    assert retention("--user", "CUST001", "--apply")[-1] == ["3", "expired", "texts", "deleted"]
    assert retention("--user", "CUST001") == [own]
    assert [line[:2] for line in retention("--ttl", "2d")] == [customers[:2], own[:2], ["1", "in"], ["1", "never"]]
    assert retention("--collection", "news") == [customers, own, ["1", "never"]]
    assert retention("--user", "CUST002", "--ttl", "never")[-2:] == [
        ["CUST002:", "kept", "for", "ever"],
        ["1", "never"],
    ]


@pytest.mark.parametrize("ttl", ["", "30", "0s", "-1d", "1000000000000s", "nan", "1.5d", "9999999999999d", "٣d"])
def test_memory_retention_refuses_an_invalid_time(bankllm: Cli, store: str, ttl: str) -> None:
    refused = bankllm("memory", "retention", f"--ttl={ttl}", "--store", store)
    assert refused.returncode == 2
    message = " ".join(refused.stderr.split())
    assert "expected a time such as 30d" in message or "expected a number above 0" in message
    assert bankllm("memory", "retention", "--store", store).stdout.split() == ["5", "never"]


def test_a_memory_is_backed_up_reindexed_and_compacted(bankllm: Cli, tmp_path: Path) -> None:
    store, copy = str(tmp_path / "memory.sqlite"), str(tmp_path / "copy.sqlite")
    embedder = Embedder()
    with closing(SQLiteStore(Path(store), 8, "former@1")) as former:
        former.upsert("CUST001", [Row(text, text, np.ones(8)) for text in ("my card is lost", "hello")])
        former.delete("CUST001", ["hello"])
    refused = bankllm("search", "card", "--user", "CUST001", "--store", store).stderr
    assert "bankllm memory reindex" in " ".join(refused.split())
    assert "integrity check passed" in bankllm("memory", "backup", copy, "--store", store).stdout
    assert bankllm("memory", "backup", copy, "--store", store).returncode == 1
    reindexed = bankllm("memory", "reindex", "--store", store)
    assert reindexed.stdout.strip() == f"1 texts re-embedded with {embedder.model_id}"
    assert "my card is lost" in bankllm("search", "card", "--user", "CUST001", "--store", store).stdout
    assert "contains no deleted messages" in bankllm("memory", "compact", "--store", store).stdout
    with closing(SQLiteStore(Path(copy), 8, "former@1")) as kept:
        assert kept.count() == 1
    assert "There is no file" in bankllm("memory", "compact", "--store", str(tmp_path / "none")).stderr


def write_manifest(folder: Path) -> None:
    """The manifest of a smoke run that did not finish."""
    folder.mkdir(exist_ok=True)
    manifest = {"run_id": "run", "profile": "smoke", "command": "c", "started": "2026-01-01T00:00:00Z"}
    manifest |= {"git_commit": None, "git_dirty": None, "environment": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_resumed_run_keeps_its_profile(bankllm: Cli, tmp_path: Path) -> None:
    write_manifest(tmp_path / "run")
    result = bankllm("run", "--resume", "run", "--only", "9", BANKLLM_OUTPUT=str(tmp_path), BANKLLM_PROFILE="quick")
    assert result.returncode == 2
    assert result.stdout.startswith("profile smoke; data: teller77")


def test_verify_prints_json(bankllm: Cli, run: Run) -> None:
    run.not_measured("a.b", title="t", unit="ms", why="no tool")
    write_manifest(run.folder)
    result = bankllm("verify", str(run.folder), "--json")
    assert result.returncode == 1
    verdict = json.loads(result.stdout)
    assert verdict["holds"] is False
    assert verdict["findings"][0] == {"subject": "a.b", "status": "not measured", "detail": "no tool"}
