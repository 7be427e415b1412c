"""A changed envelope, signature or key never holds: `bankllm verify --attestations` names the file."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import BankLLMError, RunError
from bankllm.evidence.attestation.attest import attest, check_attestations
from bankllm.evidence.attestation.signing import read_private_key, sign
from bankllm.evidence.verification.verify import verify
from tests.support.sealed_run import edit_text, reseal
from tests.support.tampering import bump, other

ALICE = "attestations/alice.dsse.json"
Edit = Callable[[dict[str, Any], Path], object]


def flipped(text: str, place: float) -> str:
    """Returns base64 or hexadecimal text with another character at this share of its length."""
    at = int(place * (len(text) - 4))
    return text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]


def payload(change: Callable[[dict[str, Any]], object]) -> Edit:
    """A change of the statement, which keeps the signature."""

    def edit(envelope: dict[str, Any], _: Path) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    return edit


def signature(**changes: Callable[[str], Any]) -> Edit:
    def edit(envelope: dict[str, Any], _: Path) -> None:
        for name, change in changes.items():
            envelope["signatures"][0][name] = change(envelope["signatures"][0][name])

    return edit


def resigned(envelope: dict[str, Any], keys: Path) -> None:
    """Signed by mallory, who then names alice's key."""
    keyid = envelope["signatures"][0]["keyid"]
    envelope |= json.loads(sign(base64.b64decode(envelope["payload"]), read_private_key(keys / "mallory.key")))
    envelope["signatures"][0]["keyid"] = keyid


ENVELOPES: dict[str, Edit] = {
    **{f"signature, at {p:.0%}": signature(sig=lambda text, p=p: flipped(text, p)) for p in (0, 0.2, 0.4, 0.6, 0.8, 1)},
    **{f"payload, at {p:.0%}": lambda e, _, p=p: e.update(payload=flipped(e["payload"], p)) for p in (0, 0.3, 0.6, 1)},
    **{f"key id, at {p:.0%}": signature(keyid=lambda text, p=p: flipped(text, p)) for p in (0, 0.5, 1)},
    "signature cut": signature(sig=lambda text: text[:-8]),
    "signature doubled": signature(sig=lambda text: base64.b64encode(2 * base64.b64decode(text)).decode()),
    "signature empty": signature(sig=lambda text: ""),
    "signature of zeros": signature(sig=lambda text: base64.b64encode(bytes(64)).decode()),
    "no signature": lambda e, _: e.update(signatures=[]),
    "signature twice": lambda e, _: e.update(signatures=[*e["signatures"], {"keyid": "a", "sig": "aaaa"}]),
    "another payload type": lambda e, _: e.update(payloadType="application/json"),
    "no payload": lambda e, _: e.pop("payload"),
    "mallory as alice": resigned,
    "another run": payload(lambda p: p["predicate"]["run"].update(run_id="other")),
    "another commit": payload(lambda p: p["predicate"]["run"].update(git_commit="e" * 40)),
    "other records": payload(lambda p: p["predicate"]["run"].update(records_sha256="0" * 64)),
    "another machine": payload(lambda p: p["predicate"]["run"]["environment"].update(cpu="Faster")),
    "another manifest": payload(lambda p: p["subject"][0]["digest"].update(sha256="0" * 64)),
    "another kind of statement": payload(lambda p: p.update(predicateType=bump(p["predicateType"]))),
    "another verdict": payload(lambda p: p["predicate"].update(verification=other(p["predicate"]["verification"]))),
}


@pytest.fixture
def signed(folder: Path, keys: Path) -> Path:
    attest(folder, verify(folder), keys / "alice.key")
    return folder


def found(folder: Path, key: Path) -> list[str]:
    """The results that hold, and the error if the key cannot be read."""
    try:
        return [one.detail for one in check_attestations(folder, [key], {}) if one.holds]
    except BankLLMError as error:
        return [] if str(key) in str(error) else [f"unnamed: {error}"]


@pytest.mark.parametrize("what", ENVELOPES)
def test_a_changed_envelope_does_not_hold(signed: Path, keys: Path, what: str) -> None:
    def edit(text: str) -> str:
        envelope = json.loads(text)
        ENVELOPES[what](envelope, keys)
        return json.dumps(envelope)

    edit_text(signed / ALICE, edit)
    (finding,) = check_attestations(signed, [keys / "alice.pub"], {})
    assert (finding.subject, finding.holds) == (ALICE, False)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_key_accepts_nothing(signed: Path, keys: Path, tmp_path: Path, place: float) -> None:
    key = Path(shutil.copy(keys / "alice.pub", tmp_path / "alice.pub"))
    assert found(signed, key) != []
    head, middle, tail = key.read_text().split("\n", 2)
    key.write_text("\n".join((head, flipped(middle, place), tail)))
    assert found(signed, key) == []


def test_a_key_from_the_run_itself_is_refused(signed: Path) -> None:
    with pytest.raises(RunError, match=r"alice\.pub is part of the run, so it proves nothing"):
        check_attestations(signed, [signed / "attestations" / "alice.pub"], {})


def test_a_pipe_among_the_statements_is_named(signed: Path, keys: Path) -> None:
    os.mkfifo(signed / "attestations/pipe.dsse.json")
    _, finding = check_attestations(signed, [keys / "alice.pub"], {})
    assert (finding.subject, finding.detail) == ("attestations/pipe.dsse.json", "is no regular file")


def test_a_run_that_was_changed_after_the_signature_does_not_fit_it(signed: Path, keys: Path) -> None:
    reseal(signed, git_commit="e" * 40)
    (finding,) = check_attestations(signed, [keys / "alice.pub"], {})
    assert not finding.holds
    assert "manifest.json" in finding.detail
