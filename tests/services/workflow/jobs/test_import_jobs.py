"""Import jobs: files of folders, ZIPs and file-sets of the server's machine."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from isocenter.services.archive import import_sources
from isocenter.services.composition import import_audit
from isocenter.services.security.audit.messages import AuditMessage
from isocenter.services.workflow.jobs.job import ItemState, Job, JobKind, JobRequest, JobState
from isocenter.services.workflow.jobs.ports import Wish
from services.archive_support import STUDY, uid
from services.workflow.jobs.test_runner import World, world


def write_file(path: Path, number: int) -> None:
    """A small object that fits into a file-set."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid(number)
    data.StudyInstanceUID, data.SeriesInstanceUID = STUDY, f"{STUDY}.4"
    data.PatientID, data.PatientName, data.Modality = "P1", "Bäcker^Anna", "CT"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "12", "1", "A"
    data.SeriesNumber, data.InstanceNumber = 1, number
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def wanted(place: Path) -> JobRequest:
    return JobRequest(kind=JobKind.IMPORT, node="", detail=str(place), requested_by="al")


async def faults(here: World, job: Job) -> dict[str, str]:
    return {item.sop_instance_uid: item.fault for item in await here.desk.failures(job, 99)}


async def test_all_files_of_a_folder_are_taken_in(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in (1, 2):
        write_file(folder / "cd" / f"IM{number}", number)
    (folder / "cd" / "readme.txt").write_text("no object")
    # A name that is no UTF-8.
    write_file(tmp_path / "odd", 3)
    (tmp_path / "odd").rename(Path(f"{folder}/cd/\udce4"))
    (folder / "cd" / "elsewhere").symlink_to(tmp_path / "outside")
    write_file(tmp_path / "outside", 4)
    async with world(jobs__import_folders=[str(folder)]) as here:
        job = await here.done(wanted(folder / "cd"))
        assert (job.state, job.last_fault) == (JobState.COMPLETED, "")
        progress = job.progress
        assert (progress.total, progress.done, progress.skipped) == (4, 3, 1)
        assert progress.size > 0
        assert await here.instances() == {uid(1), uid(2), uid(3)}
        again = await here.done(wanted(folder / "cd"))
        assert (again.progress.done, again.progress.skipped) == (0, 4)


async def test_a_damaged_file_fails_alone_and_is_tried_again_when_somebody_says_so(
    tmp_path: Path,
) -> None:
    for number in (1, 2):
        write_file(tmp_path / "in" / f"IM{number}", number)
    torn = tmp_path / "in" / "IM2"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-3])
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        job = await here.done(wanted(tmp_path / "in"))
        assert (job.state, job.progress.done, job.progress.failed) == (JobState.FAILED, 1, 1)
        assert list(await faults(here, job)) == ["IM2"]
        torn.write_bytes(whole)
        assert await here.steer(job.job_id, Wish.RETRY)
        job = await here.until(job.job_id, lambda job: job.state is JobState.COMPLETED)
        assert (job.progress.done, job.progress.failed) == (2, 0)


async def test_the_members_of_a_zip_are_taken_in(tmp_path: Path) -> None:
    for number in (1, 2):
        write_file(tmp_path / f"IM{number}", number)
    place = tmp_path / "in" / "study.zip"
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "IM1", "a/IM1")
        archive.write(tmp_path / "IM2", "../../IM2")
        archive.writestr("a/broken", (tmp_path / "IM1").read_bytes()[:-2])
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        job = await here.done(wanted(place))
        assert (job.progress.total, job.progress.done) == (3, 2)
        assert list(await faults(here, job)) == ["a/broken"]
        assert await here.instances() == {uid(1), uid(2)}


async def test_no_fault_names_a_member_of_a_zip(tmp_path: Path) -> None:
    """The fault of a job is for all who see jobs; names of files are for who may search."""
    place = tmp_path / "in" / "study.zip"
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("DOE^JOHN/IM1", b"DICOM" * 99)
    data = bytearray(place.read_bytes())
    data[data.index(b"DICOMDICOM") + 3] ^= 1  # its checksum is wrong
    place.write_bytes(data)
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        job = await here.done(wanted(place))
        assert "it cannot be unpacked (BadZipFile)" in job.last_fault
        assert "DOE" not in job.last_fault


