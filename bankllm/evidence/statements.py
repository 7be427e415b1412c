"""In-toto statements about a run: who made it, and who reproduced it. Signatures are in `attestation/`.

A `RunAttestation` is about the manifest, and so about every file of the run. A `Reproduction` is about the records: it
stays true if the pages of the run are written again. Specification: https://in-toto.io/Statement/v1
"""

import base64
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bankllm.errors import RunError, explained
from bankllm.evidence.documents import as_json, parse
from bankllm.evidence.manifest import ATTESTATIONS, MANIFEST, MAX_ATTESTATION_BYTES, RECORDS, read_manifest
from bankllm.evidence.raw_files import inside
from bankllm.util.file_hash import sha256_file

SIGNED = re.compile(rf"{ATTESTATIONS}/(?P<name>\w[\w-]*)(?:\.[\w-]+)?\.(?P<kind>dsse|sigstore)\.json")
"""Path of a signed statement in a run: the name of the key, the id of the repetition, and the kind of signature."""

Outcome = Literal["within", "outside", "not comparable"]


@dataclass(frozen=True, kw_only=True)
class StatementSubject:
    """The file that a statement is about, and its `sha256`."""

    name: str
    digest: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class InTotoStatement:
    """The payload of an envelope. The type of the predicate is one of `PREDICATES`."""

    _type: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
    subject: list[StatementSubject]
    predicateType: str
    predicate: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What identifies a run in a predicate: its id, code, machine and records."""

    run_id: str
    profile: str
    git_commit: str | None
    git_dirty: bool | None
    environment: dict[str, Any]
    records_sha256: str


@dataclass(frozen=True, kw_only=True)
class RunAttestation:
    """Predicate: the signer made this run, and it verified with these counts of findings."""

    run: RunFacts
    verification: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class RepeatedRecord:
    """One record in a reproduction: `within` or `outside` its tolerance, or `not comparable`, and why."""

    id: str
    outcome: Outcome
    why: str
    original: float | None
    repeated: float | None


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """Predicate: the signer repeated the run `run`, which gave `repeated`, with one result per record of `run`."""

    run: RunFacts
    repeated: RunFacts
    verdict: dict[str, int]
    """Outcome → number of records."""
    spread: dict[str, float]
    """`reproduce.spread` of the compared records."""
    records: list[RepeatedRecord]


Predicate = RunAttestation | Reproduction
PREDICATES: dict[str, type[Predicate]] = {
    "https://github.com/bankllm/bankllm/attestations/run/v1": RunAttestation,
    "https://github.com/bankllm/bankllm/attestations/reproduction/v1": Reproduction,
}
"""Type of a predicate → its class."""
SUBJECTS: dict[type[Predicate], str] = {RunAttestation: MANIFEST, Reproduction: RECORDS}
"""Class of a predicate → the file of the run that its statement is about."""


def facts_of(folder: Path) -> RunFacts:
    """Returns the facts of a finished run. Raises `RunError` without a manifest."""
    manifest = read_manifest(folder)
    return RunFacts(
        run_id=manifest.run_id,
        profile=manifest.profile,
        git_commit=manifest.git_commit,
        git_dirty=manifest.git_dirty,
        environment=manifest.environment,
        records_sha256=sha256_file(folder / RECORDS),
    )


def statement_about(folder: Path, predicate: Predicate) -> str:
    """Returns the statement about a run as JSON text, to be signed."""
    kind, name = next(key for key, one in PREDICATES.items() if one is type(predicate)), SUBJECTS[type(predicate)]
    subject = StatementSubject(name=name, digest={"sha256": sha256_file(folder / name)})
    return as_json(InTotoStatement(subject=[subject], predicateType=kind, predicate=asdict(predicate)), indent=1) + "\n"


def read_statement(payload: bytes) -> tuple[StatementSubject, Predicate]:
    """Reads a statement. Raises `RunError` if it is not one of `PREDICATES` about one file."""
    try:
        statement = parse(payload, InTotoStatement)
        kind = PREDICATES.get(statement.predicateType)
        if kind is None:
            raise ValueError(f"predicateType {statement.predicateType[:80]!r}, expected one of {', '.join(PREDICATES)}")
        (subject,) = statement.subject
        return subject, parse(json.dumps(statement.predicate), kind)
    except (ValueError, RecursionError) as error:
        raise RunError(f"not a statement about a run ({error})") from error


def subject_fault(folder: Path, subject: StatementSubject, predicate: Predicate) -> str | None:
    """Describes why a statement is not about this run; None if it is."""
    name = SUBJECTS[type(predicate)]
    expected, found = sha256_file(folder / name), str(subject.digest.get("sha256"))
    if (subject.name, found) != (name, expected):
        return (
            f"is about {subject.name} with sha256 {found[:12]}… of run {predicate.run.run_id}, but {name} of this run "
            f"has {expected[:12]}…: another run, or it was changed after it was signed"
        )
    own = facts_of(folder)
    differing = [key for key, value in asdict(predicate.run).items() if value != getattr(own, key)]
    return f"differs from this run in {', '.join(differing)}" if differing else None


def read_signed(folder: Path, name: str) -> bytes:
    """Reads a file of `attestations/`. Raises `RunError` if it is a link, no file or larger than the limit."""
    path = inside(folder, name)
    try:
        if path.exists() and not path.is_file():  # to read a named pipe would wait for its other end
            raise RunError("is no regular file")
        if path.stat().st_size > MAX_ATTESTATION_BYTES:
            raise RunError(f"is larger than {MAX_ATTESTATION_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})") from error


def payload_of(envelope: bytes) -> tuple[str, bytes]:
    """Returns the key id ("" in a Sigstore bundle) and the payload of an envelope. No signature is checked."""
    with explained(RunError, "not an envelope with one signature", "Expected what bankllm attest wrote"):
        document = json.loads(envelope)
        document = document.get("dsseEnvelope", document)
        (signature,) = document["signatures"]
        return str(signature.get("keyid", "")), base64.b64decode(document["payload"], validate=True)


def shown_reproductions(folder: Path) -> list[dict[str, str]]:
    """Returns a row for the results page per reproduction that the manifest lists.

    `bankllm report` lists one if its signature verifies, and the seal of the manifest covers it from then on. Raises
    `RunError` if one of them is missing or is not a statement.
    """
    rows = []
    for name in sorted(read_manifest(folder).files) if (folder / MANIFEST).exists() else ():
        if signed := SIGNED.fullmatch(name):
            keyid, payload = payload_of(read_signed(folder, name))
            _, found = read_statement(payload)
            if isinstance(found, Reproduction):
                rows.append({"who": f"{signed['name']} ({f'key {keyid[:12]}' if keyid else 'Sigstore'})"} | _row(found))
    return rows


def _row(found: Reproduction) -> dict[str, str]:
    compared = found.verdict.get("within", 0) + found.verdict.get("outside", 0)
    machine, commit = found.repeated.environment, found.repeated.git_commit
    gpus = machine.get("gpus")
    gpu = ", ".join(str(one.get("name")) for one in gpus) if isinstance(gpus, list) and gpus else "no GPU"
    hardware = f"{machine.get('cpu')}, {machine.get('cores_usable')} cores, {machine.get('memory_gib')} GiB, {gpu}"
    parts = []
    if "share_max" in found.spread:
        median, largest = (100 * found.spread[key] for key in ("share_median", "share_max"))
        parts.append(f"shares by {median:.1f} points in the median, {largest:.1f} at most")
    if "factor_max" in found.spread:
        median, largest = (found.spread[key] for key in ("factor_median", "factor_max"))
        parts.append(f"other values by a factor of {median:.2f} in the median, {largest:.2f} at most")
    row = {
        "share": f"{100 * found.verdict.get('within', 0) / max(compared, 1):.1f} % of {compared:,} compared",
        "outside": f"{found.verdict.get('outside', 0):,}",
        "not_comparable": f"{found.verdict.get('not comparable', 0):,}",
        "hardware": hardware,
        "commit": commit[:12] if commit else "not a git checkout",
        "spread": "; ".join(parts) or "–",
    }
    return {key: " ".join(text.split()) for key, text in row.items()}
