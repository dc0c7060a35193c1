"""Looking after an archive: compare files and index both ways, or rebuild the index.

Neither needs memory that grows with the archive, and neither ends at a bad object: what
is wrong is reported by object key or UID, never with an attribute value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, FileMeta, read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.findings import Findings
from isocenter.services.archive.importing import (
    PIECE,
    ImportedFile,
    ImportOutcome,
    ImportReport,
    import_directory,
)
from isocenter.services.archive.ingest import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    ScannedObject,
    StoreError,
)
from isocenter.services.archive.naming import is_distinct, sop_instance_uid_of
from isocenter.services.dicom_files import has_header_of
from isocenter.services.ports import InstanceRecord, ObjectReader, StorageError, StoredInstance

__all__ = [
    "Findings",
    "ImportOutcome",
    "ImportReport",
    "ImportedFile",
    "Progress",
    "ReindexReport",
    "VerifyReport",
    "import_directory",
    "reindex",
    "scan_object",
    "verify",
]

#: Objects that are read at once, so that a disk has more than one request to choose from.
CONCURRENCY: Final = 4

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: objects done, of how many (None: nobody knows), and bytes read."""

    done: int
    total: int | None
    size: int


# -- Verify ------------------------------------------------------------------------------


@dataclass(slots=True)
class VerifyReport:
    """What a comparison of files and index found.

    Attributes:
        instances: rows of the index that were looked at.
        objects: objects of the store.
        size: bytes read.
        missing: SOP Instance UIDs whose object is gone.
        wrong_size, wrong_digest: SOP Instance UIDs whose object is not what was stored.
        unreadable: SOP Instance UIDs whose object cannot be read.
        orphans: keys of objects that no index row points to.
        index: what is wrong in the index itself.
    """

    instances: int = 0
    objects: int = 0
    size: int = 0
    missing: Findings = field(default_factory=Findings)
    wrong_size: Findings = field(default_factory=Findings)
    wrong_digest: Findings = field(default_factory=Findings)
    unreadable: Findings = field(default_factory=Findings)
    orphans: Findings = field(default_factory=Findings)
    index: Findings = field(default_factory=Findings)

    @property
    def is_good(self) -> bool:
        """Whether the index is sound and every instance has its object, unchanged.

        Orphans take space and no more.
        """
        faults = (
            self.missing, self.wrong_size, self.wrong_digest, self.unreadable, self.index,
        )  # fmt: skip
        return not any(fault.count for fault in faults)


async def verify(
    archive: Archive,
    *,
    progress: Callable[[Progress], None] = lambda progress: None,
    checksums: bool = True,
) -> VerifyReport:
    """Compare index → objects (there, size, File Meta Information, SHA-256 of the data set) and
    objects → index.

    May run while the archive works.  What changes meanwhile is looked at twice; an object
    that is being stored at the very end may still be named an orphan.

    Args:
        progress: called after each instance.
        checksums: read every object; without, only sizes are compared.
    """
    report = VerifyReport()
    for line in await archive.index.check():
        report.index.add(line)
    total = (await archive.statistics()).instances

    async def check(stored: StoredInstance) -> None:
        fault = await _examine(archive, stored, report, checksums=checksums)
        if fault is not None:
            _name(report, stored, fault)
        report.instances += 1
        progress(Progress(report.instances, total, report.size))

    async with archive.instances() as blocks:
        async for block in blocks:
            await _for_each(block, check)

    suspects: list[str] = []
    async with archive.store.keys() as key_blocks:
        async for keys in key_blocks:
            report.objects += len(keys)
            await _name_orphans(archive, suspects, report)
            suspects = await _unknown(archive, keys)
    await _name_orphans(archive, suspects, report)
    return report


class _Changed(Exception):
    """The object is not what was stored."""


class _WrongSize(_Changed):
    pass


class _WrongDigest(_Changed):
    pass


async def examine(archive: Archive, stored: StoredInstance) -> str | None:
    """Read one object; what is wrong with it, or None."""
    fault = await _examine(archive, stored, VerifyReport(), checksums=True)
    if isinstance(fault, KeyError):
        return "its object is gone"
    return None if fault is None else str(fault)


