"""Keys and certificates of signers, made for a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
NOW = datetime.now(UTC)


class Issued:
    """A key and its certificate."""

    def __init__(self, key: PrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.certificate = certificate

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Its files in PEM: key and certificate."""
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return key, certificate


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key of that name; 2,048 bits take a while."""
    return rsa.generate_private_key(65537, 2048)


def ec_key() -> ec.EllipticCurvePrivateKey:
    """A new key."""
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    name: str,
    key: PrivateKey | None = None,
    *,
    by: Issued | None = None,
    authority: bool = False,
    begins: datetime = NOW - timedelta(days=2),
    ends: datetime = NOW + timedelta(days=30),
    extended: Sequence[x509.ObjectIdentifier] = (),
    critical_unknown: bool = False,
) -> Issued:
    """A certificate of *name*, of itself where nobody issues it."""
    key = key or ec_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hospital"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=authority,
                crl_sign=authority, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
    )  # fmt: skip
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=True)
    if critical_unknown:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return Issued(key, builder.sign(key if by is None else by.key, hashes.SHA256()))


def revocation_list(
    by: Issued,
    *revoked: Issued,
    ends: datetime = NOW + timedelta(days=7),
    extensions: Sequence[x509.ExtensionType] = (),
) -> x509.CertificateRevocationList:
    """The list of an authority on which these stand; its *extensions* are critical."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(NOW - timedelta(days=9))
        .next_update(ends)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder(
            one.certificate.serial_number, NOW - timedelta(hours=1)
        ).build()
        builder = builder.add_revoked_certificate(entry)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(by.key, hashes.SHA256())


def stamper(by: Issued) -> Issued:
    """A time stamping authority, with a key of RSA."""
    return issue("Stamper", rsa_key("stamper"), by=by, extended=[ExtendedKeyUsageOID.TIME_STAMPING])
