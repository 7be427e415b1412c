"""Sign statements with an identity instead of a key: Sigstore certifies an e-mail address or a CI job for ten minutes.

Signing needs a network and an identity, checking neither: the roots of trust are part of the package `sigstore`. Needs
the extra `bankllm[keyless]`. Source: https://docs.sigstore.dev/
"""

import logging
import sys
from typing import TYPE_CHECKING

from bankllm.errors import RunError, explained
from bankllm.settings import get_settings

if TYPE_CHECKING:
    from sigstore.models import Bundle


def sign_keyless(payload: bytes) -> tuple[str, str]:
    """Returns the identity that signed, and the Sigstore bundle as JSON text.

    The identity is that of the CI job, else that of a login in a browser. Signing is public: the log of Sigstore shows
    the identity. Raises `RunError` without a network or an identity.
    """
    from sigstore.dsse import Statement
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityError, IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    needs = "Keyless signing needs a network and an identity"
    if get_settings().offline:
        raise RunError(f"{needs}, but BANKLLM_OFFLINE is set. Sign with a local key instead: --key FILE")
    try:
        found = detect_credential()
    except IdentityError as error:
        raise RunError(f"{needs}, but the CI job gave no token: {error}") from error
    if not found and not sys.stdin.isatty():
        raise RunError(
            f"{needs}. This is no CI job with an identity token, and no terminal from which a browser can be opened. "
            "In GitHub Actions, set `permissions: id-token: write`; else sign with --key FILE"
        )
    try:
        trust = ClientTrustConfig.production()
        token = IdentityToken(found) if found else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            bundle = signer.sign_dsse(Statement(payload)).to_json()
    except Exception as error:  # the clients of Sigstore's services raise errors of private classes
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise RunError(f"{needs}, but Sigstore failed: {error}{cause}. Nothing was signed; try --key FILE") from error
    return identity_in(bundle.encode()), bundle + "\n"


def identity_in(content: bytes) -> str:
    """Returns the identity that a bundle claims; only `verify_bundle` proves it. Raises `RunError` for no bundle."""
    from cryptography.x509 import ExtensionNotFound, RFC822Name, SubjectAlternativeName, UniformResourceIdentifier

    try:
        names = _bundle(content).signing_certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except (ExtensionNotFound, ValueError) as error:
        raise RunError(f"its certificate names no identity ({error})") from error
    found = [*names.get_values_for_type(RFC822Name), *names.get_values_for_type(UniformResourceIdentifier)]
    if len(found) != 1:
        raise RunError(f"its certificate names {len(found)} identities, expected one")
    return str(found[0])


def verify_bundle(content: bytes, identity: str, issuer: str | None) -> bytes:
    """Returns the payload of a bundle, without a network. Raises `RunError` if this identity did not sign it.

    `issuer` is the address of the service that confirmed the identity; None stands for any.
    """
    from sigstore.errors import Error
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns that no network is used
    try:
        verifier = Verifier.production(offline=True)
        _, payload = verifier.verify_dsse(_bundle(content), Identity(identity=identity, issuer=issuer))
    except Error as error:
        raise RunError(f"the signature is not that of {identity}: {error}") from error
    return bytes(payload)


def _bundle(content: bytes) -> "Bundle":
    from sigstore.models import Bundle

    with explained(RunError, "not a Sigstore bundle", "Expected what bankllm attest --keyless wrote"):
        return Bundle.from_json(content)
