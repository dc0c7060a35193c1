"""De-identification of what leaves the archive, by destination and by project."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import IO, Any

import pydicom
import pytest

from isocenter.engine.dataset import write_file_meta
from isocenter.services.archive.deidentification.ports import MappingConflictError
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    NotDeidentifiedError,
    UnknownProjectError,
)
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transfer_syntaxes import JPEG_BASELINE, JPEG_LOSSLESS_SV1
from isocenter.services.errors import StorageError
from isocenter.storage.stores import Stores, open_sqlite_stores
from support.deidentification import KEY, patient

RESEARCH = Project(name="research", destinations=("TRIAL",))
PIXELS = Project(name="pixels", profile=Profile(options=frozenset([Option.PIXELS])))
UIDS = Project(name="uids", profile=Profile(options=frozenset([Option.UIDS])))


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_sqlite_stores(":memory:") as opened:
        yield opened


def service(stores: Stores, pool: CodecPool | None = None) -> Deidentification:
    projects = (RESEARCH, PIXELS, UIDS)
    return Deidentification(
        projects, dict.fromkeys(("research", "pixels", "uids"), KEY), stores.deidentification, pool
    )


async def read(item: DicomObject) -> pydicom.FileDataset:
    meta = write_file_meta(item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)
    parts = [bytes(part) async for part, _ in item.parts()]
    return pydicom.dcmread(io.BytesIO(b"".join((meta, *parts))))


def item_of(**values: Any) -> DicomObject:
    return DicomObject.from_dataset(patient(**values))


async def test_a_host_is_the_same_in_capitals(stores: Stores) -> None:
    """What asks has it from a URL, of which the host is in lower case."""
    project = Project(name="web", destinations=("Trial.Example.org.", "TRIAL"))
    made = Deidentification([project], {"web": KEY}, stores.deidentification)
    item = item_of(StudyDate="20200110")
    for destination in ("trial.example.org", "TRIAL"):
        assert await made.leaving(item, destination) is not item


async def test_another_title_at_the_same_place_changes_nothing(stores: Stores) -> None:
    """What a clinician has moved to the trial's network under any title is de-identified."""
    project = Project(name="trial", destinations=("TRIAL", "trial.example"),
                      addresses=("10.7.0.0/16",))  # fmt: skip
    made = Deidentification([project], {"trial": KEY}, stores.deidentification)
    hosts = {"OTHER": "10.7.3.4", "THIRD": "Trial.Example", "PACS": "10.8.0.1"}
    made.host_of = lambda title: hosts.get(title, "")
    item = item_of(StudyDate="20200110")
    for title in ("TRIAL", "OTHER", "THIRD", "10.7.0.1"):
        assert await made.leaving(item, title) is not item, title
    for title in ("PACS", "10.8.0.1", "NOBODY"):
        assert await made.leaving(item, title) is item, title


async def test_a_destination_of_a_project_is_given_nothing_else(stores: Stores) -> None:
    made = service(stores)
    item = item_of(StudyDate="20200110")
    assert await made.leaving(item, "PACS") is item
    leaving = await made.leaving(item, "TRIAL")
    # A host has no case, and its URL is read in small letters.
    assert (await made.leaving(item, "trial")).sop_instance_uid == leaving.sop_instance_uid
    # Known before anything was made: associations are planned with it.
    assert leaving.sop_instance_uid != item.sop_instance_uid
    assert leaving.transfer_syntax_uid == item.transfer_syntax_uid
    found = await read(leaving)
    assert found.SOPInstanceUID == leaving.sop_instance_uid
    assert found.PatientIdentityRemoved == "YES"
    assert found.StudyInstanceUID == await made.uid_of("1.2.3.4", RESEARCH)
    # Each reading makes the same.
    assert await read(leaving) == found


async def test_an_address_is_the_same_however_it_is_written(stores: Stores) -> None:
    there = replace(RESEARCH, destinations=("2001:db8::7",))
    made = Deidentification([there], {"research": KEY}, stores.deidentification)
    assert made.project_of_destination("2001:DB8:0::7") is there


async def test_associations_are_planned_for_what_is_sent(stores: Stores) -> None:
    """Pixels that are cleaned are kept without loss; who never proposes that never sends them."""
    cleaning = replace(PIXELS, destinations=("TRIAL",))
    made = Deidentification([cleaning], {"pixels": KEY}, stores.deidentification)
    assert made.syntax_leaving(JPEG_BASELINE, "trial") == JPEG_LOSSLESS_SV1
    assert made.syntax_leaving(JPEG_BASELINE, "PACS", "pixels") == JPEG_LOSSLESS_SV1
    assert made.syntax_leaving(JPEG_BASELINE, "PACS") == JPEG_BASELINE


async def test_what_was_given_out_is_kept_and_what_was_brought_counts(stores: Stores) -> None:
    made = service(stores)
    await stores.deidentification.add("research", [("1.2.3.4.1", "2.25.4711")])
    found = await read(await made.leaving(item_of(), "TRIAL"))
    assert found.SeriesInstanceUID == "2.25.4711"
    mapping = stores.deidentification
    assert await mapping.original("research", found.SOPInstanceUID) == "1.2.3.4.5"
    assert await mapping.count("research") == 3


