"""Signatures of ours, made and verified: what breaks them, what does not, and whom they name."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.signatures import verification
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.certificates import Trust
from isocenter.services.dicom.signatures.mac_stream import has_signatures, signable_tags
from isocenter.services.dicom.signatures.profiles import Profile
from isocenter.services.dicom.signatures.signing import MadeSignature, Signer, remove, sign
from isocenter.services.dicom.signatures.verification import (
    MOST_SIGNATURES,
    SignatureState,
    VerifiedSignature,
    verify_signatures,
)
from support.signers import NOW, Issued, issue, revocation_list, rsa_key

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
SYNTAXES = (
    "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "JPEG2000.dcm", "image_dfl.dcm", "test-SR.dcm", "nested_priv_SQ.dcm",
)  # fmt: skip


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue("Authority", authority=True)


@pytest.fixture(scope="module")
def signer(authority: Issued) -> Issued:
    return issue("Signer", by=authority)


def signed(
    raw: bytes,
    who: Issued,
    *,
    at: Callable[[DataSetTree], object] | None = None,
    tags: list[int] | None = None,
    now: datetime = NOW,
    made: list[MadeSignature] | None = None,
    **how: object,
) -> bytes:
    """A file with one more signature."""
    with opened(raw) as file:
        tree = DataSetTree(file.data, file.encoding)
        done = sign(
            tree,
            tree.root if at is None else at(tree),  # type: ignore[arg-type]
            Signer(key=who.key, certificate=who.certificate, **how),  # type: ignore[arg-type]
            transfer_syntax_uid=file.head.transfer_syntax_uid,
            now=now,
            tags=tags,
        )
        if made is not None:
            made.append(done)
        target = io.BytesIO(file.head_bytes)
        target.seek(0, 2)
        write_tree(tree, target, deflated=file.encoding.deflated)
        return target.getvalue()


@contextmanager
def opened(raw: bytes) -> Iterator[DataSetFile]:
    with TemporaryFile() as file:
        file.write(raw)
        file.flush()
        with open_data_set(file) as data_set:
            yield data_set


def verified(
    raw: bytes, trust: Trust | None = None, now: datetime = NOW, **how: Any
) -> list[VerifiedSignature]:
    with opened(raw) as file:
        tree = DataSetTree(file.data, file.encoding)
        return list(
            verify_signatures(
                tree,
                transfer_syntax_uid=file.head.transfer_syntax_uid,
                now=now,
                trust=trust,
                **how,
            )
        )


def saved(dataset: Dataset) -> bytes:
    target = io.BytesIO()
    dataset.save_as(target)
    return target.getvalue()


def trusting(
    *anchors: Issued, chain: tuple[Issued, ...] = (), lists: tuple[object, ...] = ()
) -> Trust:
    return Trust(
        [one.certificate for one in anchors],
        [one.certificate for one in chain],
        lists,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_signature_holds_in_every_encoding(name: str, authority: Issued, signer: Issued) -> None:
    raw = signed((DATA / name).read_bytes(), signer)
    (found,) = verified(raw, trusting(authority))
    assert found.state is SignatureState.VALID, found.why
    assert found.signer is not None
    assert (found.signer.common_name, found.signer.organization) == ("Signer", "Hospital")
    assert found.unsigned == ()
    assert {Profile.BASE, Profile.CREATOR, Profile.AUTHORIZATION} <= set(found.profiles)


@pytest.mark.parametrize("mac", ["SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_each_algorithm_holds_and_breaks(mac: str, kind: str, authority: Issued) -> None:
    who = issue("Signer", rsa_key("signer") if kind == "rsa" else None, by=authority)
    raw = signed((DATA / "MR_small.dcm").read_bytes(), who, mac_algorithm=mac)
    (found,) = verified(raw, trusting(authority))
    assert (found.state, found.mac_algorithm) == (SignatureState.VALID, mac)
    at = raw.index(b"CompressedSamples") if b"CompressedSamples" in raw else raw.index(b"MR\\")
    (broken,) = verified(raw[:at] + b"X" + raw[at + 1 :], trusting(authority))
    assert broken.state is SignatureState.INVALID


def test_every_byte_of_a_small_object_is_covered_or_named(signer: Issued) -> None:
    dataset = pydicom.dcmread(DATA / "MR_small.dcm")
    for element in list(dataset):
        if element.tag.group > 0x0010:
            del dataset[element.tag]
    raw = signed(saved(dataset), signer)
    with opened(raw) as file:
        begin = len(file.head_bytes)
        end = next(
            node.start
            for node in DataSetTree(file.data, file.encoding).root.elements
            if node.tag == 0x4FFE0001
        )
    for at in range(begin, begin + end, 7):
        changed = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
        try:
            found = verified(changed)
        except DataSetError:
            continue  # no data set any more
        assert [one.state for one in found] != [SignatureState.VALID], at


def test_what_may_not_be_signed_is_not(signer: Issued) -> None:
    raw = signed((DATA / "MR_small_padded.dcm").read_bytes(), signer)
    (found,) = verified(raw)
    assert not {tag for tag in found.tags if tag & 0xFFFF == 0 or tag >= 0xFFFA0000}
    with opened((DATA / "UN_sequence.dcm").read_bytes()) as file:
        tree = DataSetTree(file.data, file.encoding)
        unknown = [node.tag for node in tree.root.elements if node.vr == "UN"]
        assert unknown
        assert not set(unknown) & set(signable_tags(tree.root))


def test_a_list_of_tags_leaves_the_others_free_and_named(signer: Issued) -> None:
    made: list[MadeSignature] = []
    dataset = pydicom.dcmread(DATA / "MR_small.dcm")
    raw = signed(saved(dataset), signer, tags=[0x00100020, 0x00080018], made=made)
    assert made[0].tags == (0x00080018, 0x00100020)
    changed = pydicom.dcmread(io.BytesIO(raw))
    changed.StudyDescription = "another"
    (found,) = verified(saved(changed))
    assert found.state is SignatureState.VALID
    assert 0x00081030 in found.unsigned
    assert Profile.CREATOR not in found.profiles
    changed.PatientID = "another"
    (found,) = verified(saved(changed))
    assert found.state is SignatureState.INVALID


def test_what_hides_as_unknown_is_said_and_fits_no_profile(signer: Issued) -> None:
    changed = pydicom.dcmread(io.BytesIO(signed((DATA / "MR_small.dcm").read_bytes(), signer)))
    changed.RescaleIntercept = "-1024"
    known, unknown = b"\x28\0\x52\x10DS\6\0", b"\x28\0\x52\x10UN\0\0\6\0\0\0"
    (found,) = verified(saved(changed).replace(known, unknown))
    assert found.state is SignatureState.VALID
    assert any("1 attributes are UN" in note for note in found.notes)
    assert Profile.CREATOR not in found.profiles


def test_signatures_stand_beside_each_other_and_in_items(authority: Issued, signer: Issued) -> None:
    report = pydicom.dcmread(DATA / "reportsi.dcm")
    report.VerificationFlag = "VERIFIED"
    raw = signed(saved(report), signer, purpose=1)

    def item(tree: DataSetTree) -> object:
        (node,) = tree.root.all(0x0040A730)
        assert node.items is not None
        return node.items[1]

    raw = signed(raw, signer, at=item, purpose=14)
    raw = signed(raw, signer, profile=Profile.SR_VERIFICATION)
    found = verified(raw, trusting(authority))
    assert [one.state for one in found] == [SignatureState.VALID] * 3
    assert [one.place for one in found] == [(), (), ((0x0040A730, 1),)]
    assert [one.purpose for one in found] == [
        "Author's Signature", "Verification Signature", "Source Signature",
    ]  # fmt: skip
    assert len({one.uid for one in found}) == 3


def test_removing_takes_one_or_all_and_leaves_the_bytes_before(signer: Issued) -> None:
    before = (DATA / "MR_small.dcm").read_bytes()
    made: list[MadeSignature] = []
    raw = signed(signed(before, signer, made=made), signer, made=made)

    def without(uid: str | None) -> bytes:
        with opened(raw) as file:
            tree = DataSetTree(file.data, file.encoding)
            assert remove(tree, uid) == (2 if uid is None else 1)
            assert has_signatures(tree) is (uid is not None)
            target = io.BytesIO(file.head_bytes)
            target.seek(0, 2)
            write_tree(tree, target, deflated=False)
            return target.getvalue()

    assert without(None) == before
    (found,) = verified(without(made[0].uid))
    assert (found.uid, found.state) == (made[1].uid, SignatureState.VALID)


# -- Profiles ----------------------------------------------------------------------------


def test_a_profile_wants_what_it_covers(signer: Issued) -> None:
    raw = (DATA / "MR_small.dcm").read_bytes()
    with pytest.raises(SignatureError, match=r"Creator RSA covers also .*more; name them"):
        signed(raw, signer, tags=[0x00080018], profile=Profile.CREATOR)
    with pytest.raises(SignatureError, match="for structured reports"):
        signed(raw, signer, profile=Profile.SR)
    report = pydicom.dcmread(DATA / "reportsi.dcm")
    report.VerificationFlag = "UNVERIFIED"
    with pytest.raises(SignatureError, match="VERIFIED"):
        signed(saved(report), signer, profile=Profile.SR_VERIFICATION)
    (found,) = verified(signed(saved(report), signer, profile=Profile.SR))
    assert found.purpose == "Author's Signature"
    assert Profile.SR in found.profiles
    assert Profile.SR_VERIFICATION not in found.profiles


def test_what_cannot_be_signed_is_said(signer: Issued) -> None:
    raw = (DATA / "MR_small.dcm").read_bytes()
    with pytest.raises(SignatureError, match="may not be signed"):
        signed(raw, signer, tags=[0x00080001])
    with pytest.raises(SignatureError, match="another key"):
        Signer(key=rsa_key("other"), certificate=signer.certificate)
    with pytest.raises(SignatureError, match="one of SHA256"):
        Signer(key=signer.key, certificate=signer.certificate, mac_algorithm="MD5")
    with pytest.raises(SignatureError, match="1 to 18"):
        Signer(key=signer.key, certificate=signer.certificate, purpose=19)


def test_signatures_that_cover_the_same_are_hashed_together(signer: Issued) -> None:
    """Each may cover a gigabyte of pixels."""
    tags = [0x00080018, 0x00100010, 0x7FE00010]
    raw = (DATA / "MR_small.dcm").read_bytes()
    passes = []
    for _ in range(3):
        raw = signed(raw, signer, tags=tags)
        looks: list[int] = []
        found = verified(raw, checkpoint=lambda looks=looks: looks.append(1))
        assert {one.state for one in found} == {SignatureState.VALID}
        passes.append(len(looks))
    assert passes[0] == passes[1] == passes[2]
    broken = bytearray(raw)
    broken[raw.index(b"\xe0\x7f\x10\x00OW") + 20] ^= 1
    assert {one.state for one in verified(bytes(broken))} == {SignatureState.INVALID}


def test_verification_ends_when_nobody_waits_for_it(signer: Issued) -> None:
    class Gone(Exception):
        pass

    def gone() -> None:
        raise Gone

    raw = signed((DATA / "MR_small.dcm").read_bytes(), signer)
    with pytest.raises(Gone):
        verified(raw, checkpoint=gone)


def test_a_weak_algorithm_is_a_result_of_its_own(
    authority: Issued, signer: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We sign with none: one that is good counts as weak here."""
    monkeypatch.setattr(verification, "WEAK_ALGORITHMS", frozenset({"SHA256"}))
    raw = signed((DATA / "MR_small.dcm").read_bytes(), signer)
    (found,) = verified(raw, trusting(authority))
    assert (found.state, found.notes) == (SignatureState.WEAK, ())
    assert "SHA256 is no proof" in found.why
    (accepted,) = verified(raw, trusting(authority), accepts_weak=True)
    assert accepted.state is SignatureState.VALID
    # What is worse is said first.
    (other,) = verified(raw, trusting(issue("somebody else", authority=True)))
    assert other.state is SignatureState.UNTRUSTED
    assert any("SHA256 is no proof" in note for note in other.notes)