async def _examine(
    archive: Archive, stored: StoredInstance, report: VerifyReport, *, checksums: bool
) -> KeyError | _Changed | StorageError | None:
    try:
        await _verify_object(archive, stored, report, checksums=checksums)
    except (KeyError, _Changed) as fault:
        # Removed or replaced since the row was read?
        now = (await archive.get([stored.sop_instance_uid])).get(stored.sop_instance_uid)
        # Of three objects the last may have the key of the first.
        place = stored.object_key, stored.digest
        if now is not None and (now.object_key, now.digest) == place:
            return fault
    except StorageError as error:
        return error
    return None


async def _verify_object(
    archive: Archive, stored: StoredInstance, report: VerifyReport, *, checksums: bool
) -> None:
    async with await archive.open(stored) as reader:
        if reader.size != stored.size:
            raise _WrongSize(f"{reader.size} bytes instead of {stored.size}")
        if not checksums:
            return
        digest = hashlib.sha256()
        size = await _feed(reader.view, stored.data_set_offset, digest.update)
        report.size += size  # others have counted during the await
        if digest.hexdigest() != stored.digest:
            raise _WrongDigest("the data set is not the one that was stored")
        try:
            is_ours = await has_header_of(reader, stored)
        except DataSetError as error:
            raise _WrongDigest(f"its File Meta Information cannot be read: {error}") from error
        if not is_ours:
            raise _WrongDigest("its File Meta Information is not the one that was stored")


def _name(report: VerifyReport, stored: StoredInstance, fault: Exception) -> None:
    uid = stored.sop_instance_uid
    match fault:
        case _WrongSize():
            report.wrong_size.add(uid, str(fault))
        case _WrongDigest():
            report.wrong_digest.add(uid, str(fault))
        case StorageError():
            report.unreadable.add(uid, str(fault))
        case _:
            report.missing.add(uid, stored.object_key)


async def _unknown(archive: Archive, keys: Sequence[str]) -> list[str]:
    indexed = await archive.are_indexed(keys)
    return [key for key, is_indexed in zip(keys, indexed, strict=True) if not is_indexed]


async def _name_orphans(archive: Archive, suspects: Sequence[str], report: VerifyReport) -> None:
    """Name those that are orphans still; an object is published before it is indexed."""
    for key in await _unknown(archive, suspects):
        try:
            async with await archive.store.open(key):
                report.orphans.add(key, "no row of the index points to it")
        except KeyError:
            pass  # taken back meanwhile
        except StorageError as error:
            report.orphans.add(key, str(error))


# -- Reindex -----------------------------------------------------------------------------


@dataclass(slots=True)
class ReindexReport:
    """What a rebuilding of the index found.

    Attributes:
        objects: objects of the store that were looked at.
        indexed: those that the index has now.
        size: bytes read.
        damaged: keys of objects that cannot be read or parsed, with the reason.
        foreign: keys of files that the archive did not name; `import_directory` takes them.
        superseded: keys of objects whose SOP instance is indexed with another object.
        forgotten: SOP Instance UIDs that the index had and that have no object.
    """

    objects: int = 0
    indexed: int = 0
    size: int = 0
    damaged: Findings = field(default_factory=Findings)
    foreign: Findings = field(default_factory=Findings)
    superseded: Findings = field(default_factory=Findings)
    forgotten: Findings = field(default_factory=Findings)


async def reindex(
    archive: Archive, progress: Callable[[Progress], None] = lambda progress: None
) -> ReindexReport:
    """Make the index say what the objects say, from the objects alone.

    Works on an empty index as on one that is out of date, and may be run again after it was
    interrupted.  Nothing may be stored meanwhile.  Objects are only read.

    Args:
        progress: called after each object.

    Raises:
        StorageError: the index cannot be written, or the objects cannot be listed.
    """
    report = ReindexReport()
    async with archive.store.keys() as blocks:
        async for keys in blocks:
            records: list[InstanceRecord] = []

            async def look(key: str, records: list[InstanceRecord] = records) -> None:
                record = await _record_of(archive, key, report)
                if record is not None:
                    records.append(record)
                report.objects += 1
                progress(Progress(report.objects, None, report.size))

            await _for_each(keys, look)
            chosen = await _choose(archive, records, report)
            if chosen:
                await archive.index.add(chosen, replace=True)
    await _forget_missing(archive, report)
    report.indexed = (await archive.statistics()).instances
    return report


