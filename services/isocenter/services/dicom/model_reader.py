"""Reader of the DICOM JSON model into elements, for JSON and XML.

Liberal in what is taken: numbers as strings and strings as numbers, names as plain text, tags and
VRs in lower case, a VR that is missing where the dictionary knows it, null in place of a value,
"NaN", "inf" and null for floats.  What cannot be meant is a `ModelError` that names the place.
"""

from __future__ import annotations

import binascii
import math
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from decimal import Decimal
from struct import Struct
from typing import Any, Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.dicom.data_dictionary import tag_for_keyword
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    UTF_8,
    CharacterSetError,
    character_set_of,
    choose_character_set,
    encode_text,
)
from isocenter.services.dicom.long_values import FileRange, LongValue, length_of
from isocenter.services.dicom.scope import SPECIFIC_CHARACTER_SET, Scope, is_private_creator

_VRS: Final = SHORT_VRS | LONG_VRS
_BINARY_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_FREE_TEXT_VRS: Final = frozenset(("LT", "ST", "UR", "UT"))
_INTEGERS: Final = {
    vr: Struct("<" + code)
    for vr, code in (("US", "H"), ("SS", "h"), ("UL", "I"), ("SL", "i"), ("UV", "Q"), ("SV", "q"))
}
_FLOATS: Final = {"FL": Struct("<f"), "FD": Struct("<d")}
_TAG_PAIR: Final = Struct("<HH")
_SPECIAL_FLOATS: Final = {
    "nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf,
    "-infinity": -math.inf, "+inf": math.inf, "+infinity": math.inf,
}  # fmt: skip
_GROUPS_OF_NAMES: Final = ("Alphabetic", "Ideographic", "Phonetic")
_LONGEST_DS: Final = 16
#: Bytes of a text that is given as bulk data; it is held while it is encoded.
MAX_BULK_TEXT: Final = 64 << 20
_META_GROUP: Final = 0x0002
#: Command set and directory: their offsets and lengths would be wrong in any other place.
_REFUSED_GROUPS: Final = {
    0x0000: "belongs into messages",
    0x0004: "belongs into a DICOMDIR, which has to be made anew",
}
_KEYS: Final = ("Value", "InlineBinary", "BulkDataURI")

#: An attribute of a model: ``vr`` and one of Value, InlineBinary, BulkDataURI.
Model = Mapping[str, Any]


class ModelError(IsocenterError):
    """A model that is none; the message names the place, and no value."""

    error_code = ErrorCode.ENCODING


class NumberText(str):
    """A number as JSON has it, digit for digit."""

    __slots__ = ()


#: Finds what a URI names; raises `ModelError` for what nobody may have.
FetchBulk = Callable[[str], bytes | FileRange]


def no_bulk(uri: str) -> bytes | FileRange:
    """For models whose bulk data cannot be had."""
    raise ModelError("its value is elsewhere (BulkDataURI), and nobody said where")


@dataclass(slots=True)
class ModelElement:
    """One element of a data set to be written, its value in little endian.

    Attributes:
        value: bytes; the items of a sequence; or where a long value lies.
        text: instead of *value*, what is not yet in the character set of the data set.
        uri: instead of *value*, of a bulk value that could not be had.
    """

    tag: int
    vr: str
    value: bytes | LongValue | list[ModelItem] = b""
    text: str | None = None
    uri: str = ""


#: Tag → element, in ascending order.
ModelItem = dict[int, ModelElement]


@dataclass(slots=True)
class ReadModel:
    """What a model says.

    Attributes:
        meta: text of the elements of group 0002, which are for the file, not the data set.
        elements: the data set.
        character_set: terms that (0008,0005) names; empty: none.
        left_open: path of each bulk value that could not be had.
    """

    meta: dict[int, str] = field(default_factory=dict)
    elements: ModelItem = field(default_factory=dict)
    character_set: tuple[str, ...] = ()
    left_open: list[str] = field(default_factory=list)


def read_model(
    model: object, *, fetch: FetchBulk = no_bulk, keeps_uris: bool = False, nesting: int = 0
) -> ReadModel:
    """The elements of a data set in the DICOM JSON Model (PS3.18 F.2).

    Args:
        fetch: finds bulk data.
        keeps_uris: what *fetch* does not find is left open.
        nesting: how many sequences may be within each other; 0: as many as the engine allows.

    Raises:
        ModelError: it is no such model.
    """
    reader = _Reader(fetch, keeps_uris, nesting or DEFAULT_LIMITS.nesting)
    return reader.read(model)


