"""Originals that go along encrypted: who has the key can read them, and nobody else."""

from __future__ import annotations

import io
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.services.cli import main
from isocenter.services.dicom.deidentification.encrypted_attributes import (
    EncryptionError,
    load_recipients,
)
from support.deidentification import file_bytes, patient


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trustee")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM)


@pytest.mark.interop("openssl")
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_the_originals_come_back_with_the_private_key(tmp_path: Path, syntax: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "cert.pem").write_bytes(certificate(key))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    inner = Dataset()
    inner.PatientID = "ZQ-2"
    before = patient(StudyDate="20200110", OtherPatientIDsSequence=[inner])
    (tmp_path / "1.dcm").write_bytes(file_bytes(before, syntax))
    assert main(["dcmanonymize", str(tmp_path / "1.dcm"), "-o", str(tmp_path / "2.dcm"),
                 "--verify", "--encrypt-for", str(tmp_path / "cert.pem")]) == 0  # fmt: skip
    made = pydicom.dcmread(tmp_path / "2.dcm")
    assert made.file_meta.TransferSyntaxUID == syntax
    (item,) = made.EncryptedAttributesSequence
    assert item.EncryptedContentTransferSyntaxUID == ExplicitVRLittleEndian
    (tmp_path / "content").write_bytes(item.EncryptedContent)
    plain = subprocess.run(
        ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", "content",
         "-recip", "cert.pem", "-inkey", "key.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    found = read_dataset(io.BytesIO(plain), is_implicit_VR=False, is_little_endian=True)
    originals = found.ModifiedAttributesSequence[0]
    assert originals.PatientName == "Quixotebaum^Zenobia"
    assert originals.SOPInstanceUID == "1.2.3.4.5"
    assert originals.StudyDate == "20200110"
    assert originals.OtherPatientIDsSequence[0].PatientID == "ZQ-2"
    assert "Modality" not in originals


def test_only_rsa_keys_are_taken() -> None:
    with pytest.raises(EncryptionError, match="RSA"):
        load_recipients(certificate(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(EncryptionError, match="no certificates"):
        load_recipients(b"nothing")