async def _record_of(archive: Archive, key: str, report: ReindexReport) -> InstanceRecord | None:
    try:
        async with await archive.store.open(key) as reader:
            meta = read_file_meta(await reader.read(0, FILE_HEAD_LENGTH))
            if not meta.transfer_syntax_uid or meta.forgiven:
                report.foreign.add(key, "the archive did not write it; import it instead")
                return None
            scanned = await scan_object(archive, reader, meta)
        report.size += scanned.size  # others have counted during the await
        sop_instance_uid = scanned.attributes.get(SOP_INSTANCE_UID, "")
        scanned.check_identity(scanned.attributes.get(SOP_CLASS_UID, ""), sop_instance_uid)
        if sop_instance_uid_of(key) != sop_instance_uid:
            report.foreign.add(key, "its name is not that of its SOP instance; import it instead")
            return None
        return scanned.record(
            transfer_syntax_uid=meta.transfer_syntax_uid,
            data_set_offset=meta.data_set_offset,
            object_key=key,
        )
    except KeyError:
        return None  # removed since it was listed
    except (DataSetError, StorageError) as error:
        report.damaged.add(key, str(error))
    except StoreError as error:
        report.damaged.add(key, error.comment or str(error))
    return None


async def scan_object(archive: Archive, reader: ObjectReader, meta: FileMeta) -> ScannedObject:
    """Read the data set of an object: what the index keeps of it.

    Raises:
        DataSetError, StoreError: it is none.
        StorageError: it cannot be read.
    """
    scan = archive.scan(meta.transfer_syntax_uid)
    await _feed(reader.read, meta.data_set_offset, scan.feed)
    return scan.finish()


async def _choose(
    archive: Archive, records: Iterable[InstanceRecord], report: ReindexReport
) -> list[InstanceRecord]:
    """One object for each SOP instance, the other ones are named."""
    chosen: dict[str, InstanceRecord] = {}
    superseded: dict[str, None] = {}
    for record in records:
        rival = chosen.setdefault(record.sop_instance_uid, record)
        if rival is record:
            continue
        if _prevails(record, rival):
            chosen[record.sop_instance_uid] = record
            superseded[rival.object_key] = None
        else:
            superseded[record.object_key] = None
    known = await archive.get(list(chosen))
    for uid, stored in known.items():
        record = chosen[uid]
        if stored.object_key == record.object_key or not await _exists(archive, stored):
            continue
        # A row from before, or from an earlier block; its object is there as well.
        if _prevails(record, stored):
            superseded[stored.object_key] = None
        else:
            superseded[record.object_key] = None
            del chosen[uid]
    for key in superseded:
        report.superseded.add(key, "another object of its SOP instance is the one that counts")
    return list(chosen.values())


def _prevails(record: StoredInstance, rival: StoredInstance) -> bool:
    """Which of two objects of one SOP instance was acknowledged last.

    A distinct key is made when the plain one is taken: by the object that is being
    replaced, or by one that was never acknowledged.  Either way the distinct one is
    right.  Between two distinct ones nothing tells; what is indexed stays.
    """
    return is_distinct(record.object_key) and not is_distinct(rival.object_key)


async def _exists(archive: Archive, stored: StoredInstance) -> bool:
    try:
        async with await archive.open(stored):
            return True
    except KeyError:
        return False
    except StorageError:
        return True  # it cannot be read now; that is no reason to forget it


async def _forget_missing(archive: Archive, report: ReindexReport) -> None:
    missing: list[str] = []

    async def look(stored: StoredInstance) -> None:
        if not await _exists(archive, stored):
            missing.append(stored.sop_instance_uid)

    async with archive.instances() as blocks:
        async for block in blocks:
            await _for_each(block, look)
    for uid in missing:
        report.forgotten.add(uid, "its object is gone")
    if missing:
        await archive.index.remove(missing)


# -- Both --------------------------------------------------------------------------------


async def _feed(
    read: Callable[[int, int], Awaitable[Buffer]], start: int, take: Callable[[Buffer], None]
) -> int:
    """Hand an object to *take* from byte *start* on, piece by piece; how many bytes it was.

    Args:
        read: of an `ObjectReader`: its `view` where *take* keeps nothing.
    """
    offset = start
    while piece := await read(offset, PIECE):
        take(piece)
        offset += len(piece)
    return offset - start


async def _for_each(items: Iterable[_T], work: Callable[[_T], Awaitable[None]]) -> None:
    """*work* on each item, `CONCURRENCY` at once."""
    todo = iter(items)

    async def worker() -> None:
        for item in todo:
            await work(item)

    async with trio.open_nursery() as nursery:
        for _ in range(CONCURRENCY):
            nursery.start_soon(worker)
