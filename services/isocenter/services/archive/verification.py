"""Verification of an archive: files and index compared, both ways.

It needs no memory that grows with the archive, and does not end at a bad object: what is wrong
is reported by object key or UID, never with an attribute value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import field

from isocenter.engine.dataset import DataSetError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.index.attributes import ATTRIBUTES
from isocenter.services.archive.object_scan import (
    ScannedObject,
    StoreError,
)
from isocenter.services.archive.ports import InstanceRecord, StoredInstance
from isocenter.services.archive.stored_objects import has_header_of
from isocenter.services.archive.stored_scan import data_set_digest, for_each, scan_stored
from isocenter.services.errors import StorageError


@dataclass(frozen=True, slots=True)
class VerificationProgress:
    """How far it is: objects done, of how many (None: nobody knows), and bytes read."""

    done: int
    total: int | None
    size: int


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
            await for_each(block, check)

    async with aclosing(archive.originals()) as originals:
        async for original in originals:
            if (fault := await verify_original(archive, original, report, checksums)) is not None:
                _name(report, original, fault)

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
    """Read one object; what is wrong with it, or None.

    Raises:
        StorageError: the store cannot be asked at all now, or has too much to do.
    """
    fault = await _examine(archive, stored, VerifyReport(), checksums=True)
    if isinstance(fault, StorageError) and fault.out_of_resources:
        raise fault
    if isinstance(fault, KeyError):
        return "its object is gone"
    return None if fault is None else str(fault)


async def verify_original(
    archive: Archive,
    original: StoredInstance,
    report: VerifyReport | None = None,
    checksums: bool = True,
) -> Exception | None:
    """Read what an object was when it came; what is wrong with it, or None."""
    try:
        await _verify_object(
            archive,
            original,
            VerifyReport() if report is None else report,
            checksums=checksums,
            record=None,
        )
    except (KeyError, _Changed) as fault:
        # It may have gone with its object, or have become that again.
        is_kept = original.object_key in await archive.kept([original.object_key])
        return fault if is_kept else None
    except StorageError as error:
        return error
    return None


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
        if now is None or (now.object_key, now.digest) != place:
            return None
        if isinstance(fault, _Differs) and await archive.is_awaited(stored.sop_instance_uid):
            return None
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
    async with await archive.open_in_place(stored) as reader:
        if reader.size != stored.size:
            raise _WrongSize(f"{reader.size} bytes instead of {stored.size}")
        if not checksums:
            return
        scanned: ScannedObject | None = None
        fault = ""
        if record is not None:
            try:
                scanned = await scan_stored(
                    archive, reader, stored.transfer_syntax_uid, stored.data_set_offset
                )
            except (DataSetError, StoreError) as error:
                fault = str(error)
        size, digest = (
            await data_set_digest(reader, stored)
            if scanned is None
            else (scanned.size, scanned.digest)
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
