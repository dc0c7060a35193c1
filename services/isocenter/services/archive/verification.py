"""Looking after an archive: compare files and index both ways, or rebuild the index.

Neither needs memory that grows with the archive, and neither ends at a bad object: what
is wrong is reported by object key or UID, never with an attribute value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Final, TypeVar

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, FileMeta, read_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.file_import import (
    PIECE,
    ImportedFile,
    ImportOutcome,
    ImportReport,
    import_directory,
)
from isocenter.services.archive.index.attributes import ATTRIBUTES
from isocenter.services.archive.object_keys import is_distinct, sop_instance_uid_of
from isocenter.services.archive.object_scan import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    ScannedObject,
    StoreError,
)
from isocenter.services.archive.ports import Index, InstanceRecord, StoredInstance
from isocenter.services.archive.stored_objects import has_header_of
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.errors import StorageError

__all__ = [
    "CountedFindings",
    "ImportOutcome",
    "ImportReport",
    "ImportedFile",
    "ReindexReport",
    "VerificationProgress",
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
class VerificationProgress:
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
        differing: SOP Instance UIDs of which the index says something else than the object.
        orphans: keys of objects that no index row points to.
        index: what is wrong in the index itself.
        journal: what is wrong in what the store needs after a crash.
    """

    instances: int = 0
    objects: int = 0
    size: int = 0
    missing: CountedFindings = field(default_factory=CountedFindings)
    wrong_size: CountedFindings = field(default_factory=CountedFindings)
    wrong_digest: CountedFindings = field(default_factory=CountedFindings)
    unreadable: CountedFindings = field(default_factory=CountedFindings)
    differing: CountedFindings = field(default_factory=CountedFindings)
    orphans: CountedFindings = field(default_factory=CountedFindings)
    index: CountedFindings = field(default_factory=CountedFindings)
    journal: CountedFindings = field(default_factory=CountedFindings)

    @property
    def has_damage(self) -> bool:
        """Whether some object is not what was stored."""
        return any(
            fault.count
            for fault in (self.missing, self.wrong_size, self.wrong_digest, self.unreadable)
        )

    @property
    def is_good(self) -> bool:
        """Whether index and journal are sound, every instance has its object, unchanged, and the
        index says of it what it says itself.

        Orphans take space and no more.
        """
        return not (
            self.has_damage or self.differing.count or self.index.count or self.journal.count
        )


async def verify(
    archive: Archive,
    *,
    progress: Callable[[VerificationProgress], None] = lambda progress: None,
    checksums: bool = True,
) -> VerifyReport:
    """Compare index → objects (there, size, File Meta Information, SHA-256 of the data set, and
    every attribute that the index keeps) and objects → index.

    May run while the archive works.  What changes meanwhile is looked at twice; an object
    that is being stored at the very end may still be named an orphan.

    Args:
        progress: called after each instance.
        checksums: read every object; without, only sizes are compared, and no attributes.
    """
    report = VerifyReport()
    for line in await archive.index.check():
        report.index.add(line)
    for line in await archive.store.check():
        report.journal.add(line)
    total = (await archive.index.statistics()).instances

    records: Mapping[str, InstanceRecord] = {}

    async def check(stored: StoredInstance) -> None:
        record = records.get(stored.sop_instance_uid)
        fault = await _examine(archive, stored, report, checksums=checksums, record=record)
        if fault is not None:
            _name(report, stored, fault)
        report.instances += 1
        progress(VerificationProgress(report.instances, total, report.size))

    async with archive.index.instances() as blocks:
        async for block in blocks:
            if checksums:
                records = await archive.index.records([each.sop_instance_uid for each in block])
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


class _Differs(_Changed):
    """The object is well, and the index says something else of it."""


async def verify_instance(archive: Archive, stored: StoredInstance) -> str | None:
    """Read one object; what is wrong with it, or None."""
    fault = await _examine(archive, stored, VerifyReport(), checksums=True)
    if isinstance(fault, KeyError):
        return "its object is gone"
    return None if fault is None else str(fault)


