"""Objects of the archive as `DicomObject`: what retrieval and forwarding send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from isocenter.engine.dataset.file_meta import is_file_meta_of, read_file_meta
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject

#: More than two File Meta Informations of ours can differ in length: two UIDs and an AE title.
_META_MARGIN: Final = 160


def stored_object(
    stored: StoredInstance,
    open_stored: Callable[[StoredInstance], Awaitable[ObjectReader]],
) -> DicomObject:
    """The object that the index calls *stored*; *open_stored* opens its bytes.

    Opening it raises `KeyError` when another object has taken its place since.
    """

    async def open_object() -> ObjectReader:
        reader = await open_stored(stored)
        try:
            await _check_same(reader, stored)
        except BaseException:
            await reader.__aexit__(None, None, None)
            raise
        return reader

    return DicomObject(
        sop_class_uid=stored.sop_class_uid,
        sop_instance_uid=stored.sop_instance_uid,
        transfer_syntax_uid=stored.transfer_syntax_uid,
        open=open_object,
        data_set_offset=stored.data_set_offset,
        name=stored.sop_instance_uid,
        digest=stored.digest,
    )


async def _check_same(reader: ObjectReader, stored: StoredInstance) -> None:
    """Another object may have taken the place of the one that was found, under its very key.

    Raises:
        KeyError: so it is; its data set would be sent in the wrong transfer syntax or cut wrong.
    """
    if not stored.data_set_offset:
        return
    if reader.size == stored.size:
        head = await reader.read(0, stored.data_set_offset + _META_MARGIN)
        # Nearly always it is what we wrote, which costs less to compare than to read.
        if is_file_meta_of(
            head,
            stored.sop_class_uid,
            stored.sop_instance_uid,
            stored.transfer_syntax_uid,
            stored.data_set_offset,
        ) or _says(head, stored):
            return
    raise KeyError("another object has taken its place")


async def has_header_of(reader: ObjectReader, stored: StoredInstance) -> bool:
    """Whether an object of the archive begins with what the index says of *stored*.

    Raises:
        DataSetError: it begins with no File Meta Information.
        StorageError: it cannot be read.
    """
    # A little more than the File Meta Information of *stored*: longer ones are seen.
    return _says(await reader.read(0, stored.data_set_offset + _META_MARGIN), stored)


def _says(head: bytes, stored: StoredInstance) -> bool:
    meta = read_file_meta(head)
    return (
        meta.transfer_syntax_uid,
        meta.data_set_offset,
        meta.media_storage_sop_class_uid,
        meta.media_storage_sop_instance_uid,
    ) == (
        stored.transfer_syntax_uid,
        stored.data_set_offset,
        stored.sop_class_uid,
        stored.sop_instance_uid,
    )
