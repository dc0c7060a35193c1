"""Digital signatures of stored objects, verified, marked and made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from isocenter.services.archive.leaving_signatures import LeavingSignatures
from isocenter.services.archive.signature_check import SignatureCheck, TrustFiles
from isocenter.services.archive.signature_marks.verifier import MarkedCheck, verify_arrivals
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.certificates import read_certificates, read_key
from isocenter.services.dicom.signatures.profiles import Profile
from isocenter.services.dicom.signatures.signing import Signer
from isocenter.services.errors import text_of
from isocenter.services.notices import Notices
from isocenter.services.settings.sections.storage import SignatureSettings
from isocenter.services.settings.settings import Settings


def marked_check(settings: Settings, parts: ArchiveParts, notices: Notices) -> MarkedCheck:
    """Verifies by the certificates that the settings name."""
    trust = settings.signatures
    check = SignatureCheck(
        parts.archive,
        TrustFiles(
            trusted=trust.trusted,
            intermediates=trust.intermediates,
            revocation_lists=trust.revocation_lists,
            time_stamping=trust.time_stamping,
            accepts_weak=trust.accept_weak,
        ),
    )
    return MarkedCheck(check, parts.stores.signatures, notices)


async def verify_signed_arrivals(settings: Settings, parts: ArchiveParts, notices: Notices) -> None:
    """Verify what came with signatures, until cancelled."""
    check = marked_check(settings, parts, notices)
    await verify_arrivals(parts.archive.index, parts.stores.signatures, check)


def leaving_signatures(settings: Settings, notices: Notices) -> LeavingSignatures | None:
    """Signs for those whom the settings name; None: for nobody.

    Raises:
        SignatureError: the key or the certificate cannot be used; says why.
    """
    if not settings.signatures.sign_for:
        return None
    signer = signer_of(settings)
    assert signer is not None  # settings say so together
    signer()
    return LeavingSignatures(settings.signatures.sign_for, signer, notices)


def signer_of(settings: Settings) -> Callable[[], Signer] | None:
    """Reads who signs, whenever it is asked; None: nobody does."""
    signatures = settings.signatures
    if signatures.sign_key is None or signatures.sign_certificate is None:
        return None
    return partial(_signer, signatures)


def signing_fault(settings: Settings) -> str:
    """Reason for which nothing can be signed, though settings say by whom; empty: none; blocks."""
    signer = signer_of(settings)
    try:
        if signer is not None:
            signer()
    except SignatureError as error:
        return f"nothing can be signed: {error}"
    return ""


def _signer(settings: SignatureSettings) -> Signer:
    """Read anew each time: a certificate is exchanged before it ends."""
    assert settings.sign_key is not None
    assert settings.sign_certificate is not None
    password = None
    if settings.sign_key_password_file is not None:
        password = _raw(settings.sign_key_password_file).rstrip(b"\r\n")
    try:
        return Signer(
            key=read_key(_raw(settings.sign_key), password),
            certificate=read_certificates(_raw(settings.sign_certificate))[0],
            profile=Profile(settings.sign_profile),
            purpose=settings.sign_purpose or None,
        )
    except SignatureError as error:
        raise SignatureError(
            f"signatures.sign_key {settings.sign_key}, signatures.sign_certificate "
            f"{settings.sign_certificate}: {error}"
        ) from error


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SignatureError(f"{path}: {text_of(error)}") from error
