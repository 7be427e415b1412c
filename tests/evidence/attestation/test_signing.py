"""Keys and envelopes: only an unencrypted ed25519 key that nobody else can read signs."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from bankllm.errors import RunError, UsageError
from bankllm.evidence.attestation.signing import new_key, read_private_key, read_public_keys, sign, verify_envelope


def pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, how: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def test_a_new_key_is_readable_only_by_its_owner_and_replaces_no_file(tmp_path: Path) -> None:
    public = new_key(tmp_path / "carol smith.key")
    assert (public.name, public.stat().st_mode & 0o777) == ("carol smith.pub", 0o644)
    assert (tmp_path / "carol smith.key").stat().st_mode & 0o777 == 0o600
    assert list(read_public_keys([public])) == ["carol-smith"]
    for taken in ("carol smith.key", "carol smith.pub", "carol smith.other", "new.pub", "no/folder.key"):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(RunError, match="Choose"):
            new_key(tmp_path / taken)
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0, "cannot be read (No such file or directory)"),
        (pem(Ed25519PrivateKey.generate(), NoEncryption()), 0o640, "has mode 640, so others can read"),
        (pem(Ed25519PrivateKey.generate(), NoEncryption()), 0o604, "chmod 600"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), 0o600, "not an unencrypted"),
        (pem(ec.generate_private_key(ec.SECP256R1()), NoEncryption()), 0o600, "is not an ed25519 key"),
        (b"garbage", 0o600, "not an unencrypted private key in PEM"),
        (b"A" * 2**20, 0o600, "is larger than 16 KiB"),
    ],
)
def test_another_key_is_refused(tmp_path: Path, content: bytes | None, mode: int, message: str) -> None:
    path = tmp_path / "a.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(RunError) as error:
        read_private_key(path)
    assert message in str(error.value)


def test_public_keys_have_the_names_of_their_files(keys: Path, tmp_path: Path) -> None:
    again = tmp_path / "alice.pub"
    again.write_bytes((keys / "bob.pub").read_bytes())
    with pytest.raises(UsageError, match="Two keys have the name alice"):
        read_public_keys([keys / "alice.pub", again])
    for wrong in (keys / "alice.key", keys / "none.pub", keys):
        with pytest.raises(RunError, match=r"is not a public key|cannot be read"):
            read_public_keys([wrong])


def test_an_envelope_is_signed_as_the_specification_says(keys: Path) -> None:
    payload = b'{"a": "\xc3\xa9"}'
    document = json.loads(sign(payload, read_private_key(keys / "alice.key")))
    assert document["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(document["payload"]) == payload
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)  # pre-authentication encoding
    public = read_private_key(keys / "alice.key")._private_key.public_key()  # type: ignore[attr-defined]
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), signed)


def test_an_altered_envelope_is_refused_with_the_reason(keys: Path) -> None:
    trusted = read_public_keys([keys / "alice.pub", keys / "bob.pub"])
    envelope = json.loads(sign(b'{"a": 1}', read_private_key(keys / "alice.key")))
    (signature,) = envelope["signatures"]
    assert verify_envelope(json.dumps(envelope).encode(), trusted) == ("alice", b'{"a": 1}')
    flipped = bytes([base64.b64decode(signature["sig"])[0] ^ 1, *base64.b64decode(signature["sig"])[1:]])
    mallory = json.loads(sign(b'{"a": 1}', read_private_key(keys / "mallory.key")))["signatures"][0]
    for changes, message in (
        ({"payload": base64.b64encode(b'{"a": 2}').decode()}, "the signature is not that of alice"),
        ({"signatures": [signature | {"sig": base64.b64encode(flipped).decode()}]}, "not that of alice"),
        ({"signatures": [signature | {"sig": "AAAA"}]}, "not that of alice"),
        ({"signatures": [signature | {"keyid": trusted["bob"].keyid}]}, "not that of bob"),
        ({"signatures": [mallory]}, "is signed with the unknown key"),
        ({"signatures": [mallory | {"keyid": signature["keyid"]}]}, "not that of alice"),
        ({"signatures": [signature, mallory]}, "has 2 signatures, expected one"),
        ({"signatures": []}, "is not signed"),
        ({"signatures": None}, "not a DSSE envelope"),
        ({"payloadType": "application/json"}, "payloadType 'application/json', expected"),
        ({"payload": 7}, "not a DSSE envelope"),
    ):
        with pytest.raises(RunError) as error:
            verify_envelope(json.dumps(envelope | changes).encode(), trusted)
        assert message in str(error.value), changes
    for garbage in (b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, json.dumps(envelope).encode()[:-9]):
        with pytest.raises(RunError, match="not a DSSE envelope"):
            verify_envelope(garbage, trusted)