async def test_uids_are_retained_where_the_project_says_so(stores: Stores) -> None:
    made = service(stores)
    item = item_of()
    leaving = await made.deidentified(item, made.project("uids"))
    assert leaving.sop_instance_uid == item.sop_instance_uid
    assert (await read(leaving)).SOPInstanceUID == "1.2.3.4.5"


async def test_what_cannot_be_de_identified_does_not_leave(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    made = service(stores)
    pdf = item_of(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", EncapsulatedDocument=b"%PDF",
                  MIMETypeOfEncapsulatedDocument="application/pdf")  # fmt: skip
    with pytest.raises(NotDeidentifiedError, match="policy for documents"):
        await (await made.leaving(pdf, "TRIAL")).open()
    assert "not de-identified" in caplog.text
    with pytest.raises(NotDeidentifiedError, match="no codecs"):
        await (await made.deidentified(item_of(), PIXELS)).open()
    with pytest.raises(UnknownProjectError, match="research"):
        made.project("none")


async def test_pixels_keep_the_syntax_that_was_promised(stores: Stores) -> None:
    async with CodecPool() as pool:
        made = service(stores, pool)
        lossy = pydicom.dcmread(
            pydicom.data.get_testdata_file("SC_rgb_jpeg_dcmtk.dcm")  # type: ignore[arg-type]
        )
        lossy.BurnedInAnnotation = "NO"
        item = DicomObject.from_dataset(lossy)
        leaving = await made.deidentified(item, PIXELS)
        assert leaving.transfer_syntax_uid == "1.2.840.10008.1.2.4.70"
        found = await read(leaving)
        assert found.LossyImageCompression == "01"
        assert found.BurnedInAnnotation == "NO"


class Lost:
    """A mapping that cannot be kept."""

    async def pseudonyms(self, project: str, originals: Iterable[str]) -> Mapping[str, str]:
        raise OSError("gone")


async def test_nothing_leaves_whose_mapping_cannot_be_kept(stores: Stores) -> None:
    made = Deidentification([RESEARCH], {"research": KEY}, Lost())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="gone"):
        await (await made.leaving(item_of(), "TRIAL")).open()


async def test_without_room_for_temporary_files_nothing_leaves_for_now(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**options: object) -> IO[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("isocenter.services.archive.deidentification.service.TemporaryFile", full)
    leaving = await service(stores).leaving(item_of(), "TRIAL")
    with pytest.raises(StorageError, match=r"No space left on device.*TMPDIR"):
        await leaving.open()


async def test_a_look_tells_what_was_done(stores: Stores) -> None:
    made = service(stores)
    item, report = await made.report_of(item_of(), RESEARCH)
    assert report.processed == 1
    assert {change.path for change in report.changes} >= {"(0010,0010)", "(0010,0020)"}
    assert item.sop_instance_uid != "1.2.3.4.5"


async def test_an_object_is_announced_with_the_uid_that_was_brought(stores: Stores) -> None:
    made = service(stores)
    await stores.deidentification.add("research", [("1.2.3.4.5", "2.25.4711")])
    leaving = await made.leaving(item_of(), "TRIAL")
    assert leaving.sop_instance_uid == "2.25.4711"
    assert (await read(leaving)).SOPInstanceUID == "2.25.4711"


async def test_uids_in_texts_are_those_that_were_brought(stores: Stores) -> None:
    made = service(stores)
    await stores.deidentification.add("research", [("1.2.840.99.1.2.3", "2.25.4711")])
    item = item_of(ManufacturerModelName="as in 1.2.840.99.1.2.3")
    found = await read(await made.leaving(item, "TRIAL"))
    assert found.ManufacturerModelName == "as in 2.25.4711"


class Contradicting:
    """A mapping in which another process was first, with another key."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def pseudonyms(self, project: str, originals: Iterable[str]) -> Mapping[str, str]:
        return {}

    async def add(self, project: str, pairs: Iterable[tuple[str, str]]) -> int:
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "said"),
    [(MappingConflictError("another partner"), "another partner"),
     (ValueError("no number: Zenobia"), "unexpected ValueError$"),
     (KeyError("Zenobia"), "unexpected KeyError$")],
    ids=["contradiction", "quoting", "unexpected"],
)  # fmt: skip
async def test_what_goes_wrong_lets_nothing_leave_and_ends_nobody(
    fault: Exception, said: str
) -> None:
    mapping: Any = Contradicting(fault)
    made = Deidentification([RESEARCH], {"research": KEY}, mapping)
    with pytest.raises(NotDeidentifiedError, match=said):
        await (await made.leaving(item_of(), "TRIAL")).open()


async def test_what_cannot_be_noted_now_can_be_de_identified_later() -> None:
    """Who forwards tries again, and a caller of the web is told to wait, not that it may not."""
    mapping: Any = Contradicting(StorageError("the database is away"))
    made = Deidentification([RESEARCH], {"research": KEY}, mapping)
    with pytest.raises(StorageError, match="away"):
        await (await made.leaving(item_of(), "TRIAL")).open()
