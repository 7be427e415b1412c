"""CLI commands on a finished run: `bankllm verify`, `attest`, `report`, `publish` and `claims`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bankllm.errors import RunError, UsageError
from bankllm.settings import get_settings, project_root

RunArgument = Annotated[Path | None, typer.Argument(help="Run folder.", show_default="the newest complete run")]

KeyOption = Annotated[
    Path | None,
    typer.Option(help="Private key that signs, e.g. alice.key. The name of the file is that of the signer."),
]


def verify(
    run_dir: RunArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    attestations: Annotated[
        bool, typer.Option("--attestations", help="Also check who signed the run and who reproduced it.")
    ] = False,
    keys: Annotated[
        list[Path] | None, typer.Option(help="Public key that you trust, e.g. alice.pub. Repeat for several.")
    ] = None,
    identity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IDENTITY,ISSUER", help="Identity that you trust: a@example.org,https://accounts.google.com."
        ),
    ] = None,
) -> None:
    """Recompute every number of a run from its raw rows. The exit code is 1 if verification fails."""
    from bankllm.evidence.verification.run_checks import as_text
    from bankllm.evidence.verification.verify import verify as check

    if attestations != bool(keys or identity):
        raise UsageError("--attestations checks signatures against the keys that you trust: name them with --keys FILE")
    folder = run_dir or latest_run()
    verdict = check(folder)
    if attestations:
        from bankllm.evidence.attestation.attest import check_attestations

        trusted = {name: issuer for name, _, issuer in (one.partition(",") for one in identity or ())}
        if not all(trusted.values()):
            raise UsageError("Expected --identity IDENTITY,ISSUER, such as a@example.org,https://accounts.google.com")
        verdict = replace(verdict, findings=(*verdict.findings, *check_attestations(folder, keys or [], trusted)))
    typer.echo(as_text(verdict, as_json=as_json))
    if not verdict.holds:
        raise typer.Exit(1)


def attest(
    run_dir: RunArgument = None,
    key: KeyOption = None,
    keyless: Annotated[
        bool, typer.Option("--keyless", help="Sign with an identity through Sigstore. Its log is public.")
    ] = False,
    statement: Annotated[
        Path | None, typer.Option(help="Sign this statement, which `bankllm reproduce` wrote about the run.")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only make a key: FILE, and FILE's name with .pub.")
    ] = None,
) -> None:
    """Sign a run that verifies: who made it, from which commit, on which machine. Writes to RUN/attestations/."""
    if new_key:
        if run_dir or key or keyless or statement:
            raise UsageError("--new-key only makes a key. Then sign: bankllm attest RUN --key FILE")
        from bankllm.evidence.attestation.signing import new_key as make

        public = make(new_key)
        typer.echo(public.read_text(encoding="utf-8"), nl=False)
        typer.echo(f"Publish {public}. Keep {new_key} secret: whoever has it can sign in your name.")
        return
    if bool(key) == keyless:
        raise UsageError("Expected --key FILE or --keyless. Make a key: bankllm attest --new-key alice.key")
    from bankllm.evidence.attestation.attest import attest as sign
    from bankllm.evidence.verification.verify import verify

    folder = run_dir or latest_run()
    signed = sign(folder, verify(folder), key, statement.read_bytes() if statement else None)
    typer.echo(f"Signed: {signed}")
    if statement:
        typer.echo(f"Send it, with the public key, to who publishes the run. The results page: bankllm report {folder}")


def report(
    run_dir: RunArgument = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Compare two runs instead: the second with the first.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="Log the run to this MLflow tracking store instead.")
    ] = None,
) -> None:
    """Verify a run and write its pages and exports again; or compare two runs; or log a run to MLflow."""
    if compare and (run_dir or mlflow):
        raise UsageError("--compare takes two runs and no other argument. Run: bankllm report --compare RUN_A RUN_B")
    if compare:
        _compare(*compare)
        return
    from bankllm.evidence.verification.verify import require_verified

    folder = require_verified(run_dir or latest_run())
    if mlflow:
        from bankllm.evidence.share.mlflow import log_run

        typer.echo(f"Logged as MLflow run {log_run(folder, mlflow)}.")  # the URI may hold a password
        return
    from bankllm.evidence.manifest import ATTESTATIONS, MANIFEST, read_manifest
    from bankllm.evidence.report.render import render
    from bankllm.evidence.share.ro_crate import write_crate
    from bankllm.evidence.verification.seal_run import seal_run
    from bankllm.util.file_hash import sha256_file

    before = sha256_file(folder / MANIFEST)
    attested = any((folder / ATTESTATIONS).glob("*.json"))
    if attested:
        from bankllm.evidence.attestation.attest import show_reproductions

        for line in show_reproductions(folder):
            typer.echo(f"Not on the page: {line}", err=True)
    manifest = read_manifest(folder)
    for page in render(folder):
        typer.echo(page)
    typer.echo(write_crate(folder, manifest) or "No RO-Crate was written. It needs: pip install 'bankllm[share]'")
    seal_run(folder, manifest, complete=manifest.complete)
    if attested and sha256_file(folder / MANIFEST) != before:
        typer.echo(f"The manifest changed, so who made this run must sign it again: bankllm attest {folder} --key FILE")


def _compare(first: Path, second: Path) -> None:
    from bankllm.evidence.compare import compare, lines
    from bankllm.evidence.verification.verify import require_verified

    compared = compare(require_verified(first), require_verified(second))
    for line in lines(compared):
        typer.echo(line)
    if all(entry.outcome == "not comparable" for entry in compared):
        raise RunError(
            "The two runs have no record in common that was measured under the same conditions. "
            "Expected two runs with the same profile, data set and machine."
        )


def publish(
    run_dir: Annotated[Path, typer.Argument(help="Run folder.")],
    target: Annotated[Path, typer.Argument(help="Folder for the copy, e.g. outputs/reference.")],
) -> None:
    """Verify a run and copy it, without model weights, to a folder that can be committed to a repository."""
    from bankllm.evidence.share.publish import publish as copy

    left_out = copy(run_dir, target).left_out
    typer.echo(f"{target}: copied without {len(left_out)} files (weights, repeated tables).")
    typer.echo(f"Verify the copy: bankllm verify {target}")


def claims(
    files: Annotated[list[Path], typer.Argument(help="Files of Markdown, HTML or LaTeX; with --scan also notebooks.")],
    write: Annotated[bool, typer.Option("--write", help="Fill in the claims.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the claims (the default).")] = False,
    scan: Annotated[bool, typer.Option("--scan", help="Find placeholders and numbers without a claim.")] = False,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run", help="Run folder.", show_default="the run that the file names, else the newest"),
    ] = None,
) -> None:
    """Check or fill in the claims of files: numbers that name a record, <!-- claim: ID -->…<!-- /claim -->."""
    from bankllm.evidence import unbound_numbers
    from bankllm.evidence.claims import audit_claims, run_named_in, write_claims

    if write + check + scan > 1:
        raise UsageError("Give only one of --write, --check and --scan.")
    faults: list[str] = []
    for file in files:
        if scan:
            faults += unbound_numbers.scan(file)
            continue
        named = run_named_in(unbound_numbers.read_document(file))[0]
        folder = run_dir or (file.parent / named if named else latest_run())
        if write:
            typer.echo(f"{file}: {write_claims(file, folder)} claims written")
        else:
            faults += audit_claims(file, folder)
    for fault in faults:
        typer.echo(fault, err=not scan)
    if faults:
        raise typer.Exit(1)


def latest_run() -> Path:
    """Returns the folder of the newest complete run. Raises `RunError` if there is none."""
    output = project_root() / get_settings().output
    latest = output / "LATEST"
    if not latest.is_file():
        raise RunError(
            f"No complete run in {output}. Make one with `bankllm run`, or name a run folder (claims: with --run)."
        )
    return output / os.fsdecode(latest.read_bytes()).strip()
