"""Writer of DICOM JSON (PS3.18 Annex F), from the bytes of a data set.

What receivers disagree about is written so that most understand it:

* DS and IS are numbers, digit for digit as the data set has them, where JavaScript reads the same
  number; everything else (``1.``, ``1,5``, 17 digits) is the string that it is.
* SV and UV beyond 2^53 are strings.  FL has the fewest digits that give the same number back.
* A number that is none or has no end is a string: "NaN", "Infinity", "-Infinity".
* An empty value among others is null; an attribute without any value has a VR only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from math import isfinite
from typing import Any, Final, Literal

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import Encoding
from isocenter.services.dicom.element_texts import fits, numbers_of, person_name_groups
from isocenter.services.dicom.element_values import decode_text, strip_padding
from isocenter.services.dicom.model_writer import UNFIT_LENGTH, UNKNOWN_TEXT, ModelWriter, Render
from isocenter.services.dicom.scope import Scope

#: The largest number up to which JavaScript knows each whole number.
_SAFE: Final = 1 << 53
#: Digits that a double keeps, whatever they are.
_SAFE_DIGITS: Final = 15
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,15})").fullmatch
_NAMES_OF_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_PLAIN: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?").fullmatch
_ESC: Final = b"\x1b"
_BACKSLASH: Final = b"\\"
#: Longer values are not remembered, and none of what identifies a patient.
_SHORT: Final = 64
_PATIENT_GROUP: Final = 0x0010
_PADDING: Final = " \0"
_LAST_TAG: Final = 0xFFFFFFFF
_REPLACEMENT: Final = "\ufffd"
_LONG_VRS: Final = frozenset(("SV", "UV"))
_FLOAT_VRS: Final = frozenset(("FL", "FD"))
_SIGNED_VRS: Final = frozenset(("SL", "SS"))
_SIZES: Final = {"US": 2, "SS": 2, "UL": 4, "SL": 4}
_ORDERS: Final[tuple[Literal["little", "big"], ...]] = ("little", "big")


def json_of(data: Buffer, encoding: Encoding, **options: Any) -> bytes:
    """The data set *data* as one JSON object, in UTF-8; *options* as of `JsonWriter`.

    Raises:
        DataSetError: truncated, malformed, nested too deep.
    """
    parts: list[str] = []
    JsonWriter(parts.append, **options).data_set(data, encoding)
    return "".join(parts).encode("utf-8", "backslashreplace")


class JsonWriter(ModelWriter):
    """Writes a data set as a JSON object; see `ModelWriter` for what it takes.

    Args:
        is_pretty: one line for each element, and nested ones indented.
        instead: by their tags, texts of elements as ``"00081190":{…}`` that stand in the place of
            what the data set says.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        is_pretty: bool = False,
        instead: Mapping[int, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(write, **options)
        self._instead = {} if instead is None else instead
        #: Of these, those that are not written yet, the next one last.
        self._still_to_come: list[int] = []
        self._wants_other = self._wants
        if instead:
            self._wants = self._is_wanted
        self._is_pretty = is_pretty
        #: Where a line of an element begins.
        self._line = "\n"
        if is_pretty:
            self._add = self._add_line

    def _add_line(self, text: str) -> None:
        self._parts.append(self._line + text)

    def _is_wanted(self, tag: int) -> bool:
        """Asked before each element of the data set, in their order."""
        self._add_own(tag)
        if tag in self._instead:
            return False
        return self._wants_other is None or self._wants_other(tag)

    def _add_own(self, up_to: int) -> None:
        waiting = self._still_to_come
        while waiting and waiting[-1] <= up_to:
            self._add(self._instead[waiting.pop()] + ",")

    def _begin(self) -> None:
        self._still_to_come = sorted(self._instead, reverse=True)
        self._line = "\n  "
        self._parts.append("{")

    def _finish(self) -> None:
        self._add_own(_LAST_TAG)
        self._line = "\n"
        self._close_object("}")

    def _close_object(self, end: str) -> None:
        """Behind the last element, or the brace of an object without any."""
        parts = self._parts
        if parts[-1].endswith(","):
            parts[-1] = parts[-1][:-1]
            if self._is_pretty:
                end = self._line + end
        parts.append(end)

    def _open_sequence(self, tag: int, scope: Scope) -> None:
        self._add(_head(tag, "SQ"))

    def _open_item(self, number: int) -> None:
        self._parts.append("," + "{" if number else ',"Value":[{')
        self._line += "  "
        self._measure(1)

    def _close_item(self) -> None:
        self._line = self._line[:-2]
        self._close_object("}")

    def _close_sequence(self, items: int) -> None:
        self._parts.append("]}," if items else "},")

    def _empty(self, tag: int, vr: str, scope: Scope) -> str:
        return _head(tag, vr) + "},"

    def _uri(self, tag: int, vr: str, uri: str, scope: Scope) -> str:
        return f'{_head(tag, vr)},"BulkDataURI":{quoted(uri)}}},'

    def _around_inline(self, tag: int, vr: str, scope: Scope) -> tuple[str, str]:
        return _head(tag, vr) + ',"InlineBinary":"', '"},'

    # -- Elements with values ------------------------------------------------------------

    def _make_renderers(self) -> Mapping[str, Render]:
        return {
            **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UC", "UI"),
                            self._strings),
            **dict.fromkeys(("LT", "ST", "UR", "UT"), self._free_text),
            "PN": self._names,
            **dict.fromkeys(("DS", "IS"), self._decimals),
            **dict.fromkeys(("SL", "SS", "UL", "US"), self._integers),
            **dict.fromkeys(("AT", "FD", "FL", "SV", "UV"), self._numbers),
        }  # fmt: skip

    def _strings(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        if len(raw) <= _SHORT and tag >> 16 != _PATIENT_GROUP:
            # The usual case, without a call where the last images had the same.
            known = _plain_string(raw)
            if known:
                return f"{_head_of_values(tag, vr)}{known}]}},"
        text = self._decoded(raw, vr, scope)
        if not text:
            return _head(tag, vr) + "},"
        values = [quoted(value) if value else "null" for value in text.split("\\")]
        return f"{_head_of_values(tag, vr)}{','.join(values)}]}},"

    def _free_text(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = self._decoded(raw, vr, scope)
        return f"{_head_of_values(tag, vr)}{quoted(text)}]}}," if text else _head(tag, vr) + "},"

    def _names(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = self._decoded(raw, vr, scope)
        if not text.strip("=\\"):
            return _head(tag, vr) + "},"
        names = ",".join([_name(value) for value in text.split("\\")])
        return f"{_head_of_values(tag, vr)}{names}]}},"

    def _decimals(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = raw.decode("ascii", "replace").strip(_PADDING)
        number = _decimal if vr == "DS" else _integer
        if "\\" in text:
            text = strip_padding(text, vr)
        if text:
            text = ",".join([number(value) for value in text.split("\\")])
        return f"{_head_of_values(tag, vr)}{text}]}}," if text else _head(tag, vr) + "},"

    def _integers(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        if len(raw) == _SIZES[vr]:
            # The usual case: one value.
            text = str(int.from_bytes(raw, _ORDERS[big_endian], signed=vr in _SIGNED_VRS))
            return f"{_head_of_values(tag, vr)}{text}]}},"
        return self._numbers(tag, vr, raw, scope, big_endian)

    def _numbers(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        if not fits(raw, vr):
            self.forgiven.setdefault(UNFIT_LENGTH, 0)
        found = numbers_of(raw, vr, big_endian=big_endian)
        if vr == "AT":
            found = [f'"{value}"' for value in found]
        elif vr in _LONG_VRS:
            found = [f'"{v}"' if abs(int(v)) > _SAFE else v for v in found]
        elif vr in _FLOAT_VRS:
            found = [f'"{value}"' if value[-1] in "Ny" else value for value in found]
        if not found:
            return _head(tag, vr) + "},"
        return f"{_head_of_values(tag, vr)}{','.join(found)}]}},"

    def _decoded(self, raw: bytes, vr: str, scope: Scope) -> str:
        text = decode_text(raw, vr, scope.character_set)
        if not text.isascii() and _REPLACEMENT in text:
            self.forgiven.setdefault(UNKNOWN_TEXT, 0)
        return text


@lru_cache(maxsize=4096)
def _plain_string(raw: bytes) -> str:
    """A value that is one ASCII text, quoted; empty for all else.

    The images of a series differ in a few values; the others need not be decoded again.
    """
    if not raw.isascii() or _ESC in raw or _BACKSLASH in raw:
        return ""
    text = raw.decode("ascii").strip(_PADDING)
    return quoted(text) if text else ""


@lru_cache(maxsize=8192)
def _head(tag: int, vr: str) -> str:
    return f'"{tag:08X}":{{"vr":"{vr}"'


@lru_cache(maxsize=8192)
def _head_of_values(tag: int, vr: str) -> str:
    return _head(tag, vr) + ',"Value":['


def _name(text: str) -> str:
    groups = zip(_NAMES_OF_GROUPS, person_name_groups(text), strict=False)
    inner = ",".join([f'"{name}":{quoted(group)}' for name, group in groups if group])
    return f"{{{inner}}}" if inner else "null"


@lru_cache(maxsize=1024)
def _decimal(text: str) -> str:
    if len(text) <= _SAFE_DIGITS and _PLAIN(text) is not None and text != "-0":
        return text
    if not text:
        return "null"
    if _DECIMAL(text) is None or not _is_safe(text):
        return quoted(text)
    return text


def _is_safe(text: str) -> bool:
    """Whether JavaScript, or whoever reads doubles, gets the number that is written."""
    mantissa, exponent = text, ""
    for mark in "eE":
        mantissa, _, exponent = text.partition(mark)
        if exponent:
            break
    digits = mantissa.lstrip("-0.").replace(".", "")
    if not digits:
        return text[0] != "-"  # some read -0 as 0
    if len(digits) > _SAFE_DIGITS and len(digits.rstrip("0")) > _SAFE_DIGITS:
        return False
    return not exponent or (isfinite(number := float(text)) and number != 0)


@lru_cache(maxsize=1024)
def _integer(text: str) -> str:
    if not text:
        return "null"
    if _INTEGER(text) is None or text == "-0" or abs(int(text)) > _SAFE:
        return quoted(text)
    return text
