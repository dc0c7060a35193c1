"""Identities in certificates, and the AE titles that they own."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from isocenter.services.net.peer_identity import PeerIdentity, owns_ae_title
from isocenter.services.net.tls.certificates import identity_of
from isocenter.services.security.certificates.authority import CertificateAuthority


def test_identity_of_a_certificate(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    issued = ca.issue("ws7", ae_title="WS 7", hosts=["ws7.example.org", "fe80::1"])
    der = ssl.PEM_cert_to_DER_cert(issued.pem)
    identity = identity_of(der)
    assert identity == PeerIdentity(
        common_name="WS 7",
        subject="CN=WS 7",
        subject_alternative_names=("ws7.example.org", "fe80::1"),
        fingerprint=x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()).hex(),
        serial_number=issued.serial_number,
        issuer=ca.certificate.subject.rfc4514_string(),
    )
    assert owns_ae_title(identity, " WS 7 ")
    assert owns_ae_title(identity, "ws7.example.org")
    for ae_title in ("ws 7", "WS", "", " ", "ws7", "CN=WS 7"):
        assert not owns_ae_title(identity, ae_title)


def test_a_certificate_that_cannot_be_read_owns_nothing() -> None:
    identity = identity_of(b"\x30\x03\x02\x01\x00")
    assert identity.common_name is None
    assert len(identity.fingerprint) == 64
    assert not owns_ae_title(identity, "CT1")
