"""Reindexing: the index made again of the objects in the store.

Like verification it needs no memory that grows with the archive, and does not end at a bad object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace

from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, read_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.object_keys import is_distinct, sop_instance_uid_of
from isocenter.services.archive.object_scan import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    StoreError,
)
from isocenter.services.archive.ports import Index, InstanceRecord, StoredInstance
from isocenter.services.archive.stored_scan import for_each, scan_object
from isocenter.services.archive.verification import VerificationProgress
from isocenter.services.errors import StorageError


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

                kept = await archive.kept(keys)
                await for_each((key for key in keys if key not in kept), look)
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

            await for_each(block, look)
            if unreadable:
                carried = (await archive.index.records(unreadable)).values()
                await new.add([await _as_stored(archive, record) for record in carried])


async def _as_stored(archive: Archive, record: InstanceRecord) -> InstanceRecord:
    try:
        return replace(record, stored_at=await archive.store.stored_at(record.object_key))
    except (KeyError, StorageError):
        return replace(record, stored_at=0.0)
