"""Other forms of stored objects: written and published beside what the index names.

Whoever makes one has the index name it afterwards, in a transaction.  What a crash leaves of one
that nothing names, the next start takes back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import write_file_meta
from isocenter.engine.dataset.file_meta import read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_keys import distinct_key, plain_key
from isocenter.services.archive.ports import InstanceRecord, StagedObject, StoredInstance
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.storage")

_HEAD_BYTES: Final = 64 << 10
#: How long taking back may take when the server stops.
GOODBYE_SECONDS: Final = 5.0
_SOURCE_AE_TITLE: Final = 0x00020016


async def write_form(
    archive: Archive,
    stored: StoredInstance,
    staged: StagedObject,
    transfer_syntax_uid: str,
    parts: AsyncGenerator[Buffer, None],
    token: str,
) -> InstanceRecord:
    """Write another form of *stored*; what the index is to say of it.

    Args:
        parts: its data set.
        token: eight new hexadecimal digits, for its key.

    Raises:
        StoreError: it is no object, or another one.
        StorageError: it cannot be written.
    """
    header = write_file_meta(
        sop_class_uid=stored.sop_class_uid,
        sop_instance_uid=stored.sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        source_ae_title=await _source_of(archive, stored),
    )
    scan = archive.intake.scan(transfer_syntax_uid)
    await staged.write([header])
    async with aclosing(parts):
        async for part in parts:
            await trio.to_thread.run_sync(scan.feed, part)
            await staged.write([part])
            archive.room.check_disk()
    scanned = scan.finish()
    scanned.check_identity(stored.sop_class_uid, stored.sop_instance_uid, archive.intake.uids)
    return scanned.record(
        transfer_syntax_uid=transfer_syntax_uid,
        data_set_offset=len(header),
        object_key=distinct_key(plain_key(stored.object_key), token),
    )


def stored_of(record: InstanceRecord) -> StoredInstance:
    """A record without what it says."""
    return StoredInstance(
        **{name: getattr(record, name) for name in StoredInstance.__dataclass_fields__}
    )


async def _source_of(archive: Archive, stored: StoredInstance) -> str:
    async with await archive.open(stored) as reader:
        meta = read_file_meta(await reader.read(0, min(stored.data_set_offset, _HEAD_BYTES)))
    return meta.elements.get(_SOURCE_AE_TITLE, b"").decode("ascii", "replace").strip(" \0")


@asynccontextmanager
async def published_form(
    archive: Archive, staged: StagedObject, form: StoredInstance
) -> AsyncIterator[None]:
    """It is durable under its key in here, and nothing of it is left after an exception, unless
    the index names it then, or it is kept.

    Raises:
        StorageError: it cannot be published.
    """
    with trio.CancelScope(shield=True):
        (outcome,) = await archive.store.publish([(staged, form.object_key)])
    if outcome is not None:
        with trio.CancelScope(shield=True):
            await staged.discard()
        raise StorageError(f"cannot publish it: {outcome}")
    try:
        yield
    except BaseException:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await _take_back(archive, staged, form)
        raise
    with trio.CancelScope(shield=True):
        await _settle(archive, staged)


async def _take_back(archive: Archive, staged: StagedObject, form: StoredInstance) -> None:
    try:
        # What was to name it may have been through all the same.
        if not (await archive.are_indexed([form.object_key]))[0]:
            await archive.store.remove([form.object_key])
    except StorageError as error:
        log.warning("what was made in vain is left to the next start: %s", error)
        return
    await _settle(archive, staged)


async def _settle(archive: Archive, staged: StagedObject) -> None:
    try:
        await archive.store.settle([staged])
    except StorageError as error:
        log.error(
            "another form of an object is durable, and what makes it so is left to the next "
            "start: %s",
            error,
        )
