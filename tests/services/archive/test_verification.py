from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import trio
from pydicom.data import get_testdata_file

from isocenter.engine.dataset import EXPLICIT_BIG, IMPLICIT_LITTLE, read_file_meta, write_file_meta
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.file_import import (
    ImportedFile,
    ImportOutcome,
    ImportReport,
    import_directory,
)
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.object_keys import distinct_key
from isocenter.services.archive.ports import (
    DuplicatePolicy,
    InstanceRecord,
    OtherPatientPolicy,
)
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.verification import VerificationProgress, verify, verify_instance
from isocenter.services.dicom.file_recognition import HEAD_BYTES
from isocenter.services.dicom.uid_registry import MEDIA_STORAGE_DIRECTORY
from isocenter.services.errors import StorageError
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import (
    CT,
    SERIES,
    STUDY,
    FailingIndex,
    data_set,
    data_set_of,
    keys_of,
    opened,
    store,
    uid,
)

KEY = f"{STUDY}/{SERIES}/{uid(1)}.dcm"


def part10(
    number: int = 1, data: bytes | None = None, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN
) -> bytes:
    return write_file_meta(CT, uid(number), syntax) + (data_set(number) if data is None else data)


def names(findings: CountedFindings) -> set[str]:
    assert findings.count == len(findings.named)
    return {Path(name).name for name, _ in findings.named}


@pytest.fixture
async def archive() -> AsyncIterator[Archive]:
    async with opened(MemoryStore()) as archive:
        yield archive


@pytest.fixture
async def on_disk(tmp_path: Path) -> AsyncIterator[Archive]:
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        yield archive


# -- Import ------------------------------------------------------------------------------