# -- Whom they name ----------------------------------------------------------------------


def test_each_state_of_a_signer(authority: Issued, signer: Issued) -> None:
    raw = signed((DATA / "MR_small.dcm").read_bytes(), signer)

    def state(trust: Trust | None, now: datetime = NOW) -> SignatureState:
        return verified(raw, trust, now)[0].state

    other = issue("Authority", authority=True)
    later = NOW + timedelta(days=31)
    assert state(None) is SignatureState.VALID
    assert state(trusting(authority)) is SignatureState.VALID
    assert state(trusting(other)) is SignatureState.UNTRUSTED
    assert state(trusting(authority), later) is SignatureState.EXPIRED
    assert state(trusting(signer)) is SignatureState.VALID
    revoked = trusting(authority, lists=(revocation_list(authority, signer),))
    assert state(revoked) is SignatureState.REVOKED
    others = trusting(authority, lists=(revocation_list(authority, other),))
    assert state(others) is SignatureState.VALID
    old = revocation_list(authority, ends=NOW - timedelta(days=1))
    assert state(trusting(authority, lists=(old,))) is SignatureState.UNTRUSTED
    forged = revocation_list(other, signer)
    assert state(trusting(authority, lists=(forged,))) is SignatureState.UNTRUSTED


@pytest.mark.parametrize(
    ("purposes", "state"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], SignatureState.UNTRUSTED),
        ([ExtendedKeyUsageOID.TIME_STAMPING], SignatureState.UNTRUSTED),
        ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], SignatureState.VALID),
        ([ExtendedKeyUsageOID.EMAIL_PROTECTION], SignatureState.VALID),
    ],
)
def test_a_certificate_for_something_else_is_none_of_a_signer(
    authority: Issued, purposes: list[x509.ObjectIdentifier], state: SignatureState
) -> None:
    who = issue("Somebody", by=authority, extended=purposes)
    (found,) = verified(signed((DATA / "MR_small.dcm").read_bytes(), who), trusting(authority))
    assert found.state is state


