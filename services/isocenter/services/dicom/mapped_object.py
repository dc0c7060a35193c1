"""Data set in memory, or mapped, as an object that can be sent."""

from __future__ import annotations

from typing import Self

import trio

from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject


def mapped_object(
    data: memoryview, transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str
) -> DicomObject:
    """The object whose data set *data* is, good while that is."""

    async def open_object() -> ObjectReader:
        await trio.lowlevel.checkpoint()
        return _View(data)

    return DicomObject(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        open=open_object,
        name=sop_instance_uid,
    )


class _View:
    """Bytes in memory or mapped, as an `ObjectReader`."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(self._data[offset : offset + length])

    view = read

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