async def _examine(
    archive: Archive,
    stored: StoredInstance,
    report: VerifyReport,
    *,
    checksums: bool,
    record: InstanceRecord | None = None,
) -> KeyError | _Changed | StorageError | None:
    try:
        await _verify_object(archive, stored, report, checksums=checksums, record=record)
    except (KeyError, _Changed) as fault:
        # Removed or replaced since the row was read?
        now = (await archive.index.get([stored.sop_instance_uid])).get(stored.sop_instance_uid)
        # Of three objects the last may have the key of the first.
        place = stored.object_key, stored.digest
        if now is not None and (now.object_key, now.digest) == place:
            return fault
    except StorageError as error:
        return error
    return None


async def _verify_object(
    archive: Archive,
    stored: StoredInstance,
    report: VerifyReport,
    *,
    checksums: bool,
    record: InstanceRecord | None,
) -> None:
    async with await archive.open(stored) as reader:
        if reader.size != stored.size:
            raise _WrongSize(f"{reader.size} bytes instead of {stored.size}")
        if not checksums:
            return
        scanned: ScannedObject | None = None
        fault = ""
        if record is not None:
            try:
                scanned = await _scan(
                    archive, reader, stored.transfer_syntax_uid, stored.data_set_offset
                )
            except (DataSetError, StoreError) as error:
                fault = str(error)
        size, digest = (
            await _digest(reader, stored) if scanned is None else (scanned.size, scanned.digest)
        )
        report.size += size  # others have counted during the await
        if digest != stored.digest:
            raise _WrongDigest("the data set is not the one that was stored")
        try:
            is_ours = await has_header_of(reader, stored)
        except DataSetError as error:
            raise _WrongDigest(f"its File Meta Information cannot be read: {error}") from error
        if not is_ours:
            raise _WrongDigest("its File Meta Information is not the one that was stored")
        if fault:
            raise _Differs(f"the index has it, and it cannot be read: {fault}")
        if record is not None and scanned is not None:
            names = _differing(record, scanned)
            if names:
                raise _Differs(", ".join(names))


async def _digest(reader: ObjectReader, stored: StoredInstance) -> tuple[int, str]:
    """Bytes and SHA-256 of the data set."""
    digest = hashlib.sha256()
    size = await _feed(reader.view, stored.data_set_offset, digest.update)
    return size, digest.hexdigest()


def _differing(record: InstanceRecord, scanned: ScannedObject) -> list[str]:
    """The attributes of which index and object say different things, by keyword."""
    return [
        attribute.keyword
        for attribute in ATTRIBUTES
        if not attribute.computed
        and record.attributes.get(attribute.tag, "")
        != scanned.attributes.get(attribute.tag, "").encode("utf-8", "replace").decode()
    ]


