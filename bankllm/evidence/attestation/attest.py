"""Write signed statements into the folder `attestations/` of a run, and check those that are there.

    attestations/alice.pub                                 the public key of alice
    attestations/alice.dsse.json                           alice made this run
    attestations/bob.20260102T090000Z-quick.dsse.json      bob repeated it, and these are the results
    attestations/carol-example-org.sigstore.json           signed with an identity instead of a key

The manifest does not list the folder, because statements are signed after it is sealed. `bankllm report` lists the
reproductions that it shows on the results page.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bankllm.errors import RunError
from bankllm.evidence.attestation.keyless import identity_in, sign_keyless, verify_bundle
from bankllm.evidence.attestation.signing import (
    pem_of,
    plain_name,
    read_private_key,
    read_public_keys,
    sign,
    verify_envelope,
)
from bankllm.evidence.manifest import ATTESTATIONS, read_manifest, write_manifest
from bankllm.evidence.raw_files import inside
from bankllm.evidence.reproduce import reproduction_faults
from bankllm.evidence.statements import (
    SIGNED,
    Predicate,
    Reproduction,
    RunAttestation,
    facts_of,
    read_signed,
    read_statement,
    statement_about,
    subject_fault,
)
from bankllm.evidence.verification.record_checks import Finding, Verdict, broken
from bankllm.util.atomic_files import write_text
from bankllm.util.file_hash import sha256_file

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey


def attest(folder: Path, verdict: Verdict, key: Path | None, statement: bytes | None = None) -> Path:
    """Signs a statement about a run whose verification gave `verdict`, and returns the path of the signed file.

    `key` is a private key; None signs with an identity (`keyless`). `statement` is that of a reproduction; without it,
    the signer states that they made the run. Raises `RunError` without writing if the run or the statement does not
    hold, if the key cannot be used, or if another key has the same name in this run.
    """
    if not verdict.holds:
        first = next(finding for finding in verdict.findings if not finding.holds)
        raise RunError(
            f"{folder} {verdict.summary()}, so it was not attested. {first.subject} {first.detail}. "
            f"All findings: bankllm verify {folder}"
        )
    if statement is None:
        made = RunAttestation(run=facts_of(folder), verification=verdict.counts())
        statement = statement_about(folder, made).encode()
    predicate = _checked(folder, statement)
    again = f".{plain_name(predicate.repeated.run_id)}" if isinstance(predicate, Reproduction) else ""
    if key is None:
        identity, signed = sign_keyless(statement)
        path = inside(folder, f"{ATTESTATIONS}/{plain_name(identity)}{again}.sigstore.json")
    else:
        signer, name = read_private_key(key), plain_name(key.stem)
        signed, pem = sign(statement, signer), pem_of(signer.public_key)
        public = inside(folder, f"{ATTESTATIONS}/{name}.pub")
        if public.exists() and public.read_text(encoding="utf-8") != pem:
            raise RunError(f"{public} is another key than {key}. Rename your key file: its name is that of the signer.")
        write_text(public, pem)
        path = inside(folder, f"{ATTESTATIONS}/{name}{again}.dsse.json")
    write_text(path, signed)
    return path


def check_attestations(folder: Path, keys: list[Path], identities: Mapping[str, str]) -> list[Finding]:
    """Checks each signed statement of a run against public keys and identities (identity → its issuer).

    Returns a finding per statement: what it states and who signed it, or why it does not hold. A run without one does
    not hold, and neither does a statement of an unknown signer. Needs no network. Raises `RunError` for a bad key, and
    for one inside the run, which whoever changed the run could have put there.
    """
    for key in keys:
        if folder.resolve() in key.resolve().parents:
            raise RunError(
                f"{key} is part of the run, so it proves nothing. Take the key from its signer, not from the run."
            )
    trusted, findings = read_public_keys(keys), []
    for name in _signed_files(folder):
        try:
            findings.append(Finding(name, "ok", _describe(*_read(folder, name, trusted, identities))))
        except RunError as error:
            findings.append(broken(name, str(error)))
    return findings or [broken(ATTESTATIONS, f"this run is not signed. Sign it: bankllm attest {folder} --key FILE")]


def show_reproductions(folder: Path) -> list[str]:
    """Lists the reproductions to show in the manifest: those that hold, signed with the key or identity they name.

    The keys are those in `attestations/`, so a reader who wants to know whose they are checks them with
    `check_attestations`. Returns a line per statement that is not shown, with the reason.
    """
    manifest, shown, lines = read_manifest(folder), [], []
    for name in _signed_files(folder):
        try:
            signer = Path(name).name.split(".")[0]
            if name.endswith(".dsse.json"):
                keys = read_public_keys([inside(folder, f"{ATTESTATIONS}/{signer}.pub")])
                _, predicate = _read(folder, name, keys, {})
            else:
                identity = identity_in(read_signed(folder, name))
                _, predicate = _read(folder, name, {}, {identity: None} if plain_name(identity) == signer else {})
            if isinstance(predicate, Reproduction):
                shown.append(name)
        except RunError as error:
            lines.append(f"{name}: {error}")
    others = {name: sha256 for name, sha256 in manifest.files.items() if not SIGNED.fullmatch(name)}
    if (files := others | {name: sha256_file(folder / name) for name in shown}) != manifest.files:
        write_manifest(folder, replace(manifest, files=files))
    return lines


def _signed_files(folder: Path) -> list[str]:
    """The paths of the statements in the run, also of those with a bad name, but not of what was not written whole."""
    found = sorted(path.relative_to(folder).as_posix() for path in (folder / ATTESTATIONS).glob("[!.]*"))
    return [name for name in found if not name.endswith(".pub")]


def _read(
    folder: Path, name: str, keys: Mapping[str, "SSlibKey"], identities: Mapping[str, str | None]
) -> tuple[str, Predicate]:
    """Returns who signed a file of `attestations/`, and what. Raises `RunError` if it does not hold."""
    content = read_signed(folder, name)
    if (signed := SIGNED.fullmatch(name)) is None:
        raise RunError("its name is not SIGNER.dsse.json, SIGNER.REPETITION.dsse.json or the same with sigstore")
    if signed["kind"] == "dsse":
        who, payload = verify_envelope(content, keys)
        who += f" (key {keys[who].keyid[:12]})"
    elif (who := identity_in(content)) in identities:
        payload = verify_bundle(content, who, identities[who])
    else:
        raise RunError(f"is signed by the unknown identity {who}. If you trust it, name it with --identity")
    return who, _checked(folder, payload)


def _checked(folder: Path, payload: bytes) -> Predicate:
    """Reads a statement. Raises `RunError` if it is not about this run, or contradicts its records."""
    subject, predicate = read_statement(payload)
    if fault := subject_fault(folder, subject, predicate):
        raise RunError(fault)
    if isinstance(predicate, Reproduction):
        if fault := next(reproduction_faults(folder, predicate), None):
            raise RunError(f"contradicts the records: {fault}")
    elif predicate.verification.get("does not hold") != 0:
        raise RunError("attests a run that did not verify")
    return predicate


def _describe(who: str, predicate: Predicate) -> str:
    if isinstance(predicate, Reproduction):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(predicate.verdict.items()))
        return f"reproduced by {who} as {predicate.repeated.run_id}: {counts}"
    state = {True: " with uncommitted changes", False: "", None: " outside a git checkout"}[predicate.run.git_dirty]
    commit = (predicate.run.git_commit or "no commit")[:12]
    counts = ", ".join(f"{count} {status}" for status, count in predicate.verification.items())
    return f"made by {who} from {commit}{state}; verified with {counts}"