async def test_names_may_be_long_and_the_same(tmp_path: Path) -> None:
    write_file(tmp_path / "IM1", 1)
    write_file(tmp_path / "IM2", 2)
    place = tmp_path / "in" / "study.zip"
    folder = tmp_path / "in" / "folder"
    write_file(folder.joinpath(*["ö" * 120] * 8, "IM3"), 3)
    with zipfile.ZipFile(place, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.write(tmp_path / "IM1", "x" * 5_000)
        for name in ("a", "a #2", "a"):
            archive.write(tmp_path / "IM2", name)
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        job = await here.done(wanted(folder))
        assert (job.state, job.progress.done) == (JobState.COMPLETED, 1)
        job = await here.done(wanted(place))
        assert (job.state, job.progress.total, job.progress.done) == (JobState.COMPLETED, 4, 2)
        items = await here.parts.stores.jobs.items(job.job_id, list(ItemState), 9)
        assert max(len(item.sop_instance_uid.encode()) for item in items) < 1_000


async def test_unpacked_members_take_half_of_the_room_that_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "IM1", 1)
    place = tmp_path / "study.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "IM1", "IM1")
        archive.writestr("bomb", bytes(1 << 20))
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(import_sources.shutil, "disk_usage", lambda path: usage)
    source = import_sources.open_source([tmp_path], str(place))
    os.close(source.open("IM1"))
    with pytest.raises(OSError, match="no room"):
        source.open("bomb")
    source.close()


def write_disc(disc: Path, *numbers: int) -> None:
    """A file-set; the last object that its DICOMDIR names is missing, and one is there unnamed."""
    files = FileSet()
    for number in numbers:
        source = disc.parent.parent / f"IM{number}"
        write_file(source, number)
        files.add(dcmread(source))
    stage = files._stage["t"]
    files.write(disc)
    for folder in (stage, files._stage["t"]):
        folder.cleanup()  # left to the garbage collector they complain
    write_file(disc / "STRAY", 9)
    for path in disc.rglob("IM*"):
        if dcmread(path).SOPInstanceUID == uid(numbers[-1]):
            path.unlink()


async def test_what_a_dicomdir_names_is_taken_in(tmp_path: Path) -> None:
    disc = tmp_path / "in" / "disc"
    write_disc(disc, 1, 2)
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        job = await here.done(wanted(disc / "DICOMDIR"))
        assert (job.progress.total, job.progress.done) == (2, 1)
        (fault,) = (await faults(here, job)).values()
        assert "not there" in fault
        assert await here.instances() == {uid(1)}


async def test_nothing_is_read_from_anywhere_else(tmp_path: Path) -> None:
    write_file(tmp_path / "secret" / "IM1", 1)
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    places = [tmp_path / "secret", inside / "link", inside / ".." / "secret", inside / "none"]
    async with world(jobs__import_folders=[str(inside)]) as here:
        for place in places:
            job = await here.done(wanted(place))
            assert job.state is JobState.FAILED
            assert job.last_fault == "it is not there, or in none of jobs.import_folders"
        empty = await here.done(wanted(inside))
        assert (empty.state, empty.last_fault) == (JobState.FAILED, "there is no file")
        (inside / "note.txt").write_text("x")
        other = await here.done(wanted(inside / "note.txt"))
        assert other.last_fault == "it is no folder, no DICOMDIR and no ZIP"
        assert await here.instances() == set()
    async with world() as here:
        job = await here.done(wanted(inside))
        assert "set jobs.import_folders" in job.last_fault


async def test_what_is_taken_in_stands_in_the_audit_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[AuditMessage] = []
    ours = threading.current_thread()

    def record_now(settings: object, here: object, messages: Sequence[AuditMessage]) -> None:
        # It waits for a disk, and nobody else shall.
        assert threading.current_thread() is not ours
        recorded.extend(messages)

    monkeypatch.setattr(import_audit, "record_now", record_now)
    write_file(tmp_path / "in" / "IM1", 1)
    (tmp_path / "in" / "note.txt").write_text("x")
    async with world(jobs__import_folders=[str(tmp_path / "in")]) as here:
        await here.done(wanted(tmp_path / "in"))
        assert len(recorded) == 1
        (message,) = recorded
        requestors = [one for one in message.participants if one.is_requestor]
        # Who asked, not who runs the server.
        assert [one.user_id for one in requestors] == ["al"]
        await here.done(wanted(tmp_path / "in"))
        assert len(recorded) == 1, "it was there"
