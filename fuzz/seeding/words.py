"""The dictionaries of the targets, from the engine's own tables."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from corpora import write_words
from playing import FIND

from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.dimse.message_fields import FIELDS, MESSAGES
from isocenter.engine.dimse.status import Status
from isocenter.engine.pdu import PduType
from isocenter.engine.uid import (
    APPLICATION_CONTEXT,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.archive.index.attributes import ATTRIBUTES, REQUEST_ATTRIBUTES, Level
from isocenter.services.dicom.pixels.rendering.elements import DISPLAY_ELEMENTS
from isocenter.services.service_classes.worklist.order_fields import FIELDS as FIELDS_OF_ORDERS

_SYNTAXES: Final = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


def _uid_words() -> set[bytes]:
    return {uid.encode() for uid in (APPLICATION_CONTEXT, VERIFICATION, FIND, *_SYNTAXES)}


def _pdu_words() -> set[bytes]:
    """Beginnings of PDUs and of items (PS3.8 9.3, PS3.7 D.3.3)."""
    items = (0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A))
    return {bytes((pdu_type, 0, 0, 0, 0)) for pdu_type in PduType} | {
        bytes((item, 0, 0)) for item in items
    }


def _command_words() -> set[bytes]:
    """Headers of elements, command fields and statuses."""
    elements = {struct.pack("<HHI", 0, field.element, 2) for field in FIELDS.values()}
    elements |= {struct.pack("<HHI", 0, element, 2) for element in (0x0000, 0x0100, 0x0800)}
    fields = {struct.pack("<HHIH", 0, 0x0100, 2, rule.command_field) for rule in MESSAGES}
    types = {struct.pack("<HHIH", 0, 0x0800, 2, value) for value in (0x0101, 0x0001)}
    return elements | fields | types | {struct.pack("<H", status) for status in Status}


_DATA_SET_TAGS: Final = (
    0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD, 0x0008_0005, 0x0008_0018, 0x0008_1140, 0x0009_0010,
    0x0009_1001, 0x0010_0010, 0x0028_0010, 0x0028_0103, 0x0028_0106, 0x0040_0275, 0x7FE0_0010,
)  # fmt: skip


def _data_set_words() -> set[bytes]:
    vrs = {vr.encode() for vr in LONG_VRS | SHORT_VRS}
    tags = {
        struct.pack(sign + "HH", tag >> 16, tag & 0xFFFF) for tag in _DATA_SET_TAGS for sign in "<>"
    }
    odd_vrs = {b"??", b"  ", b"\0\0", b"un", b"sq", b"lo", b"XX"}
    return vrs | odd_vrs | tags | {b"\xff\xff\xff\xff", b"ISOCENTER "}


def _text_words() -> set[bytes]:
    terms = (
        "ISO_IR 100",
        "ISO_IR 13",
        "ISO 2022 IR 87",
        "ISO 2022 IR 149",
        "ISO_IR 192",
        "GB18030",
    )
    escapes = (b"\x1b$B", b"\x1b(B", b"\x1b(J", b"\x1b$)C", b"\x1b-A", b"\x1b$(D")
    return {term.encode() for term in terms} | set(escapes)


def _attribute_words() -> set[bytes]:
    tags = [attribute.tag for attribute in ATTRIBUTES] + [*REQUEST_ATTRIBUTES, 0x0008_0052]
    words = {struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags}
    return (
        words | {level.value.encode() for level in Level} | {b"*", b"?", b"-", b'""', b"\\", b"^="}
    )


def _entry_words() -> set[bytes]:
    """Of text dumps and of JSON."""
    marks = (
        b"(fffe,e000) -\n",
        b"(fffe,e00d) -\n",
        b"(fffe,e0dd) -\n",
        b"[",
        b"]",
        b"#",
        b"{",
        b"}",
    )
    names = {f'"{name}": '.encode() for name in (*FIELDS_OF_ORDERS, "attributes", "vr", "Value")}
    tags = {f"({path[1:5]},{path[6:10]}) ".encode() for path in FIELDS_OF_ORDERS.values()}
    return names | tags | set(marks)


_WORDS: Final[Mapping[str, Callable[[], set[bytes]]]] = {
    "acceptor": lambda: _pdu_words() | _command_words() | _uid_words(),
    "codestreams": lambda: (
        {bytes((0xFF, marker)) for marker in (*range(0xC0, 0x100), 0x4F, 0x51, 0x52, 0x90)}
        | {b"jP  ", b"jp2c", b"JXL ", b"jxlc", b"jxlp", b"Adobe\0", b"JFIF\0"}
    ),
    "entries": lambda: _data_set_words() | _entry_words() | _text_words(),
    "file_meta": lambda: (
        _uid_words()
        | {b"DICM"}
        | {struct.pack("<HH", 2, element) for element in (0, 1, 2, 3, 0x10, 0x12, 0x13, 0x16)}
        | {vr.encode() for vr in LONG_VRS | SHORT_VRS}
    ),
    "frames": lambda: _data_set_words() | {b"\xff\xd8\xff", b"\xff\xd9", b"\xe0\x7f\1\0"},
    "framing": lambda: _pdu_words() | {struct.pack(">IBB", 2, 1, n) for n in range(4)},
    "http": lambda: (
        {b"\r\n--b\r\n", b"--b--", b"\r\n\r\n", b" HTTP/1.1\r\n", b"Host: x\r\n"}
        | {b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue"}
        | {b"multipart/related", b'; type="', b"; q=", b"bytes=", b"%2F", b"%2e%2e", b"/studies/"}
        | {bytes((0, 0, length, kind, 5, 0, 0, 0, 1)) for length in (0, 4) for kind in range(10)}
    ),
    "identifiers": lambda: _data_set_words() | _attribute_words() | _text_words(),
    "messages": _command_words,
    "models": lambda: (
        _data_set_words()
        | {
            b'{"',
            b'"vr":"',
            b'"Value":[',
            b'"InlineBinary":"',
            b'"BulkDataURI":"',
            b'"Alphabetic":"',
        }
        | {b"null", b"NaN", b"<DicomAttribute ", b"<Value>", b"<Item>", b"<PersonName>"}
        | {b"<InlineBinary>", b'privateCreator="', b'tag="', b'number="', b"<!DOCTYPE", b"&#0;"}
    ),
    "shared": lambda: {
        b"urn:oid:1.2",
        b"urn:dicom:uid|",
        b"Patient/",
        b"&",
        b"=",
        b",",
        b"ge",
        b"T10:15:00Z",
        b"<s:Body>",
        b"</s:Body>",
        b"<!DOCTYPE",
        b"&#0;",
        b"--b",
        b"\r\n\r\n",
        b'"url":"',
        b"..",
        b'"entry":[',
        b"DocumentReference/",
        b"\x08\x00\x90\x11UR",
        b"\x20\x00\x0d\x00UI",
    },
    "payloads": lambda: (
        {bytes((0xFF, marker)) for marker in (*range(0xC0, 0x100), 0x4F, 0x51, 0x52, 0x90)}
        | {b"ftyp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"hdlr", b"mdhd"}
        | {b"avc1", b"avcC", b"hvc1", b"hvcC", b"jp2c", b"Exif\0\0", b"\0\0\1\xb3", b"\0\0\1\0"}
        | {b"<!ENTITY", b"<id ", b"urn:hl7-org:v3", b"facet", b"solid", b"%PDF-"}
    ),
    "pdus": lambda: _pdu_words() | _uid_words(),
    "pictures": lambda: (
        _data_set_words()
        | {b"MONOCHROME1 ", b"PALETTE COLOR ", b"YBR_FULL", b"RGB ", b"SIGMOID ", b"POLYGONAL "}
        | {struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in DISPLAY_ELEMENTS}
    ),
    "reader": _data_set_words,
    "records": lambda: _data_set_words() | _attribute_words() | _text_words(),
    "reencoder": _data_set_words,
    "requestor": lambda: _pdu_words() | _command_words() | _uid_words(),
    "scanner": _data_set_words,
    "stray_meta": lambda: _data_set_words() | {b"\2\0\x10\0", b"\0\2\0\x10", b"\2\0\0\0"},
    "validation": _data_set_words,
    "worklist": lambda: _data_set_words() | _attribute_words() | _text_words(),
    "values": lambda: {bytes((1, number)) for number in range(12)},
}


def dictionary(name: str) -> str:
    """The text of the dictionary of a target."""
    return write_words(_WORDS[name]())
