"""Images of open files: read from their mapping, without opening them again."""

from __future__ import annotations

from typing import Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_set_file import DataSetFile
from isocenter.services.dicom.object_reader import ObjectReader


@dataclass(frozen=True, slots=True)
class MappedImage:
    """An open data set, as `open_image` and `open_renderer` take it; good while it is open."""

    file: DataSetFile

    @property
    def transfer_syntax_uid(self) -> str:
        """Of the data set as it is mapped: what was deflated is inflated there."""
        file = self.file
        return EXPLICIT_VR_LITTLE_ENDIAN if file.is_inflated else file.head.transfer_syntax_uid

    @property
    def data_set_offset(self) -> int:
        """The mapping begins with the data set."""
        return 0

    async def open(self) -> ObjectReader:
        """A reader of the mapping."""
        return _MappingReader(self.file.data)


class _MappingReader:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(self._data[offset : offset + length])

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None
