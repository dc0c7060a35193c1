"""Attributes of an instance as rows of a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import orjson
import trio

from isocenter.engine.dataset import DataSetError, encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.metadata.header import Header, read_header
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.data_dictionary import name_for_tag
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.net.http.messages import HttpError

#: Rows of one page, and characters of one value on it.
_MOST_ROWS: Final = 5_000
_MOST_CHARACTERS: Final = 400
_PRIVATE: Final = 0x00010000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeRow:
    """One attribute, or the beginning of an item of a sequence.

    Attributes:
        depth: of the sequences that it is in.
        tag: eight hexadecimal digits; empty: an item.
        bulk: its path below ``bulkdata/``; empty: its value stands here.
    """

    depth: int
    tag: str
    name: str
    vr: str = ""
    text: str = ""
    bulk: str = ""


async def attribute_rows(
    opened: Callable[[], Awaitable[ObjectReader]], stored: StoredInstance
) -> list[AttributeRow]:
    """The rows of an instance, as many as a page holds.

    Args:
        opened: opens its file, wherever that lies.

    Raises:
        HttpError: it is gone (410), or cannot be read (406).
    """
    try:
        async with await opened() as reader:
            encoding = encoding_of(stored.transfer_syntax_uid)
            header = await read_header(reader, stored.data_set_offset, encoding)
    except KeyError:
        raise HttpError(410, "GONE", "the object is not there any more") from None
    except DataSetError as error:
        raise HttpError(406, "NOT_SHOWN", f"the data set cannot be read: {error}") from error
    return await trio.to_thread.run_sync(partial(_rows_of, header))


def _rows_of(header: Header) -> list[AttributeRow]:
    text = json_of(
        header.data,
        header.encoding,
        bulk=lambda value: value.path_text,
        tolerance=Tolerance.SALVAGE,
    )
    rows: list[AttributeRow] = []
    for row in _rows(orjson.loads(text), 0):
        rows.append(row)
        if len(rows) >= _MOST_ROWS:
            break
    if header.pixel_vr:
        tag = f"{header.pixel_tag:08X}"
        rows.append(
            AttributeRow(
                depth=0,
                tag=tag,
                name=name_for_tag(header.pixel_tag),
                vr=header.pixel_vr,
                bulk=tag,
            )
        )
    return rows


def _rows(item: Mapping[str, Any], depth: int) -> Iterator[AttributeRow]:
    for key, element in item.items():
        tag = int(key, 16)
        values = element.get("Value", ())
        vr = element["vr"]
        yield AttributeRow(
            depth=depth,
            tag=key,
            name=name_for_tag(tag) or ("Private" if tag & _PRIVATE else "Unknown"),
            vr=vr,
            text="" if vr == "SQ" else _text(vr, element),
            bulk=element.get("BulkDataURI", ""),
        )
        if vr == "SQ":
            for number, one in enumerate(values, 1):
                yield AttributeRow(depth=depth + 1, tag="", name=f"Item {number}")
                yield from _rows(one, depth + 1)


def _text(vr: str, element: Mapping[str, Any]) -> str:
    if "InlineBinary" in element:
        return f"{len(element['InlineBinary']) * 3 // 4:,} bytes"
    text = " \\ ".join(_value(vr, value) for value in element.get("Value", ()))
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"


def _value(vr: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return " = ".join(map(str, value.values()))
    if vr == "UI":
        name = name_of(str(value))
        return f"{value} ({name})" if name and name != value else str(value)
    return str(value)