async def test_files_are_told_apart_and_none_ends_the_import(
    archive: Archive, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "a/b").mkdir(parents=True)
    long = data_set(3, pixels=bytes(range(256)) * (HEAD_BYTES // 128))
    good = {
        "a/part10": (part10(1), data_set(1)),
        "a/b/no extension": (part10(2), data_set(2)),
        "long.dcm": (part10(3, long), long),
        "naked explicit": (data_set(4), data_set(4)),
        "naked implicit": (data_set(5, encoding=IMPLICIT_LITTLE),) * 2,
        "naked big endian": (data_set(6, encoding=EXPLICIT_BIG),) * 2,
        "other meta": (part10(99, data_set(7)), data_set(7)),
        "meta alone": (part10(8)[132:], data_set(8)),
    }
    for name, (content, _) in good.items():
        (source / name).write_bytes(content)
    bad = {
        "empty": b"",
        "notes.txt": b"Dear colleague, the images are in the other folder." * 20,
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "zeros": bytes(5000),
        "DICOMDIR": write_file_meta(MEDIA_STORAGE_DIRECTORY, "1.2", EXPLICIT_VR_LITTLE_ENDIAN)
        + data_set(1),
    }
    damaged = {
        "cut short": part10(20)[:-2],
        "meta only": part10(21)[:150],
        "no study": part10(22, data_set(22, study="")),
        "no instance": part10(23, data_set(23)[-50:]),
        "bad uid": part10(24, data_set(24, series="../../x")),
        "no syntax": part10(25, b"nothing", ""),
    }
    for name, content in {**bad, **damaged}.items():
        (source / name).write_bytes(content)
    (source / "link").symlink_to(source / "long.dcm")
    os.mkfifo(source / "pipe")
    told: list[ImportedFile] = []

    report = await import_directory(
        archive, [source, tmp_path / "not there"], progress=told.append, source_ae_title="IMPORT"
    )

    assert names(report.not_dicom) == set(bad)
    assert names(report.damaged) == set(damaged)
    assert names(report.failed) == {"not there"}
    assert report.imported == len(good)
    assert report.size == sum(len(data) for _, data in good.values())
    assert report.files == len(told) == len(good) + len(bad) + len(damaged) + 1
    assert not report.stopped
    for number, (_, data) in enumerate(good.values(), 1):
        stored = (await archive.index.get([uid(number)]))[uid(number)]
        assert await data_set_of(archive, stored) == data
    syntaxes = {
        number: (await archive.index.get([uid(number)]))[uid(number)] for number in (4, 5, 6)
    }
    assert syntaxes[4].transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert syntaxes[5].transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    assert syntaxes[6].transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN
    for findings in (report.not_dicom, report.damaged, report.failed):
        for _, reason in findings.named:
            assert reason
            assert "Bäcker" not in reason

    again = await import_directory(archive, [source / "a", source / "link"])
    assert (again.imported, again.already_there, again.files) == (0, 3, 3)


async def test_another_object_of_the_same_instance(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(part10())
    await import_directory(archive, [tmp_path / "1"])
    (tmp_path / "1").write_bytes(part10(1, data_set(pixels=b"other!")))
    report = await import_directory(archive, [tmp_path])
    assert names(report.kept_other) == {"1"}


@pytest.mark.parametrize("policy", list(OtherPatientPolicy))
async def test_files_that_name_another_patient(policy: OtherPatientPolicy, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(part10(1))
    (tmp_path / "2").write_bytes(part10(2, data_set(2, patient_id="P2")))
    async with opened(MemoryStore(), other_patient=policy) as archive:
        for name in ("1", "2"):
            report = await import_directory(archive, [tmp_path / name])
        is_refused = policy is OtherPatientPolicy.REJECT
        assert report.imported == (0 if is_refused else 1)
        assert names(report.failed) == ({"2"} if is_refused else set())
        assert names(report.other_patient) == (
            {"2"} if policy is OtherPatientPolicy.WARN else set()
        )
        assert len(await archive.index.get([uid(1), uid(2)])) == (1 if is_refused else 2)


async def test_import_where_duplicates_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(part10())
    async with opened(MemoryStore(), duplicates=DuplicatePolicy.REJECT) as archive:
        await import_directory(archive, [tmp_path])
        assert (await import_directory(archive, [tmp_path])).already_there == 1


async def test_a_full_archive_ends_the_import(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}").write_bytes(part10(number, data_set(number, pixels=b"x" * 1000)))
    async with opened(MemoryStore(capacity=5_000)) as archive:
        report = await import_directory(archive, [tmp_path])
        assert report.stopped
        assert 0 < report.imported < 5
        assert 0 < report.failed.count <= 8
        assert archive.budget.taken == 0


async def test_a_folder_that_cannot_be_read(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "good").write_bytes(part10())
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = await import_directory(archive, [tmp_path])
    assert report.imported == 1
    assert [reason for _, reason in report.failed.named] == ["Permission denied"]


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "image_dfl.dcm", "rtplan.dcm"],
)
async def test_what_pydicom_brings_along(archive: Archive, name: str) -> None:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    report = await import_directory(archive, [path])
    assert (report.imported, report.files) == (1, 1), report
    content = await trio.Path(path).read_bytes()
    expected = pydicom.dcmread(path, stop_before_pixels=True)
    stored = (await archive.index.get([expected.SOPInstanceUID]))[expected.SOPInstanceUID]
    assert await data_set_of(archive, stored) == content[read_file_meta(content).data_set_offset :]
    assert stored.transfer_syntax_uid == expected.file_meta.TransferSyntaxUID
    assert stored.study_instance_uid == expected.StudyInstanceUID


def test_a_report_has_a_bound() -> None:
    report = ImportReport()
    for number in range(20_000):
        report.add(ImportedFile(str(number), ImportOutcome.NOT_DICOM, "no"))
    assert report.files == report.not_dicom.count == 20_000
    assert len(report.not_dicom.named) == 10_000


# -- Verify ------------------------------------------------------------------------------


async def test_an_archive_in_order(on_disk: Archive) -> None:
    for number in range(10):
        await store(on_disk, number)
    told: list[VerificationProgress] = []
    report = await verify(on_disk, progress=told.append)
    assert report.is_good
    assert (report.instances, report.objects, report.orphans.count) == (10, 10, 0)
    assert report.size == sum(len(data_set(number)) for number in range(10))
    assert told[-1] == VerificationProgress(10, 10, report.size)


async def test_every_kind_of_fault_is_named(on_disk: Archive, tmp_path: Path) -> None:
    for number in range(1, 7):
        await store(on_disk, number)
    folder = tmp_path / f"data/objects/{STUDY}/{SERIES}"
    (folder / f"{uid(1)}.dcm").unlink()
    with (folder / f"{uid(2)}.dcm").open("ab") as file:
        file.write(b"more")
    changed = bytearray((folder / f"{uid(3)}.dcm").read_bytes())
    changed[-1] ^= 1
    (folder / f"{uid(3)}.dcm").write_bytes(changed)
    (folder / f"{uid(4)}.dcm").unlink()
    (folder / f"{uid(4)}.dcm").symlink_to("/etc/passwd")
    (folder / f"{uid(8)}.dcm").write_bytes(part10(8))
    (folder / "stray").write_bytes(b"x")

    report = await verify(on_disk)
    assert not report.is_good
    assert names(report.missing) == {uid(1)}
    assert names(report.wrong_size) == {uid(2)}
    assert names(report.wrong_digest) == {uid(3)}
    assert names(report.unreadable) == {uid(4)}
    assert names(report.orphans) == {f"{uid(8)}.dcm", "stray"}
    assert report.instances == 6

    quick = await verify(on_disk, checksums=False)
    assert quick.wrong_digest.count == 0
    assert names(quick.wrong_size) == {uid(2)}
    assert quick.size == 0


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        (EXPLICIT_VR_LITTLE_ENDIAN.encode() + b"\0", b"1.2.840.10008.1.2\0\0\0"),
        (uid(1).encode(), uid(2).encode()),
        (b"DICM", b"DICK"),
        (b"\x02\0\0\0UL", b"\x02\0\0\0UL\xff"[1:]),
    ],
    ids=["transfer syntax", "instance", "prefix", "group 0002"],
)
async def test_a_header_that_changed_is_named(
    on_disk: Archive, tmp_path: Path, was: bytes, is_now: bytes
) -> None:
    """The data set is as it was, and would be misread, or not sent."""
    await store(on_disk)
    path = tmp_path / "data/objects" / KEY
    content = path.read_bytes()
    path.write_bytes(content.replace(was, is_now, 1))
    report = await verify(on_disk)
    assert names(report.wrong_digest) == {uid(1)}
    assert "File Meta Information" in report.wrong_digest.named[0][1]


