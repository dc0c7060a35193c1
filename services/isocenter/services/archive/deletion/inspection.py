"""Inspection of the trash folder: contents that can be restored, or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from isocenter.engine.dataset import FILE_HEAD_LENGTH, DataSetError, read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.deletion.ports import (
    OF_ANY_CAUSE,
    DeletionRecord,
    TrashBook,
    TrashChoice,
    TrashContent,
    TrashedInstance,
    TrashFiles,
)
from isocenter.services.archive.deletion.records import DeletionCause
from isocenter.services.archive.deletion.values import Adopted
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.archive.stored_scan import scan_object
from isocenter.services.errors import StorageError

SECONDS_A_DAY: Final = 86_400.0
#: Objects that are looked at in one question to the book.
_AT_ONCE: Final = 1_000
_ALL: Final = TrashChoice(causes=OF_ANY_CAUSE)


async def verify(book: TrashBook, files: TrashFiles) -> CountedFindings:
    """See `Trash.verify`."""
    found = CountedFindings()
    after = 0
    while rows := await book.chosen(_ALL, after=after, limit=_AT_ONCE):
        after = rows[-1].number
        for row in rows:
            stored = row.stored
            try:
                async with await files.open(row.deletion_id, stored.object_key) as reader:
                    size = reader.size
            except (KeyError, StorageError) as error:
                if await _is_kept(book, row):
                    reason = "its file is gone" if isinstance(error, KeyError) else str(error)
                    found.add(stored.sop_instance_uid, reason)
                continue
            if size != stored.size:
                reason = f"{size} bytes instead of {stored.size}"
                found.add(stored.sop_instance_uid, reason)
    return found


async def _is_kept(book: TrashBook, row: TrashedInstance) -> bool:
    """Whether it was not restored or purged just now."""
    now = await book.chosen(_ALL, after=row.number - 1, limit=1)
    return bool(now) and now[0].number == row.number


async def adopt(
    archive: Archive,
    book: TrashBook,
    files: TrashFiles,
    content: TrashContent,
    deletion: DeletionRecord,
    done: Adopted,
) -> None:
    """Take up what lies in one folder of the trash and is not in the book."""
    if not content.keys:
        chosen = TrashChoice(deletion_ids=(content.deletion_id,), causes=OF_ANY_CAUSE)
        rows = await book.chosen(chosen, limit=1)
        if not rows:  # a command ended before it had deleted anything
            await files.end(content.deletion_id)
        return
    found: list[InstanceRecord] = []
    for key in content.keys:
        try:
            async with await files.open(content.deletion_id, key) as reader:
                meta = read_file_meta(await reader.read(0, FILE_HEAD_LENGTH))
                scanned = await scan_object(archive, reader, meta)
        except (KeyError, StoreError, DataSetError, StorageError) as error:
            done.damaged.add(key, str(error))
            continue
        found.append(
            scanned.record(
                transfer_syntax_uid=meta.transfer_syntax_uid,
                data_set_offset=meta.data_set_offset,
                object_key=key,
            )
        )
    done.instances += await book.adopt(deletion, found)


def manifest_of(deletion: DeletionRecord) -> bytes:
    """What lies beside the files of a deletion, should the index be lost."""
    return orjson.dumps(
        {
            "deletion": deletion.deletion_id,
            "at": deletion.at,
            "purge_at": deletion.purge_at,
            "cause": deletion.cause.value,
            "actor": deletion.actor,
            "reason": deletion.reason,
        }
    )


def deletion_of(content: TrashContent, now: float, keep_days: float) -> DeletionRecord:
    """What the manifest says; without a sound one, something that keeps the files for a time."""
    unknown = DeletionRecord(
        deletion_id=content.deletion_id,
        cause=DeletionCause.REQUESTED,
        at=now,
        purge_at=now + keep_days * SECONDS_A_DAY,
        actor="",
        reason="not known: found in the folder of the trash",
    )
    try:
        values = orjson.loads(content.manifest)
        return replace(
            unknown,
            at=float(values["at"]),
            purge_at=float(values["purge_at"]),
            cause=DeletionCause(values["cause"]),
            actor=str(values["actor"]),
            reason=str(values["reason"]),
        )
    except (ValueError, KeyError, TypeError):
        return unknown