def test_a_revocation_list_of_others_says_nothing_of_signers(
    authority: Issued, signer: Issued
) -> None:
    raw = signed((DATA / "MR_small.dcm").read_bytes(), signer)

    def state(*extensions: x509.ExtensionType, who: tuple[Issued, ...] = ()) -> SignatureState:
        lists = (revocation_list(authority, *who, extensions=extensions),)
        return verified(raw, trusting(authority, lists=lists))[0].state

    def point(*, users: bool = False, authorities: bool = False) -> x509.IssuingDistributionPoint:
        name = [x509.UniformResourceIdentifier("http://ca.example/crl")]
        return x509.IssuingDistributionPoint(
            name, None, users, authorities, None, indirect_crl=False,
            only_contains_attribute_certs=False,
        )  # fmt: skip

    assert state(point(users=True)) is SignatureState.VALID
    assert state(point(authorities=True)) is SignatureState.UNTRUSTED
    assert state(x509.DeltaCRLIndicator(3)) is SignatureState.UNTRUSTED
    assert state(x509.DeltaCRLIndicator(3), who=(signer,)) is SignatureState.REVOKED


def test_a_chain_is_followed_and_its_certificates_are_looked_at(authority: Issued) -> None:
    raw = (DATA / "MR_small.dcm").read_bytes()
    middle = issue("Middle", by=authority, authority=True)
    who = issue("Signer", by=middle)
    made = signed(raw, who)
    assert verified(made, trusting(authority))[0].state is SignatureState.UNTRUSTED
    assert verified(made, trusting(authority, chain=(middle,)))[0].state is SignatureState.VALID
    lists = (revocation_list(authority, middle), revocation_list(middle))
    found = verified(made, trusting(authority, chain=(middle,), lists=lists))
    assert found[0].state is SignatureState.REVOKED
    nobody = issue("Nobody", by=authority)
    below = issue("Signer", by=nobody)
    (one,) = verified(signed(raw, below), trusting(authority, chain=(nobody,)))
    assert (one.state, "authority" in one.why) == (SignatureState.UNTRUSTED, True)
    strange = issue("Signer", by=authority, critical_unknown=True)
    (one,) = verified(signed(raw, strange), trusting(authority))
    assert one.state is SignatureState.UNTRUSTED