async def test_what_the_index_says_otherwise_is_named_without_a_value() -> None:
    class Lying(MemoryIndex):
        """Says something else of two attributes of one instance."""

        async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
            known = dict(await super().records(sop_instance_uids))
            if uid(2) in known:
                odd = {**known[uid(2)].attributes, 0x00100010: "Other^Name"}
                del odd[0x00080060]
                known[uid(2)] = replace(known[uid(2)], attributes=odd)
            return known

    async with opened(MemoryStore(), Lying()) as archive:
        for number in (1, 2, 3):
            await store(archive, number)
        report = await verify(archive)
        assert not report.is_good
        assert not report.has_damage
        assert report.differing.named == [(uid(2), "PatientName, Modality")]
        # Attributes are in what is read.
        assert (await verify(archive, checksums=False)).is_good


async def test_what_was_replaced_agrees(tmp_path: Path) -> None:
    async with (
        open_sqlite_database(tmp_path / "index.db") as database,
        opened(
            await open_file_store(tmp_path / "data"),
            DatabaseIndex(database),
            duplicates=DuplicatePolicy.REPLACE,
        ) as archive,
    ):
        for number in (1, 2, 3):
            await store(archive, number)
        for number in (1, 2):
            again = data_set(number, patient_name="Bauer^Anna", study_date="20250101")
            await store(archive, number, again)
        assert (await verify(archive)).is_good


