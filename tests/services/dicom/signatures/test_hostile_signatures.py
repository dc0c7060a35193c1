"""Whatever stands in the place of a signature, verification ends, and says what it found."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from isocenter.engine.dataset import DataSetError, NotDicomError
from isocenter.services.archive.signature_check import TrustFiles
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.signatures.algorithms import SignatureError, der_part
from isocenter.services.dicom.signatures.certificates import Trust, TrustFault
from isocenter.services.dicom.signatures.signing import Signer, sign
from isocenter.services.dicom.signatures.timestamps import (
    TimestampError,
    stamped,
    timestamp_query,
    verify_timestamp,
)
from isocenter.services.dicom.signatures.verification import SignatureState, verify_signatures
from support.signers import NOW, issue, revocation_list, stamper

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
AUTHORITY = issue("Authority", authority=True)
SIGNER = issue("Signer", by=AUTHORITY)
TRUST = Trust([AUTHORITY.certificate])


def small() -> bytes:
    """A short object that is signed, with something in the place of a time stamp."""
    dataset = pydicom.dcmread(DATA / "MR_small.dcm")
    for element in list(dataset):
        if element.tag.group > 0x0010:
            del dataset[element.tag]
    target = io.BytesIO()
    dataset.save_as(target)
    with TemporaryFile() as file:
        file.write(target.getvalue())
        file.flush()
        with open_data_set(file) as opened:
            tree = DataSetTree(opened.data, opened.encoding)
            who = Signer(
                key=SIGNER.key, certificate=SIGNER.certificate, timestamp=lambda _: b"\x30\x03abc"
            )
            sign(tree, tree.root, who, transfer_syntax_uid="1.2.840.10008.1.2.1", now=NOW)
            made = io.BytesIO(opened.head_bytes)
            made.seek(0, 2)
            write_tree(tree, made, deflated=False)
    return made.getvalue()


RAW = small()
BEGIN = RAW.index(b"\xfe\x4f\x01\x00")


def states(raw: bytes) -> list[SignatureState]:
    with TemporaryFile() as file:
        file.write(raw)
        file.flush()
        try:
            with open_data_set(file) as opened:
                tree = DataSetTree(opened.data, opened.encoding)
                return [
                    one.state
                    for one in verify_signatures(
                        tree,
                        transfer_syntax_uid=opened.head.transfer_syntax_uid,
                        now=NOW + timedelta(seconds=1),
                        trust=TRUST,
                    )
                ]
        except (DataSetError, NotDicomError):
            return []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(BEGIN, len(RAW) - 1), st.integers(0, 255)), min_size=1, max_size=8
    ),
    st.integers(BEGIN, len(RAW)),
)
def test_damaged_signatures(changes: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(RAW)
    for at, value in changes:
        damaged[at] = value
    for raw in (bytes(damaged), bytes(damaged[:length])):
        assert all(isinstance(state, SignatureState) for state in states(raw))


def test_what_is_no_time_stamp_makes_a_signature_invalid() -> None:
    assert states(RAW) == [SignatureState.INVALID]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_no_time_stamp(raw: bytes) -> None:
    with pytest.raises(TimestampError):
        verify_timestamp(raw, b"signature", TRUST, NOW)
    with pytest.raises(SignatureError):
        stamped(timestamp_query(b"signature"), raw)
    assert raw.startswith(der_part(raw))


def test_an_empty_data_set_has_no_signatures() -> None:
    target = io.BytesIO()
    dataset = Dataset()
    dataset.PatientID = "1"
    dataset.save_as(target, implicit_vr=False, little_endian=True)
    assert states(target.getvalue()) == []


def test_a_certificate_with_an_extension_twice_is_not_trusted() -> None:
    constraints, usage = b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x0f"
    raw = SIGNER.certificate.public_bytes(Encoding.DER)
    twice = x509.load_der_x509_certificate(raw.replace(constraints, usage))
    for is_stamper in (True, False):
        found = TRUST.distrust(twice, NOW, is_stamper=is_stamper)
        assert found is not None
        assert found.fault is TrustFault.UNTRUSTED
    found = Trust([twice]).distrust(twice, NOW)
    assert found is not None
    assert "cannot be read" in found.why


def test_a_certificate_of_which_a_part_cannot_be_read_is_none() -> None:
    for part in (SIGNER.certificate.issuer, SIGNER.certificate.subject):
        at = RAW.rindex(part.public_bytes())
        assert states(RAW[:at] + b"\0" + RAW[at + 1 :]) == [SignatureState.INVALID]


def test_a_time_stamping_authority_that_was_revoked_is_not_believed(tmp_path: Path) -> None:
    of_time, of_others = issue("Time", authority=True), issue("Others", authority=True)
    one = stamper(of_time)
    files = {
        "ca.pem": of_time.certificate,
        "revoked.crl": revocation_list(of_time, one),
        "others.crl": revocation_list(of_others),
    }
    for name, what in files.items():
        (tmp_path / name).write_bytes(what.public_bytes(Encoding.PEM))
    for name, fault in (("revoked.crl", TrustFault.REVOKED), ("others.crl", None)):
        read = TrustFiles(
            time_stamping=[tmp_path / "ca.pem"], revocation_lists=[tmp_path / name]
        ).read()
        assert read[1] is not None
        found = read[1].with_intermediates([]).distrust(one.certificate, NOW, is_stamper=True)
        assert (found and found.fault) is fault