def test_a_certificate_has_to_have_been_valid_when_it_signed(authority: Issued) -> None:
    who = issue("Signer", by=authority, begins=NOW - timedelta(days=1))
    raw = signed((DATA / "MR_small.dcm").read_bytes(), who, now=NOW - timedelta(days=5))
    assert verified(raw, trusting(authority))[0].state is SignatureState.EXPIRED


# -- Malformed ---------------------------------------------------------------------------


def test_malformed_signatures_are_invalid_and_say_why(signer: Issued) -> None:
    base = pydicom.dcmread(io.BytesIO(signed((DATA / "MR_small.dcm").read_bytes(), signer)))

    def why(change: Callable[[Dataset, Dataset, Dataset], object]) -> str:
        dataset = pydicom.dcmread(io.BytesIO(saved(base)))
        change(dataset, dataset.MACParametersSequence[0], dataset.DigitalSignaturesSequence[0])
        (found,) = verified(saved(dataset))
        assert found.state is SignatureState.INVALID
        return found.why

    assert "parameters" in why(lambda all_, mac, _: setattr(mac, "MACIDNumber", 7))
    assert "parameters" in why(lambda all_, *_: delattr(all_, "MACParametersSequence"))
    assert "parameters" in why(lambda all_, mac, _: all_.MACParametersSequence.append(mac))
    assert "what it covers" in why(lambda _, mac, __: setattr(mac, "DataElementsSigned", None))
    assert "nothing" in why(lambda _, mac, __: setattr(mac, "DataElementsSigned", 0x00104000))
    assert "certificate" in why(lambda *s: setattr(s[2], "CertificateOfSigner", b"\x30\x03abc"))
    assert "certificate" in why(lambda *s: setattr(s[2], "CertificateType", "PGP"))
    assert "MAC algorithm" in why(lambda _, mac, __: setattr(mac, "MACAlgorithm", "CRC32"))
    assert "changed" in why(lambda *s: setattr(s[2], "Signature", b""))
    assert "changed" in why(lambda *s: setattr(s[2], "DigitalSignatureUID", "1.2.3"))
    assert "changed" in why(lambda *s: setattr(s[2], "DigitalSignatureDateTime", "2020"))
    assert "compressed" in why(
        lambda _, mac, __: setattr(mac, "MACCalculationTransferSyntaxUID", "1.2.840.10008.1.2.5")
    )