async def test_what_goes_while_it_is_verified_is_no_fault() -> None:
    class Removing(MemoryStore):
        async def open(self, key: str) -> object:  # type: ignore[override]
            if key == KEY:
                await archive.index.remove([uid(1)])
                await self.remove([key])
            return await super().open(key)

    async with opened(Removing()) as archive:
        await store(archive, 1)
        await store(archive, 2)
        report = await verify(archive)
        assert report.is_good
        assert report.missing.count == report.orphans.count == 0


async def test_an_object_that_took_the_key_of_another_is_not_a_changed_one() -> None:
    """With `replace` a key becomes free and is taken again, while a check has the old row."""
    async with opened(MemoryStore(), duplicates=DuplicatePolicy.REPLACE) as archive:
        old = (await store(archive)).instance
        await store(archive, data=data_set(pixels=bytes(100)))
        new = (await store(archive, data=data_set(pixels=bytes(200)))).instance
        assert new.object_key == old.object_key
        assert await verify_instance(archive, old) is None
        await archive.store.remove([new.object_key])
        assert await verify_instance(archive, new) == "its object is gone"


# -- Reindex -----------------------------------------------------------------------------


async def test_an_empty_index_is_rebuilt_from_the_files(tmp_path: Path) -> None:
    before, after = MemoryIndex(), MemoryIndex()
    async with opened(await open_file_store(tmp_path), before) as archive:
        for number in range(20):
            await store(archive, number, data_set(number, study=f"1.2.{number % 3}"))
    told: list[VerificationProgress] = []
    async with opened(await open_file_store(tmp_path), after) as archive:
        report = await reindex(archive, told.append)
        assert (report.objects, report.indexed) == (20, 20)
        assert told[-1].done == 20
        for findings in (report.damaged, report.foreign, report.superseded, report.forgotten):
            assert findings.count == 0
        uids = [uid(number) for number in range(20)]
        assert await after.get(uids) == await before.get(uids)
        assert await after.statistics() == await before.statistics()
        assert (await verify(archive)).is_good
        # And again, over itself.
        assert (await reindex(archive)).indexed == 20


async def test_reindex_names_what_it_cannot_take(on_disk: Archive, tmp_path: Path) -> None:
    for number in range(1, 4):
        await store(on_disk, number)
    folder = tmp_path / f"data/objects/{STUDY}/{SERIES}"
    (folder / f"{uid(1)}.dcm").unlink()
    (folder / f"{uid(7)}.dcm").write_bytes(part10(7)[:-1])
    (folder / f"{uid(8)}.dcm").write_bytes(b"not DICOM")
    (folder / f"{uid(9)}.dcm").write_bytes(part10(10))
    (folder / f"{uid(11)}.dcm").write_bytes(part10(11))
    report = await reindex(on_disk)
    assert names(report.damaged) == {f"{uid(7)}.dcm", f"{uid(8)}.dcm"}
    assert names(report.foreign) == {f"{uid(9)}.dcm"}
    assert names(report.forgotten) == {uid(1)}
    assert report.indexed == 3
    assert set(await on_disk.index.get([uid(n) for n in range(12)])) == {uid(2), uid(3), uid(11)}


