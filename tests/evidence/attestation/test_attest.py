"""Signed statements in a run: they hold only for this run, and break neither the manifest nor the verifiers."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bankllm import cli
from bankllm.errors import RunError
from bankllm.evidence.attestation.attest import attest, check_attestations, show_reproductions
from bankllm.evidence.attestation.signing import read_private_key, sign
from bankllm.evidence.manifest import MAX_ATTESTATION_BYTES, read_manifest
from bankllm.evidence.share.publish import publish
from bankllm.evidence.verification.verify import verify
from tests.support import Cli
from tests.support.sealed_run import edit_text, reseal, sealed_run

ALICE, BOB = "attestations/alice.dsse.json", "attestations/bob.20260102T090000Z-quick.dsse.json"


@pytest.fixture
def signed(folder: Path, keys: Path, statement: bytes) -> Path:
    """A run that alice made and bob repeated."""
    attest(folder, verify(folder), keys / "alice.key")
    attest(folder, verify(folder), keys / "bob.key", statement)
    return folder


def results(folder: Path, keys: Path, *names: str) -> dict[str, str]:
    found = check_attestations(folder, [keys / f"{name}.pub" for name in names or ("alice", "bob")], {})
    return {one.subject: f"{one.status}: {one.detail}" for one in found}


def both_verifiers(folder: Path) -> tuple[list[str], list[str]]:
    """The faults that `bankllm verify` and the run's own verifier find."""
    command = [sys.executable, "-I", "-S", folder / "verify.pyz", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    alone = [f for f in json.loads(done.stdout)["findings"] if f["status"] == "does not hold"]
    return [f.subject for f in verify(folder).findings if not f.holds], [f["subject"] for f in alone]


def test_attestations_hold_and_do_not_change_the_run(signed: Path, keys: Path) -> None:
    manifest = (signed / "manifest.json").read_bytes()
    assert both_verifiers(signed) == ([], [])
    found = results(signed, keys)
    assert re.fullmatch(
        r"ok: made by alice \(key \w{12}\) from d{12}; verified with 10 ok, 1 invalid, 1 not measured, 0 does not hold",
        found[ALICE],
    )
    assert re.fullmatch(
        r"ok: reproduced by bob \(key \w{12}\) as 20260102T090000Z-quick: 2 not comparable, \d within", found[BOB]
    )
    assert (signed / "manifest.json").read_bytes() == manifest
    payload = json.loads(base64.b64decode(json.loads((signed / ALICE).read_bytes())["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    assert payload["predicateType"] == "https://github.com/bankllm/bankllm/attestations/run/v1"
    assert payload["subject"][0]["name"] == "manifest.json"
    assert payload["predicate"]["run"].keys() >= {"records_sha256", "environment", "git_commit", "git_dirty"}


def altered(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A change of the payload of alice's envelope, which keeps the signature."""

    def edit(text: str) -> str:
        envelope = json.loads(text)
        payload = json.loads(base64.b64decode(envelope["payload"]))
        change(payload)
        return json.dumps(envelope | {"payload": base64.b64encode(json.dumps(payload).encode()).decode()})

    return lambda folder: edit_text(folder / ALICE, edit)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (altered(lambda p: p["predicate"]["run"].update(git_dirty=True)), ALICE, "the signature is not that of alice"),
        (altered(lambda p: p["subject"][0]["digest"].update(sha256="0" * 64)), ALICE, "not that of alice"),
        (lambda f: edit_text(f / ALICE, lambda text: text[:-40]), ALICE, "not a DSSE envelope"),
        (lambda f: (f / ALICE).write_bytes(b""), ALICE, "not a DSSE envelope"),
        (lambda f: (f / ALICE).write_bytes(b" " * (MAX_ATTESTATION_BYTES + 1)), ALICE, "is larger than 4 MiB"),
        (lambda f: (f / ALICE).symlink_to((f / ALICE).rename(f.parent / "x")), ALICE, "is a symbolic link"),
        (lambda f: (f / ALICE).rename(f / "attestations/a.b.c.dsse.json"), "attestations/a.b.c.dsse.json", "its name"),
        (lambda f: reseal(f, command="another"), ALICE, "is about manifest.json with sha256"),
        (lambda f: edit_text(f / "records.jsonl", lambda t: t.replace("190.0", "180.0", 1)), BOB, "records.jsonl"),
        (lambda f: shutil.rmtree(f / "attestations"), "attestations", "this run is not signed"),
    ],
)
def test_what_does_not_hold_is_named(
    signed: Path, keys: Path, change: Callable[[Path], object], name: str, message: str
) -> None:
    change(signed)
    found = results(signed, keys)[name]
    assert found.startswith("does not hold: ")
    assert message in found


def test_only_trusted_keys_count(signed: Path, keys: Path, bankllm: Cli) -> None:
    found = results(signed, keys, "bob")
    assert "is signed with the unknown key" in found[ALICE]
    assert found[BOB].startswith("ok")
    done = bankllm("verify", str(signed), "--attestations", "--keys", str(keys / "mallory.pub"))
    assert (done.returncode, done.stdout.count("is signed with the unknown key")) == (1, 2)
    trusted = [part for name in ("alice", "bob") for part in ("--keys", str(keys / f"{name}.pub"))]
    done = bankllm("verify", str(signed), "--attestations", *trusted)
    assert (done.returncode, "HOLDS: 12 ok" in done.stdout) == (0, True), done.stdout + done.stderr
    assert bankllm("verify", str(signed), "--attestations").returncode == 2
    assert bankllm("verify", str(signed), *trusted).returncode == 2
    assert bankllm("verify", str(signed), "--attestations", "--identity", "a@example.org").returncode == 2
    assert bankllm("verify", str(signed), "--attestations", "--keys", str(keys / "none.pub")).returncode == 1


def test_an_attestation_of_another_run_does_not_hold(signed: Path, tmp_path: Path, keys: Path) -> None:
    other = sealed_run(tmp_path / "other", slower=2)
    shutil.copytree(signed / "attestations", other / "attestations")
    assert both_verifiers(other) == ([], [])
    found = results(other, keys)
    assert "of run one, but manifest.json of this run has" in found[ALICE]
    assert "of run one, but records.jsonl of this run has" in found[BOB]


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "sub/alice.dsse.json", ".hidden", "alice.key", "huge.dsse.json", "link.pub"],
)
def test_the_folder_holds_only_small_statements_and_keys(signed: Path, name: str) -> None:
    path = signed / "attestations" / name
    path.parent.mkdir(exist_ok=True)
    if name == "link.pub":
        path.symlink_to(signed.parent / "missing.pub")
    else:
        path.write_bytes(b" " * (MAX_ATTESTATION_BYTES + 1 if name.startswith("huge") else 1))
    assert both_verifiers(signed) == ([f"attestations/{name}"],) * 2


def test_a_run_that_does_not_verify_is_not_attested(folder: Path, keys: Path, bankllm: Cli) -> None:
    edit_text(folder / "RESULTS.md", lambda text: text.replace("190.0 ms", "180.0 ms", 1))
    done = bankllm("attest", str(folder), "--key", str(keys / "alice.key"))
    assert done.returncode == 1
    assert "so it was not attested. RESULTS.md line" in " ".join(done.stderr.split())
    assert not (folder / "attestations").exists()


def test_a_key_of_the_same_name_replaces_no_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    shutil.copy(keys / "mallory.key", tmp_path / "alice.key")
    before = {path.name: path.read_bytes() for path in (signed / "attestations").iterdir()}
    with pytest.raises(RunError, match="is another key than"):
        attest(signed, verify(signed), tmp_path / "alice.key")
    assert {path.name: path.read_bytes() for path in (signed / "attestations").iterdir()} == before
    attest(signed, verify(signed), keys / "alice.key")
    assert len(list((signed / "attestations").iterdir())) == 4


FALSE: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda p: p["records"].pop(), "does not have one result for each record"),
    (lambda p: p["records"][0].update(original=1.0), "the original value is"),
    (lambda p: next(r for r in p["records"] if r["outcome"] == "within").update(repeated=1e9), "is not within"),
    (lambda p: next(r for r in p["records"] if r["outcome"] == "within").update(repeated=None), "a value is missing"),
    (lambda p: p["records"][0].update(outcome="fine"), "not a statement"),
    (lambda p: p["verdict"].update(within=99), "its counts are not those of its records"),
    (lambda p: p["spread"].update(factor_max=1.0), "its spread is not that of its records"),
    (lambda p: p["run"].update(git_commit=None), "differs from this run in git_commit"),
    (lambda p: p["run"].pop("run_id"), "not a statement"),
]