def test_more_signatures_than_anybody_makes_are_not_all_verified(signer: Issued) -> None:
    base = pydicom.dcmread(io.BytesIO(signed((DATA / "MR_small.dcm").read_bytes(), signer)))
    one = base.DigitalSignaturesSequence[0]
    base.DigitalSignaturesSequence = Items([one] * (MOST_SIGNATURES + 5))
    found = verified(saved(base))
    assert len(found) == MOST_SIGNATURES + 1
    assert "more than" in found[-1].why


def test_memory_stays_flat_however_long_the_pixels_are(signer: Issued, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(DATA / "MR_small.dcm")
    dataset.PixelData = bytes(64 << 20)
    path = tmp_path / "large.dcm"
    dataset.save_as(path)
    del dataset
    tracemalloc.start()
    with path.open("rb") as source, open_data_set(source) as file:
        tree = DataSetTree(file.data, encoding_of(file.head.transfer_syntax_uid))
        who = Signer(key=signer.key, certificate=signer.certificate)
        sign(tree, tree.root, who, transfer_syntax_uid="1.2.840.10008.1.2.1", now=datetime.now(UTC))
        with (tmp_path / "signed.dcm").open("wb") as target:
            target.write(file.head_bytes)
            write_tree(tree, target, deflated=False)
    with (tmp_path / "signed.dcm").open("rb") as source, open_data_set(source) as file:
        (found,) = verify_signatures(
            DataSetTree(file.data, file.encoding),
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            now=datetime.now(UTC),
        )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.state is SignatureState.VALID
    assert peak < 8 << 20
