"""Signing with an identity: without a network or an identity it fails with the reason, and garbage is no bundle."""

import io
import sys
from pathlib import Path

import pytest

from bankllm.errors import RunError
from bankllm.evidence.attestation.attest import check_attestations, show_reproductions
from bankllm.evidence.attestation.keyless import identity_in, sign_keyless


@pytest.fixture
def no_ci_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKLLM_OFFLINE", "0")
    for name in ("GITHUB_ACTIONS", "BUILDKITE", "GITLAB_CI", "CIRCLECI", "GOOGLE_SERVICE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_ci_job")
def test_without_an_identity_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(RunError, match="This is no CI job with an identity token, and no terminal"):
        sign_keyless(b"{}")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(RunError, match="the CI job gave no token"):
        sign_keyless(b"{}")


@pytest.mark.usefixtures("no_ci_job")
def test_without_a_network_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: "header.payload.signature")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(RunError, match=r"but Sigstore failed: .*Nothing was signed; try --key FILE"):
        sign_keyless(b"{}")


def test_garbage_is_no_bundle(folder: Path) -> None:
    path = folder / "attestations/carol.sigstore.json"
    path.parent.mkdir()
    for garbage in (
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
    ):
        with pytest.raises(RunError, match="not a Sigstore bundle"):
            identity_in(garbage)
        path.write_bytes(garbage)
        (finding,) = check_attestations(folder, [], {"carol@example.org": "https://accounts.google.com"})
        assert (finding.status, "not a Sigstore bundle" in finding.detail) == ("does not hold", True)
        assert "not a Sigstore bundle" in show_reproductions(folder)[0]
