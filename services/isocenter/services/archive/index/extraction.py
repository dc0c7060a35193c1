"""Extraction of an index record from scanned elements.

Part of every C-STORE, so the usual value (ASCII, one value, no control characters)
takes the short way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeGuard

import orjson

from isocenter.engine.dataset import ElementScanner, Encoding, Fragments, ScannedItem, ScannedValue
from isocenter.services.archive.index.attributes import ATTRIBUTES, REQUEST_ATTRIBUTES, STORED_TAGS
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    character_set_of,
    decode_numbers,
    decode_text,
)

SPECIFIC_CHARACTER_SET: Final = 0x00080005
REQUEST_ATTRIBUTES_SEQUENCE: Final = 0x00400275
#: Not kept: that it is there says that an object is signed.  It stands before the pixels, the
#: signatures behind them.
MAC_PARAMETERS: Final = 0x4FFE0001

#: What the scanner shall take, and which of it are sequences.
SCANNED_TAGS: Final = STORED_TAGS | {SPECIFIC_CHARACTER_SET, MAC_PARAMETERS}
SCANNED_SEQUENCES: Final = frozenset(a.tag for a in ATTRIBUTES if a.vr == "SQ") | {MAC_PARAMETERS}

#: Characters of an attribute that are kept.  An LO has 64 per value; only the comments (LT,
#: 10,240) and what breaks the standard are longer, and neither is worth more in an index.
MAX_TEXT_LENGTH: Final = 1024
#: Bytes that are decoded for them: the widest encodings take four, escape sequences more.
_MAX_RAW_LENGTH: Final = 8 * MAX_TEXT_LENGTH
#: Items of a sequence that are kept; a series seldom answers more than a few requests.
MAX_ITEMS: Final = 32

#: TAB, LF, FF and CR may be in text of these (PS3.5 6.1.3); elsewhere they are noise.
_LINES_VRS: Final = frozenset(["LT", "ST", "UT"])
_LINE_CONTROLS: Final = frozenset(b"\t\n\f\r")
_CONTROLS: Final = bytes([*range(0x20), 0x7F])
_CONTROLS_IN_LINES: Final = bytes(c for c in _CONTROLS if c not in _LINE_CONTROLS)
_CONTROL_TEXT: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_CONTROL_TEXT_IN_LINES: Final = {c: None for c in _CONTROL_TEXT if c not in _LINE_CONTROLS}
_ESC: Final = b"\x1b"

#: Values that are remembered when they were cleaned: not longer, and not more.
_SHORT: Final = 64
_SHORT_KEPT: Final = 2048

_VR: Final = {a.tag: a.vr for a in ATTRIBUTES if not a.computed}
#: Taken as they are, so that what makes a UID unsafe is still there to be seen.
_UID_VR: Final = "UI"


def attributes_of(
    values: Mapping[int, ScannedValue], encoding: Encoding, undeclared: tuple[str, ...] = ()
) -> dict[int, str]:
    """The attributes of an `InstanceRecord`: tag → text, without those that have no value.

    Text is decoded, freed of padding and control characters and cut at `MAX_TEXT_LENGTH`;
    numbers are decimal; (0040,0275) is JSON (see `attributes.REQUEST_ATTRIBUTES`).
    UIDs are text like any other: whoever makes names of them has to check them.

    Args:
        values: as `ElementScanner.values` holds them for `SCANNED_TAGS`.
        encoding: of the data set they come from.
        undeclared: the character set of text for which none is declared.
    """
    raw_set = values.get(SPECIFIC_CHARACTER_SET)
    declared = raw_set if type(raw_set) is bytes else None
    character_set = character_set_of(declared, undeclared)
    attributes = {}
    for tag, raw in values.items():
        vr = _VR.get(tag)
        if vr is None or not raw:
            continue
        if vr == "SQ":
            text = _request_attributes(raw, character_set, undeclared)
        elif type(raw) is not bytes:
            continue
        elif vr in NUMBER_VRS:
            text = decode_numbers(raw[:MAX_TEXT_LENGTH], vr, big_endian=encoding.big_endian)
        elif len(raw) <= _SHORT:
            text = _clean_short_text(raw, vr, character_set)
        else:
            text = clean_text(raw, vr, character_set)
        if text:
            attributes[tag] = text
    return attributes


def values_at(
    scanner: ElementScanner,
    encoding: Encoding,
    places: Iterable[TagOrPath],
    attributes: Mapping[int, str],
    undeclared: tuple[str, ...] = (),
) -> dict[TagOrPath, str]:
    """What rules look at, as text: like `attributes_of`, and as `attributes` has it already."""
    values = scanner.values
    raw_set = values.get(SPECIFIC_CHARACTER_SET)
    declared = raw_set if isinstance(raw_set, bytes) else None
    character_set = character_set_of(declared, undeclared)
    found: dict[TagOrPath, str] = {}
    for place in places:
        if isinstance(place, int):
            text = attributes.get(place)
            if text is None:
                vr = scanner.vrs.get(place) or dictionary_vr(place)
                text = _text_of(values.get(place), vr, character_set, encoding)
        else:
            steps, tag = place
            item: ScannedItem | None = values
            terms = character_set
            for sequence, number in steps:
                items = None if item is None else item.get(sequence)
                item = items[number] if _is_items(items) and number < len(items) else None
                own = None if item is None else item.get(SPECIFIC_CHARACTER_SET)
                terms = character_set_of(own, undeclared) if isinstance(own, bytes) else terms
            text = (
                "" if item is None else _text_of(item.get(tag), dictionary_vr(tag), terms, encoding)
            )
        if text:
            found[place] = text
    return found


def _is_items(value: ScannedValue | None) -> TypeGuard[tuple[ScannedItem, ...]]:
    return isinstance(value, tuple) and not isinstance(value, Fragments)


def _text_of(
    raw: ScannedValue | None, vr: str, character_set: tuple[str, ...], encoding: Encoding
) -> str:
    if not isinstance(raw, bytes):
        return ""
    if vr in NUMBER_VRS:
        return decode_numbers(raw[:MAX_TEXT_LENGTH], vr, big_endian=encoding.big_endian)
    return clean_text(raw, vr, character_set)


def clean_text(raw: bytes, vr: str, character_set: tuple[str, ...]) -> str:
    """One value of a text VR as the index keeps it."""
    if len(raw) > _MAX_RAW_LENGTH:
        raw = raw[:_MAX_RAW_LENGTH]
    if vr == _UID_VR:
        return decode_text(raw, vr)[:MAX_TEXT_LENGTH]
    in_lines = vr in _LINES_VRS
    if raw.isascii() and _ESC not in raw:
        raw = raw.translate(None, _CONTROLS_IN_LINES if in_lines else _CONTROLS)
        text = decode_text(raw, vr)
    else:
        # Escape sequences are gone only once the text is decoded.
        text = decode_text(raw, vr, character_set)
        if not text.isprintable():
            text = text.translate(_CONTROL_TEXT_IN_LINES if in_lines else _CONTROL_TEXT)
            text = text.strip() if not in_lines else text
    return text if len(text) <= MAX_TEXT_LENGTH else text[:MAX_TEXT_LENGTH].rstrip()


#: Nearly all values of an object are those of the one before it in its series.
_clean_short_text: Final = lru_cache(_SHORT_KEPT)(clean_text)


def _request_attributes(
    value: ScannedValue, character_set: tuple[str, ...], undeclared: tuple[str, ...]
) -> str:
    if isinstance(value, bytes | Fragments):
        return ""  # a UN that holds no items
    items = []
    for item in value[:MAX_ITEMS]:
        own = item.get(SPECIFIC_CHARACTER_SET)
        item_set = character_set_of(own, undeclared) if isinstance(own, bytes) else character_set
        kept = {}
        for tag, vr in REQUEST_ATTRIBUTES.items():
            raw = item.get(tag)
            if isinstance(raw, bytes) and raw:
                text = clean_text(raw, vr, item_set)
                if text:
                    kept[f"{tag:08X}"] = text
        if kept:
            items.append(kept)
    return orjson.dumps(items).decode() if items else ""