def _name(report: VerifyReport, stored: StoredInstance, fault: Exception) -> None:
    uid = stored.sop_instance_uid
    match fault:
        case _WrongSize():
            report.wrong_size.add(uid, str(fault))
        case _WrongDigest():
            report.wrong_digest.add(uid, str(fault))
        case _Differs():
            report.differing.add(uid, str(fault))
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
        carried: SOP Instance UIDs whose object is there and cannot be read: of those the index
            says what it said before.
    """

    objects: int = 0
    indexed: int = 0
    size: int = 0
    damaged: CountedFindings = field(default_factory=CountedFindings)
    foreign: CountedFindings = field(default_factory=CountedFindings)
    superseded: CountedFindings = field(default_factory=CountedFindings)
    forgotten: CountedFindings = field(default_factory=CountedFindings)
    carried: CountedFindings = field(default_factory=CountedFindings)


async def reindex(
    archive: Archive, progress: Callable[[VerificationProgress], None] = lambda progress: None
) -> ReindexReport:
    """Make the index say what the objects say, from the objects alone.

    A new index is made beside the old one and takes its place in one step at the end
    (`Index.rebuilding`); interrupted before, everything stays as it was.  What was said last, and
    first, is told by the times at which the objects were written.  Nothing may be stored meanwhile.
    Objects are only read.

    Args:
        progress: called after each object.

    Raises:
        StorageError: the index cannot be written, or the objects cannot be listed.
    """
    report = ReindexReport()
    async with archive.index.rebuilding() as new:
        async with archive.store.keys() as blocks:
            async for keys in blocks:
                records: list[InstanceRecord] = []

                async def look(key: str, records: list[InstanceRecord] = records) -> None:
                    record = await _record_of(archive, key, report)
                    if record is not None:
                        records.append(record)
                    report.objects += 1
                    progress(VerificationProgress(report.objects, None, report.size))

                await _for_each(keys, look)
                chosen = await _choose(archive, new, records, report)
                if chosen:
                    await new.add(chosen, replace=True)
        await _seen_again(archive, new, report)
    report.indexed = (await archive.index.statistics()).instances
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
        record = scanned.record(
            transfer_syntax_uid=meta.transfer_syntax_uid,
            data_set_offset=meta.data_set_offset,
            object_key=key,
        )
        return replace(record, stored_at=await archive.store.stored_at(key))
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
    return await _scan(archive, reader, meta.transfer_syntax_uid, meta.data_set_offset)


async def _scan(
    archive: Archive, reader: ObjectReader, transfer_syntax_uid: str, offset: int
) -> ScannedObject:
    scan = archive.intake.scan(transfer_syntax_uid)
    # A scan keeps nothing of what it is fed: pieces from the network are used again, too.
    await _feed(reader.view, offset, scan.feed)
    return scan.finish()


async def _choose(
    archive: Archive, new: Index, records: Iterable[InstanceRecord], report: ReindexReport
) -> list[InstanceRecord]:
    """One object for each SOP instance, the other ones are named."""
    chosen: dict[str, InstanceRecord] = {}
    superseded: dict[str, None] = {}
    for record in records:
        rival = chosen.setdefault(record.sop_instance_uid, record)
        if rival is record:
            continue
        if await _prevails(archive, record, rival):
            chosen[record.sop_instance_uid] = record
            superseded[rival.object_key] = None
        else:
            superseded[record.object_key] = None
    # Those of earlier blocks.
    for uid, stored in (await new.get(list(chosen))).items():
        record = chosen[uid]
        if await _prevails(archive, record, stored):
            superseded[stored.object_key] = None
        else:
            superseded[record.object_key] = None
            del chosen[uid]
    for key in superseded:
        report.superseded.add(key, "another object of its SOP instance is the one that counts")
    return list(chosen.values())


async def _prevails(archive: Archive, record: StoredInstance, rival: StoredInstance) -> bool:
    """Which of two objects of one SOP instance was acknowledged last.

    A distinct key is made when the plain one is taken: by the object that is being
    replaced, or by one that was never acknowledged.  Either way the distinct one is
    right.  Of two distinct ones, the one that was written last.
    """
    key, other = record.object_key, rival.object_key
    if is_distinct(key) != is_distinct(other):
        return is_distinct(key)
    try:
        times = await archive.store.stored_at(key), await archive.store.stored_at(other)
    except KeyError:
        return False  # nothing may be removed meanwhile, and something was
    return (times[0], key) > (times[1], other)


async def _exists(archive: Archive, stored: StoredInstance) -> bool:
    try:
        async with await archive.open(stored):
            return True
    except KeyError:
        return False
    except StorageError:
        return True  # it cannot be read now; that is no reason to forget it


async def _seen_again(archive: Archive, new: Index, report: ReindexReport) -> None:
    """What the old index knew and no object told: carried over if its object is there, and cannot
    be read, else forgotten."""
    async with archive.index.instances() as blocks:
        async for block in blocks:
            known = await new.get([stored.sop_instance_uid for stored in block])
            unreadable: list[str] = []

            async def look(
                stored: StoredInstance,
                known: Mapping[str, StoredInstance] = known,
                unreadable: list[str] = unreadable,
            ) -> None:
                uid = stored.sop_instance_uid
                if uid in known:
                    return
                if await _exists(archive, stored):
                    unreadable.append(uid)
                    report.carried.add(uid, stored.object_key)
                else:
                    report.forgotten.add(uid, "its object is gone")

            await _for_each(block, look)
            if unreadable:
                carried = (await archive.index.records(unreadable)).values()
                await new.add([await _as_stored(archive, record) for record in carried])


async def _as_stored(archive: Archive, record: InstanceRecord) -> InstanceRecord:
    try:
        return replace(record, stored_at=await archive.store.stored_at(record.object_key))
    except (KeyError, StorageError):
        return replace(record, stored_at=0.0)


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
