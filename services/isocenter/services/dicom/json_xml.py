"""Native DICOM Model (PS3.19 A.1) of objects of DICOM JSON (PS3.18 F).

Whatever the JSON says is written, also values that no data set can have: there are no bytes
between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from isocenter.services.dicom.scope import is_private_creator
from isocenter.services.dicom.xml_writer import (
    GROUPS,
    INFINITIES,
    NAMESPACE,
    RETURN,
    name_xml,
    standard_head,
    writable,
)

_NUMBERS: Final = frozenset(("FL", "FD"))


def xml_of_json(item: Mapping[str, Any]) -> bytes:
    """The XML document of a DICOM JSON object, in UTF-8."""
    begin = f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', begin]
    _write(item, parts)
    parts.append("</NativeDicomModel>")
    return "".join(parts).encode("utf-8", "replace")


def _write(item: Mapping[str, Any], parts: list[str]) -> None:
    #: Group and creator → the first of the blocks that it has there.
    blocks: dict[tuple[int, str], int] = {}
    for name in sorted(item):
        element = item[name]
        head = _head(int(name, 16), element["vr"], item, blocks)
        inner: list[str] = []
        _write_values(element, inner)
        if inner:
            parts += [f"<DicomAttribute {head}>", *inner, "</DicomAttribute>"]
        else:
            parts.append(f"<DicomAttribute {head}/>")


def _head(tag: int, vr: str, item: Mapping[str, Any], blocks: dict[tuple[int, str], int]) -> str:
    """As `XmlWriter` writes it: private elements with their creator, and most without a block."""
    if not tag & 0x10000:
        return standard_head(tag, vr)
    group, block = tag >> 16, tag >> 8 & 0xFF
    said = item.get(f"{group:04X}00{block:02X}", {}).get("Value")
    if is_private_creator(tag) or not said:
        return f'tag="{tag:08X}" vr="{vr}"'
    creator = writable(str(said[0]))
    if blocks.setdefault((group, creator), block) == block:
        tag &= 0xFFFF00FF
    return f'tag="{tag:08X}" vr="{vr}" privateCreator={quoteattr(creator, RETURN)}'


def _write_values(element: Mapping[str, Any], parts: list[str]) -> None:
    vr = element["vr"]
    if "BulkDataURI" in element:
        parts.append(f"<BulkData uri={quoteattr(element['BulkDataURI'])}/>")
    elif "InlineBinary" in element:
        parts.append(f"<InlineBinary>{escape(element['InlineBinary'])}</InlineBinary>")
    for number, value in enumerate(element.get("Value", ()), 1):
        if vr == "SQ":
            parts.append(f'<Item number="{number}">')
            _write(value or {}, parts)
            parts.append("</Item>")
        elif vr == "PN":
            groups = value if isinstance(value, dict) else {}
            inner = name_xml([(name, groups.get(name, "")) for name in GROUPS], _escaped)
            parts.append(f'<PersonName number="{number}">{inner}</PersonName>')
        else:
            text = _text(vr, value)
            parts.append(
                f'<Value number="{number}">{text}</Value>'
                if text
                else f'<Value number="{number}"/>'
            )


def _text(vr: str, value: object) -> str:
    if value is None:
        return ""
    text = str(value)
    return INFINITIES.get(text, text) if vr in _NUMBERS else _escaped(text)


def _escaped(text: str) -> str:
    return escape(writable(text), RETURN)
