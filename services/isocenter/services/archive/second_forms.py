"""Other forms of stored objects: written and published beside what the index names.

Whoever makes one has the index name it afterwards, in a transaction.  What a crash leaves of one
that nothing names, the next start takes back.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import write_file_meta
from isocenter.engine.dataset.file_meta import read_file_meta
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.object_keys import distinct_key, plain_key
from isocenter.services.archive.ports import InstanceRecord, StagedObject, StoredInstance
from isocenter.services.archive.tiers.tier import key_within
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
        object_key=distinct_key(plain_key(key_within(stored.object_key)), token),
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
    """As `published_forms`, of one."""
    async with published_forms(archive, [(staged, form)]):
        yield


@asynccontextmanager
async def published_forms(
    archive: Archive, forms: Sequence[tuple[StagedObject, StoredInstance]]
) -> AsyncIterator[None]:
    """They are durable under their keys in here, and nothing of them is left after an exception,
    unless the index names them then, or they are kept.

    Raises:
        StorageError: one of them cannot be published.
    """
    with trio.CancelScope(shield=True):
        outcomes = await archive.store.publish(
            [(staged, form.object_key) for staged, form in forms]
        )
    published = []
    failure: Exception | None = None
    for (staged, form), outcome in zip(forms, outcomes, strict=True):
        if outcome is None:
            published.append((staged, form))
        else:
            failure = outcome
            with trio.CancelScope(shield=True):
                await staged.discard()
    try:
        if failure is not None:
            raise StorageError(f"cannot publish it: {failure}")
        # Whatever was promised of objects that come: of these another form goes, or may go.
        await archive.store.sync([form.object_key for _, form in published])
        yield
    except BaseException:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await _take_back(archive, published)
        raise
    with trio.CancelScope(shield=True):
        await _settle(archive, published)


_Published = Sequence[tuple[StagedObject, StoredInstance]]


async def _take_back(archive: Archive, published: _Published) -> None:
    keys = [form.object_key for _, form in published]
    try:
        # What was to name them may have been through all the same.
        indexed = await archive.are_indexed(keys)
        await archive.store.remove(
            [key for key, is_in in zip(keys, indexed, strict=True) if not is_in]
        )
    except StorageError as error:
        log.warning("what was made in vain is left to the next start: %s", error)
        return
    await _settle(archive, published)


async def _settle(archive: Archive, published: _Published) -> None:
    if not published:
        return
    try:
        await archive.store.settle([staged for staged, _ in published])
    except StorageError as error:
        log.error(
            "another form of an object is durable, and what makes it so is left to the next "
            "start: %s",
            error,
        )
