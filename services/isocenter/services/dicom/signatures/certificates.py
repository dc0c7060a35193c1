"""Keys, certificates and revocation lists of signers, as files hold them; chains of trust.

A chain is made by hand, since signers are people and devices, not the servers and clients for
which `cryptography.x509.verification` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from isocenter.services.dicom.signatures.algorithms import SignatureError

if TYPE_CHECKING:
    from cryptography import x509

    from isocenter.services.dicom.signatures.algorithms import PrivateKey

_Extension = TypeVar("_Extension", bound="x509.ExtensionType")
_PEM: Final = b"-----BEGIN "
#: Certificates of a chain at most.
_MOST_LINKS: Final = 10
#: Extensions that may be critical (RFC 5280 4.2): what they say is checked, or is about other uses.
_KNOWN_CRITICAL: Final = frozenset(
    (
        "2.5.29.15",  # Key Usage
        "2.5.29.17",  # Subject Alternative Name
        "2.5.29.19",  # Basic Constraints
        "2.5.29.32",  # Certificate Policies
        "2.5.29.37",  # Extended Key Usage
    )
)
#: Extended key usages (RFC 5280 4.2.1.12) that are none of a signer: a certificate that has these
#: alone is one of a server, a time stamping authority, …
_OTHER_PURPOSES: Final = frozenset(
    (
        "1.3.6.1.5.5.7.3.1",  # serverAuth
        "1.3.6.1.5.5.7.3.3",  # codeSigning
        "1.3.6.1.5.5.7.3.8",  # timeStamping
        "1.3.6.1.5.5.7.3.9",  # OCSPSigning
    )
)


class TrustFault(Enum):
    """Why a certificate is not trusted."""

    EXPIRED = "expired"
    UNTRUSTED = "untrusted"
    REVOKED = "revoked"


class Distrust(NamedTuple):
    """Why a certificate is not trusted, and in words."""

    fault: TrustFault
    why: str


def read_key(raw: bytes, password: bytes | None = None) -> PrivateKey:
    """The private key in a file of PEM or DER.

    Raises:
        SignatureError: there is none, of RSA or an elliptic curve, or the password is another.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    read = (
        serialization.load_pem_private_key
        if raw.lstrip().startswith(_PEM)
        else serialization.load_der_private_key
    )
    try:
        key = read(raw, password)
    except TypeError as error:
        cure = "it has a password" if password is None else "it has no password"
        raise SignatureError(f"the private key cannot be read: {cure}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "is the password right?" if password is not None else "it is no key in PEM or DER"
        raise SignatureError(f"the private key cannot be read: {why}") from error
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    raise SignatureError("the private key is neither RSA nor of an elliptic curve")


def read_certificates(raw: bytes) -> list[x509.Certificate]:
    """The certificates in a file of PEM or DER, in their order.

    Raises:
        SignatureError: there is none, or one cannot be read.
    """
    from cryptography import x509

    try:
        if _PEM in raw:
            return x509.load_pem_x509_certificates(raw)
        return [x509.load_der_x509_certificate(raw)]
    except ValueError as error:
        raise SignatureError("there is no certificate in PEM or DER") from error


def read_revocation_list(raw: bytes) -> x509.CertificateRevocationList:
    """The certificate revocation list in a file of PEM or DER.

    Raises:
        SignatureError: there is none.
    """
    from cryptography import x509

    read = x509.load_pem_x509_crl if _PEM in raw else x509.load_der_x509_crl
    try:
        return read(raw)
    except ValueError as error:
        raise SignatureError("there is no revocation list in PEM or DER") from error


class Trust:
    """Whom to believe.

    Args:
        anchors: certificates that are trusted.
        intermediates: may stand between a signer and an anchor; they are not trusted themselves.
        revocation_lists: where there are any, each signer has to be in the reach of one.
        needs_reach: whether it has to; else only what stands on one is not believed.
    """

    def __init__(
        self,
        anchors: Iterable[x509.Certificate],
        intermediates: Iterable[x509.Certificate] = (),
        revocation_lists: Iterable[x509.CertificateRevocationList] = (),
        *,
        needs_reach: bool = True,
    ) -> None:
        self.anchors = list(anchors)
        self.intermediates = list(intermediates)
        self._lists = list(revocation_lists)
        self._needs_reach = needs_reach

    def with_intermediates(self, certificates: Iterable[x509.Certificate]) -> Trust:
        """The same, with more that may stand in between."""
        return Trust(
            self.anchors, [*self.intermediates, *certificates], self._lists,
            needs_reach=self._needs_reach,
        )  # fmt: skip

    def distrust(
        self, certificate: x509.Certificate, at: datetime, *, is_stamper: bool = False
    ) -> Distrust | None:
        """Why a signer is not trusted at a time; None: it is.

        Args:
            is_stamper: it is a time stamping authority, whose purpose the caller looks at.
        """
        if not _may_sign(certificate):
            return Distrust(TrustFault.UNTRUSTED, "its key usage is not to sign")
        if not is_stamper and _is_for_others(certificate):
            return Distrust(TrustFault.UNTRUSTED, "its extended key usage is not to sign objects")
        worst: Distrust | None = None
        for chain in self._chains(certificate):
            found = self._distrust_of_chain(chain, at)
            if found is None:
                return None
            # Revoked and expired say more than that some other way leads nowhere.
            worst = found if worst is None or worst.fault is TrustFault.UNTRUSTED else worst
        if worst is not None:
            return worst
        return Distrust(TrustFault.UNTRUSTED, "no certificate that is trusted has issued it")

    def _chains(self, certificate: x509.Certificate) -> Iterable[list[x509.Certificate]]:
        todo = [[certificate]]
        looked_at = 0
        while todo and looked_at < _MOST_LINKS * _MOST_LINKS:
            chain = todo.pop()
            looked_at += 1
            last = chain[-1]
            if last in self.anchors:
                yield chain
                continue
            todo += [
                [*chain, issuer]
                for issuer in (*self.anchors, *self.intermediates)
                if len(chain) < _MOST_LINKS and issuer not in chain and _has_issued(issuer, last)
            ]

    def _distrust_of_chain(
        self, chain: Sequence[x509.Certificate], at: datetime
    ) -> Distrust | None:
        for place, one in enumerate(chain):
            name = "it" if not place else "a certificate of its chain"
            if not one.not_valid_before_utc <= at <= one.not_valid_after_utc:
                early = at < one.not_valid_before_utc
                return Distrust(
                    TrustFault.EXPIRED, f"{name} was {'not yet' if early else 'no longer'} valid"
                )
            wrong = _wrong_extension(one, place, is_anchor=place == len(chain) - 1)
            if wrong:
                return Distrust(TrustFault.UNTRUSTED, f"{name} {wrong}")
        if self._lists:
            for place, one in enumerate(chain[:-1]):
                found = self._revoked(one, chain[place + 1], at, is_signer=not place)
                if found is not None:
                    return found
        return None

    def _revoked(
        self,
        certificate: x509.Certificate,
        issuer: x509.Certificate,
        at: datetime,
        *,
        is_signer: bool,
    ) -> Distrust | None:
        is_covered = False
        for one in self._lists:
            if one.issuer != certificate.issuer or not _is_list_of(one, issuer):
                continue
            entry = one.get_revoked_certificate_by_serial_number(certificate.serial_number)
            if entry is not None:
                name = "it" if is_signer else "a certificate of its chain"
                return Distrust(TrustFault.REVOKED, f"{name} was revoked")
            ends = one.next_update_utc
            is_covered = is_covered or (_covers_signers(one) and (ends is None or ends >= at))
        if is_signer and self._needs_reach and not is_covered:
            return Distrust(
                TrustFault.UNTRUSTED, "no revocation list of its issuer is there that is in force"
            )
        return None


def _may_sign(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    usage = _extension(certificate, x509.KeyUsage)
    return usage is None or bool(usage.digital_signature or usage.content_commitment)


def _is_for_others(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    usage = _extension(certificate, x509.ExtendedKeyUsage)
    return usage is not None and all(each.dotted_string in _OTHER_PURPOSES for each in usage)


def _covers_signers(one: x509.CertificateRevocationList) -> bool:
    """Whether a list has all that its authority has revoked of signers (RFC 5280 5.2): not where
    it says only what is new, or is about authorities, or about some reasons, alone."""
    from cryptography import x509

    try:
        extensions = list(one.extensions)
    except Exception:
        return False
    for each in extensions:
        if isinstance(each.value, x509.IssuingDistributionPoint):
            reach = each.value
            if (
                reach.only_contains_ca_certs
                or reach.only_contains_attribute_certs
                or reach.only_some_reasons
            ):
                return False
        elif each.critical:
            return False
    return True


def _wrong_extension(certificate: x509.Certificate, place: int, *, is_anchor: bool) -> str:
    """Why a certificate at a place of a chain may not stand there; empty: it may."""
    from cryptography import x509

    extensions = extensions_of(certificate)
    if extensions is None:
        return "has extensions that cannot be read"
    if any(one.critical and one.oid.dotted_string not in _KNOWN_CRITICAL for one in extensions):
        return "has a critical extension that nobody here knows"
    if not place:
        return ""
    constraints = _extension(certificate, x509.BasicConstraints)
    # Certificates of version 1 have none, and serve as anchors (RFC 5280 6.1.4 k).
    if is_anchor and constraints is None and not len(extensions):
        return ""
    if constraints is None or not constraints.ca:
        return "is not one of an authority"
    if constraints.path_length is not None and place - 1 > constraints.path_length:
        return "allows fewer certificates below it"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "may not issue certificates"
    return ""


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    found = (each.value for each in extensions_of(certificate) or ())
    return next((value for value in found if isinstance(value, kind)), None)


def extensions_of(certificate: x509.Certificate) -> x509.Extensions | None:
    """The extensions of a certificate; None: they cannot be read."""
    try:
        return certificate.extensions
    except Exception:
        # Duplicates, names of unknown types, broken DER: not one kind of exception.
        return None


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_list_of(one: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return one.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # others: TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
