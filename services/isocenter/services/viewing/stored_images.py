"""Images of the archive, read as far as viewers need them."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import orjson
import trio

from isocenter.engine.dataset import encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.bulk_data import BulkValue, Placement
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.viewing.attribute_view import AttributeView

#: Of one value: a lookup table has at most 128 KiB.
_MOST_INLINE: Final = 1 << 20
#: A header that is read without a hop to a thread.
_SHORT: Final = 32 << 10
#: Of one object; only such of thousands of frames come near it.
_MOST_HEADER: Final = 64 << 20


async def read_attributes(archive: Archive, stored: StoredInstance) -> AttributeView:
    """The data set of an object, without pixels and other long values.

    Raises:
        KeyError: the object is not there any more.
        DataSetError: it cannot be read, or has too much.
        StorageError: the store fails.
    """
    async with await stored_object(stored, archive.open).open() as reader:
        encoding = encoding_of(stored.transfer_syntax_uid)
        header = await read_header(reader, stored.data_set_offset, encoding, _MOST_HEADER)
    if len(header.data) < _SHORT:
        return AttributeView(_model_of(header))
    return AttributeView(await trio.to_thread.run_sync(partial(_model_of, header)))


def _model_of(header: Header) -> Any:
    return orjson.loads(
        json_of(header.data, header.encoding, bulk=_placed, tolerance=Tolerance.SALVAGE)
    )


def _placed(value: BulkValue) -> Placement:
    is_short = value.end - value.start <= _MOST_INLINE
    return Placement.INLINE if is_short else Placement.LEFT_OUT
