"""Signatures that objects are given on their way to some."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pydicom
import pytest

from isocenter.engine.dataset import write_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.leaving_signatures import LeavingSignatures
from isocenter.services.archive.object_signing import NotSignedError, ObjectSigned
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.signatures.profiles import Profile
from isocenter.services.dicom.signatures.signing import Signer
from isocenter.services.dicom.signatures.verification import SignatureState
from isocenter.services.notices import Notice, Notices
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import open_sqlite_stores
from services.dicom.signatures.test_signing import trusting, verified
from services.web.rest.images import image, put, uid
from support.deidentification import KEY
from support.signers import Issued, issue


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue("Authority", authority=True)


@pytest.fixture
async def archive() -> AsyncIterator[Archive]:
    async with (
        open_sqlite_stores(":memory:") as stores,
        Archive(MemoryStore(), stores.index) as opened,
    ):
        opened.deidentification = Deidentification(
            [Project(name="trial", destinations=("TRIAL",))], {"trial": KEY},
            stores.deidentification,
        )  # fmt: skip
        await put(opened, image(1, PatientName="Quixotebaum^Zenobia"))
        yield opened


def signing(authority: Issued, heard: list[Notice], **how: object) -> LeavingSignatures:
    who = issue("Hospital", by=authority)
    signer = Signer(key=who.key, certificate=who.certificate, **how)  # type: ignore[arg-type]
    return LeavingSignatures(["REFERRER", "TRIAL"], lambda: signer, Notices(heard.append))


async def leaving(archive: Archive, destination: str) -> DicomObject:
    stored = (await archive.index.get([uid(1)]))[uid(1)]
    return await archive.leaving(stored_object(stored, archive.open), destination)


async def file_of(item: DicomObject) -> bytes:
    meta = write_file_meta(item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)
    return b"".join([meta, *[bytes(part) async for part, _ in item.parts()]])


async def test_what_leaves_for_a_destination_is_signed(archive: Archive, authority: Issued) -> None:
    heard: list[Notice] = []
    archive.signatures = signing(authority, heard, profile=Profile.CREATOR, purpose=1)
    raw = await file_of(await leaving(archive, "referrer"))
    (found,) = verified(raw, trusting(authority))
    assert (found.state, found.purpose) == (SignatureState.VALID, "Author's Signature")
    assert Profile.CREATOR in found.profiles
    assert heard == [
        ObjectSigned(sop_instance_uid=uid(1), signature_uid=found.uid, destination="referrer")
    ]
    # Others are given what is stored, and what is stored stays.
    assert not verified(await file_of(await leaving(archive, "PACS")))


async def test_what_is_de_identified_is_signed_as_it_leaves(
    archive: Archive, authority: Issued
) -> None:
    archive.signatures = signing(authority, [])
    raw = await file_of(await leaving(archive, "TRIAL"))
    (found,) = verified(raw, trusting(authority))
    assert found.state is SignatureState.VALID
    made = pydicom.dcmread(io.BytesIO(raw))
    assert made.PatientIdentityRemoved == "YES"
    assert "Quixotebaum" not in str(made.PatientName)


async def test_a_fault_with_one_object_quotes_nothing(archive: Archive, authority: Issued) -> None:
    def signer() -> Signer:
        raise ValueError("no number: Zenobia")

    archive.signatures = LeavingSignatures(["REFERRER"], signer)
    with pytest.raises(NotSignedError, match=r"unexpected ValueError$"):
        await file_of(await leaving(archive, "REFERRER"))


async def test_what_cannot_be_signed_does_not_leave(archive: Archive, authority: Issued) -> None:
    archive.signatures = signing(authority, [], profile=Profile.SR)
    with pytest.raises(NotSignedError, match="not signed"):
        await file_of(await leaving(archive, "REFERRER"))
