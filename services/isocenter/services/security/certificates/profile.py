"""Certificate profile of the private CA (RFC 5280, PS3.15 B.12)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isocenter.services.security.certificates.keys import PrivateKey, hash_for

#: Longer than the machines live that trust it: exchanging a CA means visiting all of them.
CA_LIFETIME: Final = timedelta(days=20 * 365)
#: The most that common verifiers accept of a server certificate of a private CA.
LIFETIME: Final = timedelta(days=825)
#: Clocks of modalities run slow.
CLOCK_SKEW: Final = timedelta(hours=1)

_DNS_NAME: Final = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


def build_ca(key: PrivateKey, now: datetime) -> x509.Certificate:
    """A self-signed CA that may sign leaves and revocation lists, and no other CA."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # A name of its own, so that two CAs of one site can be told apart.
    name = _name(f"Isocenter private CA {identifier.digest[:4].hex()}")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True, is_rsa=False), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hash_for(key))
    )


def build_leaf(
    ca: x509.Certificate,
    ca_key: PrivateKey,
    common_name: str,
    names: Sequence[x509.GeneralName],
    public_key: CertificatePublicKeyTypes,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> x509.Certificate:
    """A certificate for both sides of TLS; it never outlives the CA."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, ca.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            _key_usage(is_ca=False, is_rsa=isinstance(public_key, rsa.RSAPublicKey)), critical=True
        )
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority(ca), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hash_for(ca_key))


def build_crl(
    ca: x509.Certificate,
    ca_key: PrivateKey,
    revoked: Iterable[tuple[int, datetime]],
    now: datetime,
) -> x509.CertificateRevocationList:
    """The list of revoked (serial number, when).

    Good for as long as the CA: it is read from a file beside it, and a list that had
    expired would shut out everybody.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(max(ca.not_valid_after_utc, now))
        .add_extension(_authority(ca), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000_000)), critical=False)
    )
    for serial_number, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(when)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca_key, hash_for(ca_key))


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Addresses and DNS names, each once.

    Raises:
        ValueError: it is neither; the message says which.
    """
    names: dict[x509.GeneralName, None] = {}
    for host in hosts:
        try:
            names[x509.IPAddress(ipaddress.ip_address(host.strip("[]")))] = None
        except ValueError:
            if not _DNS_NAME.fullmatch(host):
                raise ValueError(f"{host!r} is neither a host name nor an address") from None
            names[x509.DNSName(host.lower())] = None
    return list(names)


def names_in(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The subject alternative names of a certificate."""
    try:
        return list(
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except x509.ExtensionNotFound:
        return []


def key_pem(key: PrivateKey) -> bytes:
    """PKCS #8 without a password: the mode of the file protects it, and servers start alone."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, is_ca: bool, is_rsa: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        # No suite of ours wants it; some old peers refuse certificates with RSA without.
        key_encipherment=is_rsa,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
