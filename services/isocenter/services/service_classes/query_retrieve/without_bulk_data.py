"""Objects without their bulk data, as they are retrieved (PS3.4 Z.1.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from isocenter.engine.dataset import encoding_of
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    UNCOMPRESSED,
)
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject, MemoryReader

#: What an object may have beside its pixels: it is held.
MOST_BYTES: Final = 64 << 20

#: Table Z.1-1.
_LEFT_OUT: Final = frozenset(
    {0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0, 0x56000020, 0x00420011}
)
#: The same of repeating groups: 60xx and 50xx.
_LEFT_OUT_OF_OVERLAYS: Final = frozenset({0x3000})
_LEFT_OUT_OF_CURVES: Final = frozenset({0x3000, 0x200C})
#: Of no use without the pixels whose fragments they point to.
_OFFSET_TABLES: Final = frozenset({0x7FE00001, 0x7FE00002})
_WAVEFORM_SEQUENCE: Final = 0x54000100
_WAVEFORM_DATA: Final = 0x54001010


@asynccontextmanager
async def without_bulk_data(item: DicomObject) -> AsyncIterator[DicomObject]:
    """*item* without what Table Z.1-1 lists; private attributes stay.

    Its transfer syntax is that of a data set without pixels: none is compressed.

    Raises:
        DataSetError: it cannot be read, or has more beside its pixels than is held.
    """
    syntax = item.transfer_syntax_uid
    async with await item.open() as reader:
        header = await read_header(reader, item.data_set_offset, encoding_of(syntax), MOST_BYTES)
    data = await trio.to_thread.run_sync(_stripped, header)
    is_kept = syntax in UNCOMPRESSED and syntax != DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

    async def open_object() -> ObjectReader:
        return MemoryReader(data)

    yield replace(
        item,
        transfer_syntax_uid=syntax if is_kept else EXPLICIT_VR_LITTLE_ENDIAN,
        open=open_object,
        data_set_offset=0,
        digest="",
    )


def is_left_out(tag: int) -> bool:
    """Whether an attribute of the data set itself is bulk data (Table Z.1-1)."""
    group, element = tag >> 16, tag & 0xFFFF
    if group & 0xFF01 == 0x6000:
        return element in _LEFT_OUT_OF_OVERLAYS
    if group & 0xFF01 == 0x5000:
        return element in _LEFT_OUT_OF_CURVES
    return tag in _LEFT_OUT or tag in _OFFSET_TABLES


def _stripped(header: Header) -> bytes:
    tree = DataSetTree(memoryview(header.data), header.encoding)
    for node in list(tree.root.elements):
        if is_left_out(node.tag):
            tree.root.erase(node)
    for sequence in tree.root.all(_WAVEFORM_SEQUENCE):
        for item in sequence.items or ():
            for node in item.all(_WAVEFORM_DATA):
                item.erase(node)
    tree.mend_group_lengths()
    return b"".join(map(bytes, tree.pieces()))
