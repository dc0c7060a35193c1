"""Certificates and revocation lists in files, and the identities in them.

Making certificates is not in here (`isocenter.services.security.certificates.authority`).
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from isocenter.services.errors import text_of
from isocenter.services.net.peer_identity import PeerIdentity
from isocenter.services.net.tls.errors import TlsFileError

if TYPE_CHECKING:
    import trio
    from cryptography.x509 import Certificate, CertificateRevocationList

_CRL_BEGIN: Final = b"-----BEGIN X509 CRL-----"


def certificates_in(path: Path) -> list[Certificate]:
    """All certificates of a file.

    Raises:
        TlsFileError: it cannot be read, or holds some that only OpenSSL can read.
    """
    from cryptography import x509

    check_readable(path)
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise TlsFileError(
            path, "holds a certificate in another form than CERTIFICATE in PEM", "convert it to PEM"
        ) from error


def revocation_lists_in(path: Path) -> list[CertificateRevocationList]:
    """All revocation lists of a file; raises as `certificates_in`."""
    from cryptography import x509

    check_readable(path)
    blocks = path.read_bytes().split(_CRL_BEGIN)[1:]
    try:
        return [x509.load_pem_x509_crl(_CRL_BEGIN + block) for block in blocks]
    except ValueError as error:
        raise TlsFileError(
            path, "holds a revocation list in another form than X509 CRL in PEM", "convert it"
        ) from error


def files_in(path: Path) -> tuple[Path, ...]:
    """The files of a folder in a fixed order, without those whose names begin with a dot;
    of anything else, itself.

    Raises:
        TlsFileError: the folder cannot be read.
    """
    if not path.is_dir():
        return (path,)
    try:
        return tuple(
            sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        )
    except OSError as error:
        raise TlsFileError(
            path, f"cannot be read ({text_of(error)})", "let the user who serves read it"
        ) from error


def check_readable(path: Path) -> None:
    """That *path* exists and can be read by us.

    Raises:
        TlsFileError: it is not so.
    """
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise TlsFileError(path, "no such file", "check the path") from error
    except OSError as error:
        raise TlsFileError(
            path, f"cannot be read ({text_of(error)})", "let the user who serves read it"
        ) from error


def check_validity(path: Path) -> None:
    """That the first certificate of a file is valid today.

    Raises:
        TlsFileError: it is not so.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise TlsFileError(path, "holds no certificate in PEM", "convert it to PEM") from error
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        end = certificate.not_valid_after_utc.date()
        raise TlsFileError(
            path, f"the certificate expired on {end}", "renew it (isocenter certs renew)"
        )
    if certificate.not_valid_before_utc > now:
        start = certificate.not_valid_before_utc.date()
        raise TlsFileError(
            path, f"the certificate is not valid before {start}", "check the clock of this machine"
        )


def peer_identity(
    connection: ssl.SSLObject | ssl.SSLSocket | trio.SSLStream[Any],
) -> PeerIdentity | None:
    """Whose certificate was verified in the handshake; None: none was shown or asked for.

    A certificate that OpenSSL accepts and that cannot be read here gives an identity
    without names: it owns no AE title.
    """
    if connection.context.verify_mode == ssl.CERT_NONE:
        return None
    certificate: bytes | None = connection.getpeercert(binary_form=True)
    return identity_of(certificate) if certificate else None


def identity_of(certificate: bytes) -> PeerIdentity:
    """The identity in a certificate, in DER, that somebody else has verified."""
    import hashlib

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    fingerprint = hashlib.sha256(certificate).hexdigest()
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = [
            str(attribute.value)
            for attribute in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        return PeerIdentity(
            common_name=names[-1] if names else None,
            subject=parsed.subject.rfc4514_string(),
            subject_alternative_names=_alternative_names(parsed),
            fingerprint=fingerprint,
            serial_number=parsed.serial_number,
            issuer=parsed.issuer.rfc4514_string(),
            ends_at=parsed.not_valid_after_utc.timestamp(),
        )
    except (ValueError, TypeError, x509.DuplicateExtension):
        return PeerIdentity(
            common_name=None,
            subject="",
            subject_alternative_names=(),
            fingerprint=fingerprint,
            serial_number=0,
        )


def identity_of_file(path: Path) -> PeerIdentity:
    """The identity in a certificate file (PEM), the first in it.

    Raises:
        TlsFileError: there is none in it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    check_readable(path)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise TlsFileError(path, "holds no certificate in PEM", "convert it to PEM") from error
    return identity_of(certificate.public_bytes(Encoding.DER))


def _alternative_names(certificate: Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    textual = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    return tuple(str(name.value) for name in names if isinstance(name, textual))