class _Reader:
    def __init__(self, fetch: FetchBulk, keeps_uris: bool, nesting: int) -> None:
        self._fetch = fetch
        self._keeps_uris = keeps_uris
        self._nesting = nesting
        self._result = ReadModel()

    def read(self, model: object) -> ReadModel:
        result = self._result
        result.elements = self._item(model, "", 0)
        declared = result.elements.get(SPECIFIC_CHARACTER_SET)
        if declared is not None and isinstance(declared.value, bytes):
            result.character_set = character_set_of(declared.value)
        return result

    def _item(self, model: object, path: str, depth: int) -> ModelItem:
        if model is None:
            return {}
        if not isinstance(model, Mapping):
            raise ModelError(f"{path or 'the data set'}: expected an object of attributes")
        attributes: dict[int, Any] = {}
        for name, attribute in model.items():
            tag = _tag_of(name, path)
            if tag in attributes:
                raise ModelError(f"{path}{tag_text(tag)} is there twice")
            attributes[tag] = attribute
        scope = Scope()
        item: ModelItem = {}
        for tag in sorted(attributes):
            if not tag & 0xFFFF and tag >> 16:
                continue  # group lengths are retired, and would be wrong
            where = path + tag_text(tag)
            refused = _REFUSED_GROUPS.get(tag >> 16)
            if refused is not None:
                raise ModelError(f"{where} {refused}")
            element = self._element(tag, attributes[tag], where, depth, scope)
            if tag >> 16 == _META_GROUP:
                if depth:
                    raise ModelError(f"{where} belongs into the head of a file")
                self._result.meta[tag] = element.text or _ascii(element.value)
                continue
            item[tag] = element
            if is_private_creator(tag):
                scope.note(tag, (element.text or "").encode("ascii", "replace"))
            elif isinstance(element.value, bytes):
                scope.note(tag, element.value)
        return item

    def _element(
        self, tag: int, attribute: object, where: str, depth: int, scope: Scope
    ) -> ModelElement:
        if not isinstance(attribute, Mapping):
            raise ModelError(f"{where}: expected an object with vr and Value")
        vr = attribute.get("vr")
        if vr is None or vr == "":
            vr = scope.vr_of(tag)
        if not isinstance(vr, str) or vr.upper() not in _VRS:
            raise ModelError(f"{where}: its vr is none of PS3.5 6.2")
        vr = vr.upper()
        given = [key for key in _KEYS if attribute.get(key) is not None]
        if len(given) > 1:
            raise ModelError(f"{where}: has {given[0]} and {given[1]}; one of them is enough")
        if not given:
            return ModelElement(tag, vr, [] if vr == "SQ" else b"")
        (key,) = given
        content = attribute[key]
        if key == "InlineBinary":
            if vr == "SQ":
                raise ModelError(f"{where}: a sequence has no InlineBinary")
            return ModelElement(tag, vr, _from_base64(content, where))
        if key == "BulkDataURI":
            return self._bulk(tag, vr, content, where)
        values = content if isinstance(content, list) else [content]
        if vr == "SQ":
            return ModelElement(tag, vr, self._items(values, where, depth))
        if vr in _BINARY_VRS and values:
            raise ModelError(f"{where}: a value of VR {vr} is InlineBinary or BulkDataURI")
        return _element_of(tag, vr, values, where)

    def _items(self, values: Sequence[object], where: str, depth: int) -> list[ModelItem]:
        if depth >= self._nesting:
            raise ModelError(f"{where}: sequences nested deeper than {self._nesting}")
        return [
            self._item(value, f"{where}[{number}].", depth + 1)
            for number, value in enumerate(values)
        ]

    def _bulk(self, tag: int, vr: str, uri: object, where: str) -> ModelElement:
        if not isinstance(uri, str):
            raise ModelError(f"{where}: its BulkDataURI is no text")
        if vr == "SQ":
            raise ModelError(f"{where}: a sequence by BulkDataURI is not taken; put its items here")
        try:
            value = self._fetch(uri)
        except ModelError as error:
            if self._keeps_uris:
                self._result.left_open.append(where)
                return ModelElement(tag, vr, uri=uri)
            raise ModelError(f"{where}: {error}") from error
        if vr in CHARACTER_SET_VRS:
            # Bulk data of these is in UTF-8 (PS3.18 F.2.2).
            if length_of(value) > MAX_BULK_TEXT:
                raise ModelError(f"{where}: a text of more than {MAX_BULK_TEXT >> 20} MiB")
            raw = value if isinstance(value, bytes) else b"".join(value.pieces())
            return ModelElement(tag, vr, text=raw.decode("utf-8", "replace").rstrip("\0"))
        return ModelElement(tag, vr, value)


def _tag_of(name: object, path: str) -> int:
    text = str(name)
    digits = text.strip("()").replace(",", "")
    if len(digits) == 8:
        try:
            return int(digits, 16)
        except ValueError:
            pass
    tag = tag_for_keyword(text) if text else None
    if tag is None:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise ModelError(f"{path}{shown!r} is no tag (eight hexadecimal digits)")
    return int(tag)


def _ascii(value: object) -> str:
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def _from_base64(content: object, where: str) -> bytes:
    if not isinstance(content, str) or isinstance(content, NumberText):
        raise ModelError(f"{where}: its InlineBinary is no text")
    text = "".join(content.split())
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ModelError(f"{where}: its InlineBinary is no Base64") from None


# -- Values ------------------------------------------------------------------------------