@pytest.mark.parametrize(("change", "message"), FALSE)
def test_a_false_reproduction_is_neither_signed_nor_accepted(
    folder: Path, keys: Path, statement: bytes, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    document = json.loads(statement)
    change(document["predicate"])
    false = json.dumps(document).encode()
    with pytest.raises(RunError, match=message):
        attest(folder, verify(folder), keys / "bob.key", false)
    (folder / BOB).parent.mkdir()
    (folder / BOB).write_text(sign(false, read_private_key(keys / "bob.key")))
    assert message in results(folder, keys)[BOB]
    shutil.copy(keys / "bob.pub", folder / "attestations")
    assert message in show_reproductions(folder)[0]


def test_the_results_page_shows_who_reproduced_the_run(signed: Path, keys: Path, tmp_path: Path, bankllm: Cli) -> None:
    (signed / "attestations/mallory.x.dsse.json").write_bytes((signed / BOB).read_bytes())
    shutil.copy(keys / "mallory.pub", signed / "attestations")
    done = bankllm("report", str(signed))
    assert "Not on the page: attestations/mallory.x.dsse.json: is signed with the unknown key" in done.stderr
    assert "The manifest changed, so who made this run must sign it again" in " ".join(done.stdout.split())
    page = (signed / "RESULTS.md").read_text()
    (row,) = re.findall(r"^\| bob \(key \w{12}\) .*$", page, re.MULTILINE)
    assert re.search(r"\| 100\.0 % of \d compared \| 0 \| 2 \| .*factor of 1\.00 in the median, 1\.20 at most \|", row)
    assert "bob (key" in (signed / "RESULTS.html").read_text()
    assert read_manifest(signed).files[BOB]
    assert ALICE not in read_manifest(signed).files
    assert both_verifiers(signed) == ([], [])
    (signed / "attestations/mallory.x.dsse.json").unlink()
    found = results(signed, keys)
    assert found[ALICE].startswith("does not hold: is about manifest.json")  # the page is new
    assert found[BOB].startswith("ok")
    attest(signed, verify(signed), keys / "alice.key")
    assert all(text.startswith("ok") for text in results(signed, keys).values())
    done = bankllm("report", str(signed))  # nothing changed
    assert "must sign it again" not in done.stdout
    assert all(text.startswith("ok") for text in results(signed, keys).values())
    publish(signed, tmp_path / "copy")
    assert both_verifiers(tmp_path / "copy") == ([], [])
    assert list(results(tmp_path / "copy", keys)) == [BOB]  # the copy has another manifest
    (signed / BOB).unlink()
    assert both_verifiers(signed)[1] == [BOB]


def test_a_signature_on_the_page_cannot_be_exchanged(signed: Path, keys: Path, bankllm: Cli) -> None:
    bankllm("report", str(signed))
    edit_text(signed / BOB, lambda text: json.dumps(json.loads(text)))
    assert both_verifiers(signed) == ([BOB], [BOB])


def test_a_killed_process_leaves_a_run_that_verifies(folder: Path, keys: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from bankllm.util import atomic_files\n"
        "atomic_files.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from bankllm.evidence.attestation.attest import attest\n"
        "from bankllm.evidence.verification.verify import verify\n"
        "attest(Path(sys.argv[1]), verify(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):  # in the first the key is written, in the second the envelope
        done = subprocess.run([sys.executable, "-c", program, folder, keys / "alice.key"], env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
        assert both_verifiers(folder) == ([], [])
        assert "this run is not signed" in results(folder, keys)["attestations"]
        shutil.copy(keys / "alice.pub", folder / "attestations")
    attest(folder, verify(folder), keys / "alice.key")
    assert results(folder, keys)[ALICE].startswith("ok")


def test_reproduce_writes_a_statement_that_can_be_signed(
    folder: Path, repeated: Path, keys: Path, tmp_path: Path, bankllm: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Path(shutil.copytree(repeated, tmp_path / "outputs" / repeated.name))
    monkeypatch.setattr(cli, "_run_notebooks", lambda *arguments, **options: again)  # instead of some minutes
    assert bankllm("reproduce", folder, "--key", tmp_path / "none.key").returncode == 1
    done = bankllm("reproduce", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    statement = again.with_name(f"{again.name}.reproduction.json")
    assert f"attest --statement={statement} --key=FILE {folder}" in done.stdout
    assert not (folder / "attestations").exists()
    signed = bankllm("attest", folder, "--statement", statement, "--key", keys / "bob.key")
    assert signed.stdout.startswith(f"Signed: {folder / BOB}")
    from_statement = (folder / BOB).read_bytes()
    (folder / BOB).unlink()
    assert f"Signed: {folder / BOB}" in bankllm("reproduce", folder, "--key", keys / "bob.key").stdout
    assert (folder / BOB).read_bytes() == from_statement
    assert results(folder, keys)[BOB].startswith("ok: reproduced by bob")
    edit_text(statement, lambda text: text.replace('"outcome": "within"', '"outcome": "outside"', 1))
    refused = bankllm("attest", folder, "--statement", statement, "--key", keys / "bob.key")
    assert (refused.returncode, "contradicts the records" in refused.stderr) == (1, True)


def test_wrong_usage_of_attest(folder: Path, keys: Path, tmp_path: Path, bankllm: Cli) -> None:
    made = bankllm("attest", "--new-key", tmp_path / "carol.key")
    assert made.stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    for arguments, code, message in (
        ([folder], 2, "Expected --key FILE or --keyless"),
        ([folder, "--key", keys / "bob.key", "--keyless"], 2, "Expected --key FILE or --keyless"),
        ([folder, "--new-key", tmp_path / "x.key"], 2, "--new-key only makes a key"),
        (["--new-key", tmp_path / "carol.key"], 1, "exists"),
        ([tmp_path, "--key", keys / "bob.key"], 1, "is not a run"),
        ([folder, "--keyless"], 1, "BANKLLM_OFFLINE is set"),
        ([folder, "--key", keys / "bob.key", "--statement", tmp_path / "none"], 1, "could not be read"),
    ):
        done = bankllm("attest", *arguments)
        assert (done.returncode, message in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert not (folder / "attestations").exists()
