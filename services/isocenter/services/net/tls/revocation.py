"""Revocation lists, asked about certificates that were shown before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.services.net.tls.certificates import files_in, revocation_lists_in

if TYPE_CHECKING:
    from cryptography import x509


class Revocations:
    """Certificates that were revoked, by issuer and serial number."""

    def __init__(self, lists: Iterable[x509.CertificateRevocationList] = ()) -> None:
        self._lists = list(lists)

    @classmethod
    def read(cls, path: Path | None) -> Revocations:
        """What stands in a file or in a folder of files; None: nothing.

        Raises:
            TlsFileError: a list cannot be read.
        """
        if path is None:
            return cls()
        return cls(one for file in files_in(path) for one in revocation_lists_in(file))

    def revoked_in(self, chain: Sequence[bytes]) -> str:
        """Which certificate of a chain is revoked; empty: none.

        Args:
            chain: in DER, that of the peer first, then whoever signed the one before.
        """
        if not self._lists:
            return ""
        from cryptography import x509

        try:
            certificates = [x509.load_der_x509_certificate(one) for one in chain]
        except ValueError:
            return ""  # OpenSSL has read it; at the next handshake it decides
        issuers = [*certificates[1:], *certificates[-1:]]
        for place, (certificate, issuer) in enumerate(zip(certificates, issuers, strict=True)):
            if any(_names(one, certificate, issuer) for one in self._lists):
                subject = certificate.subject.rfc4514_string()
                return f"its certificate ({subject})" if not place else f"the CA {subject}"
        return ""


def _names(
    revoked: x509.CertificateRevocationList, certificate: x509.Certificate, issuer: x509.Certificate
) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm

    if revoked.issuer != certificate.issuer:
        return False
    if revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is None:
        return False
    if issuer.subject != certificate.issuer:
        return True  # the chain ends before; the list is one that we were given
    try:
        key = issuer.public_key()
        return bool(
            revoked.is_signature_valid(key)  # type: ignore[arg-type]  # of others: TypeError
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