async def test_reindex_makes_it_from_the_files_alone(tmp_path: Path) -> None:
    """Also where an old index lies that says otherwise, and leaves alone what is not of files."""
    async with (
        open_sqlite_database(tmp_path / "index.db") as database,
        opened(await open_file_store(tmp_path / "data"), DatabaseIndex(database)) as archive,
    ):
        for number in (1, 2, 3):
            name = "Bauer^Anna" if number == 2 else "Bäcker^Anna"
            await store(archive, number, data_set(number, patient_name=name))

        def spoil(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE patient_statement SET patient_name = 'No^One'")
            connection.execute("UPDATE study SET num_instances = 9")
            connection.execute("DELETE FROM instance WHERE sop_instance_uid = ?", (uid(3),))
            connection.execute(
                "INSERT INTO study_hold (study_instance_uid, reason, actor, at) "
                "VALUES ('1.2', '', '', 0)"
            )

        await database.write(spoil)
        assert not (await verify(archive)).is_good
        # Interrupted, nothing has changed.
        before = await archive.index.statistics()
        with trio.move_on_after(60) as scope:
            await reindex(archive, lambda progress: scope.cancel())
        assert scope.cancelled_caught
        assert await archive.index.statistics() == before
        report = await reindex(archive)
        assert (report.indexed, report.forgotten.count) == (3, 0)
        assert (await verify(archive)).is_good
        assert not [name for name in os.listdir(tmp_path) if "rebuilding" in name]

        def holds(connection: sqlite3.Connection) -> int:
            (count,) = connection.execute("SELECT count(*) FROM study_hold").fetchone()
            return int(count)

        assert await database.read(holds) == 1


@pytest.mark.parametrize("newest", [1, 2])
async def test_after_reindex_files_tell_what_was_said_last(tmp_path: Path, newest: int) -> None:
    async with (
        open_sqlite_database(tmp_path / "index.db") as database,
        opened(await open_file_store(tmp_path / "data"), DatabaseIndex(database)) as archive,
    ):
        for number in (1, 2):
            name = f"Bauer{number}^Anna"
            result = await store(archive, number, data_set(number, patient_name=name))
            path = tmp_path / "data/objects" / result.instance.object_key
            os.utime(path, (1e9, 2e9 if number == newest else 1.5e9))
        await reindex(archive)
        for shows_first, number in ((False, newest), (True, 3 - newest)):
            asked = Query(level=Level.STUDY, return_tags=(0x00100010,), shows_first=shows_first)
            async with archive.index.find(asked) as blocks:
                (match,) = [match async for block in blocks for match in block]
            assert match[0x00100010] == f"Bauer{number}^Anna"


async def test_an_object_that_cannot_be_read_stays_in_the_index(
    on_disk: Archive, tmp_path: Path
) -> None:
    for number in (1, 2):
        await store(on_disk, number)
    path = tmp_path / f"data/objects/{STUDY}/{SERIES}/{uid(1)}.dcm"
    path.write_bytes(path.read_bytes()[:-1])
    before = (await on_disk.index.get([uid(1)]))[uid(1)]
    report = await reindex(on_disk)
    assert (report.indexed, report.damaged.count, report.forgotten.count) == (2, 1, 0)
    assert names(report.carried) == {uid(1)}
    assert (await on_disk.index.get([uid(1)]))[uid(1)] == before
    assert names((await verify(on_disk)).wrong_size) == {uid(1)}


async def test_of_two_distinct_objects_the_one_written_last_counts() -> None:
    objects = MemoryStore()
    async with opened(objects) as archive:
        for token, name in (("1" * 8, "Bauer^Anna"), ("0" * 8, "Huber^Anna")):
            staged = await objects.stage()
            await staged.write([part10(1, data_set(1, patient_name=name))])
            await objects.publish([(staged, distinct_key(KEY, token))])
        report = await reindex(archive)
        assert [name for name, _ in report.superseded.named] == [distinct_key(KEY, "1" * 8)]


@pytest.mark.parametrize("empty", [True, False])
async def test_of_two_objects_of_one_instance_the_distinct_one_counts(empty: bool) -> None:
    """It was made because the plain key was taken: by what it replaces, or by an orphan."""
    objects, index = MemoryStore(), FailingIndex()
    newer = data_set(pixels=b"newer!")
    async with opened(objects, index) as archive:
        if not empty:
            await store(archive)
        for key, content in ((KEY, part10()), (distinct_key(KEY, "0" * 8), part10(1, newer))):
            staged = await objects.stage()
            await staged.write([content])
            await objects.publish([(staged, key)])
        report = await reindex(archive)
        assert report.indexed == 1
        assert [name for name, _ in report.superseded.named] == [KEY]
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await data_set_of(archive, stored) == newer
        again = await reindex(archive)
        assert [name for name, _ in again.superseded.named] == [KEY]
        assert len(await keys_of(archive)) == 2


async def test_an_index_that_cannot_be_written_is_an_error() -> None:
    index = FailingIndex()
    async with opened(MemoryStore(), index) as archive:
        await store(archive)
        index.error = StorageError("read-only")
        with pytest.raises(StorageError, match="read-only"):
            await reindex(archive)
