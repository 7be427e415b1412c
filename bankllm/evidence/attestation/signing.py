"""Sign statements with local ed25519 keys, in DSSE envelopes, and check the signatures.

A key is a PEM file: `NAME.key`, which only its owner may read, and `NAME.pub`, which is published. The name of the file
is the name of the signer. Needs the extra `bankllm[attest]`. Specification: https://github.com/secure-systems-lab/dsse
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bankllm.errors import RunError, UsageError, explained
from bankllm.util.atomic_files import write_text

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_KEY_BYTES = 2**14
MAKE_ONE = "Make one: bankllm attest --new-key FILE"


def new_key(path: Path) -> Path:
    """Writes a new private key to `path`, with mode 0600, and its public key beside it; returns the path of the latter.

    Raises `RunError` if one of the files exists or cannot be written.
    """
    from securesystemslib.signer import CryptoSigner

    public = path.with_suffix(".pub")
    for one in (path, public):
        if one.exists() or path == public:
            raise RunError(f"{one} exists or is the name of a public key. Choose a new file, such as alice.key.")
    signer = CryptoSigner.generate_ed25519()
    with explained(RunError, f"{path} cannot be written", "Choose another file.", OSError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123  a file descriptor
            file.write(signer.private_bytes)
    write_text(public, pem_of(signer.public_key))
    return public


def read_private_key(path: Path) -> "CryptoSigner":
    """Reads a private key. Raises `RunError` if it is missing, readable by others, encrypted or not ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read_key(path)
    if os.name == "posix" and (mode := path.stat().st_mode & 0o777) & 0o077:
        raise RunError(
            f"{path} has mode {mode:o}, so others can read the private key. Expected 600. If nobody did, run: "
            f"chmod 600 {path}. Else make a new one: bankllm attest --new-key FILE"
        )
    with explained(RunError, f"{path} is not an unencrypted private key in PEM", MAKE_ONE, (ValueError, TypeError)):
        key = load_pem_private_key(data, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise RunError(f"{path} is not an ed25519 key. {MAKE_ONE}")
    return CryptoSigner(key)


def read_public_keys(paths: Sequence[Path]) -> dict[str, "SSlibKey"]:
    """Returns name → public key of each file. Raises `RunError` for a file that is not an ed25519 public key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    keys: dict[str, SSlibKey] = {}
    for path in paths:
        with explained(RunError, f"{path} is not a public key in PEM", MAKE_ONE, ValueError):
            key = load_pem_public_key(_read_key(path))
        if not isinstance(key, Ed25519PublicKey):
            raise RunError(f"{path} is not an ed25519 public key.")
        if (name := plain_name(path.stem)) in keys:
            raise UsageError(f"Two keys have the name {name}. Rename one of the files: they name the signer.")
        keys[name] = SSlibKey.from_crypto(key)
    return keys


def sign(payload: bytes, signer: "CryptoSigner") -> str:
    """Returns the DSSE envelope of a statement as JSON text."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), indent=1) + "\n"


def verify_envelope(content: bytes, keys: Mapping[str, "SSlibKey"]) -> tuple[str, bytes]:
    """Returns the name of the key that signed an envelope, and its payload.

    Raises `RunError` if the envelope is not one, is not signed, or is not signed by one of `keys`.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    try:
        envelope = Envelope.from_dict(json.loads(content))
        signed_by = list(envelope.signatures)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"payloadType {str(envelope.payload_type)[:80]!r}, expected {PAYLOAD_TYPE!r}")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise RunError(f"not a DSSE envelope of a statement ({error!r})") from error
    if len(signed_by) != 1:
        raise RunError(f"has {len(signed_by)} signatures, expected one" if signed_by else "is not signed")
    known = {key.keyid: name for name, key in keys.items()}
    if (name := known.get(signed_by[0])) is None:
        raise RunError(f"is signed with the unknown key {signed_by[0][:12]}. If you trust it, name it with --keys")
    try:
        envelope.verify([keys[name]], 1)
    except VerificationError as error:
        raise RunError(f"the signature is not that of {name} (key {signed_by[0][:12]}): it was altered") from error
    return name, envelope.payload


def pem_of(key: "SSlibKey") -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def plain_name(text: str) -> str:
    """Returns a text as it can be in the name of a file in `attestations/`: letters, digits, `_` and `-`."""
    return re.sub(r"[^\w-]+", "-", text).strip("-") or "unnamed"


def _read_key(path: Path) -> bytes:
    advice = "Expected a file that bankllm attest --new-key wrote."
    with explained(RunError, f"The key {path} cannot be read", advice, OSError), path.open("rb") as file:
        data = file.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise RunError(f"{path} is larger than {MAX_KEY_BYTES // 2**10} KiB, so it is not a key.")
    return data