def _element_of(tag: int, vr: str, values: list[Any], where: str) -> ModelElement:
    try:
        if vr in _INTEGERS:
            return ModelElement(tag, vr, b"".join([_packed(value, vr) for value in values]))
        if vr in _FLOATS:
            return ModelElement(tag, vr, b"".join([_packed_float(value, vr) for value in values]))
        if vr == "AT":
            return ModelElement(tag, vr, b"".join([_packed_tag(value) for value in values]))
        text = _joined(vr, values, where)
    except (ValueError, TypeError, ArithmeticError, struct.error):
        raise ModelError(f"{where}: a value is none of VR {vr}") from None
    if vr in CHARACTER_SET_VRS:
        return ModelElement(tag, vr, text=text)
    try:
        # Beyond ASCII it has nothing; what real files have there all the same is kept.
        return ModelElement(tag, vr, text.encode("latin-1"))
    except UnicodeEncodeError:
        raise ModelError(f"{where}: VR {vr} has no characters beyond ASCII") from None


def _packed(value: object, vr: str) -> bytes:
    if isinstance(value, bool) or value is None:
        raise ValueError
    number = Decimal(str(value))
    if abs(number) >= 1 << 64 or number != int(number):
        raise ValueError
    return _INTEGERS[vr].pack(int(number))


def _packed_float(value: object, vr: str) -> bytes:
    if isinstance(value, bool):
        raise ValueError
    if value is None:
        return _FLOATS[vr].pack(math.nan)
    special = _SPECIAL_FLOATS.get(str(value).strip().lower())
    return _FLOATS[vr].pack(float(str(value)) if special is None else special)


def _packed_tag(value: object) -> bytes:
    text = str(value).strip("() ").replace(",", "")
    if isinstance(value, bool) or value is None or len(text) != 8:
        raise ValueError
    tag = int(text, 16)
    return _TAG_PAIR.pack(tag >> 16, tag & 0xFFFF)


def _joined(vr: str, values: list[Any], where: str) -> str:
    if vr in _FREE_TEXT_VRS:
        texts = [_plain(value) for value in values]
        if len(texts) > 1:
            raise ModelError(f"{where}: a {vr} has one value only")
        return texts[0] if texts else ""
    if vr == "PN":
        return "\\".join([_name(value) for value in values])
    if vr == "DS":
        return "\\".join([_decimal(value) for value in values])
    if vr == "IS":
        return "\\".join([_integer(value) for value in values])
    return "\\".join([_plain(value) for value in values])


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | Mapping | list):
        raise TypeError
    return str(value)


def _name(value: object) -> str:
    if not isinstance(value, Mapping):
        return _plain(value)
    groups = {str(key): _plain(group) for key, group in value.items()}
    if not groups.keys() <= set(_GROUPS_OF_NAMES):
        raise ValueError
    return "=".join([groups.get(name, "") for name in _GROUPS_OF_NAMES]).rstrip("=")


def _decimal(value: object) -> str:
    """A DS; a number that is too long for it is rounded, a text is left as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        raise TypeError
    text = str(value)
    if len(text) <= _LONGEST_DS or not isinstance(value, NumberText | int | float):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    for digits in range(_LONGEST_DS, 0, -1):
        text = f"{number:.{digits}g}"
        if len(text) <= _LONGEST_DS:
            return text
    raise ValueError


def _integer(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, NumberText | int | float) and not isinstance(value, bool):
        number = Decimal(str(value))
        if abs(number) >= 1 << 64 or number != int(number):
            raise ValueError
        return str(int(number))
    return _plain(value)


# -- Texts into a character set ----------------------------------------------------------


def encode_texts(read: ReadModel, preferred: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Give every text its bytes, in one character set for the whole data set.

    That is the one that the model names, else *preferred*, if it has room for all of them; else
    UTF-8, and (0008,0005) says so.

    Returns:
        The terms of the character set.

    Raises:
        ModelError: a text has what no character set has.
    """
    texts = [one.text for one in _texts(read.elements) if one.text is not None]
    wanted = read.character_set or preferred
    chosen = choose_character_set(texts, wanted) or wanted
    try:
        _encode(read.elements, chosen)
    except CharacterSetError:
        chosen = UTF_8
        try:
            _encode(read.elements, chosen)
        except CharacterSetError:  # half of a surrogate pair
            raise ModelError("a text has what is no character of Unicode") from None
    declared = SPECIFIC_CHARACTER_SET in read.elements or bool(chosen)
    if declared:
        terms = "\\".join(chosen).encode("ascii")
        if chosen != read.character_set or SPECIFIC_CHARACTER_SET not in read.elements:
            read.elements[SPECIFIC_CHARACTER_SET] = ModelElement(
                SPECIFIC_CHARACTER_SET, "CS", terms
            )
    return chosen


def _texts(item: ModelItem) -> Iterator[ModelElement]:
    for element in item.values():
        if isinstance(element.value, list):
            for inner in element.value:
                yield from _texts(inner)
        else:
            yield element


def _encode(item: ModelItem, character_set: tuple[str, ...]) -> None:
    for element in item.values():
        if isinstance(element.value, list):
            for inner in element.value:
                # One character set for all: an item's own would say something else.
                inner.pop(SPECIFIC_CHARACTER_SET, None)
                _encode(inner, character_set)
        elif element.text is not None:
            element.value = encode_text(element.text, element.vr, character_set)
