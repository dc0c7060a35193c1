"""Text dumps of data sets, as DCMTK's ``dcmdump`` writes them and ``dump2dcm`` reads them.

One element on a line: tag, VR (may be missing where the data dictionary has it), value::

    # what follows is a comment
    (0008,0005) CS  [ISO_IR 100]
    (0010,0010) PN  DOE^JOHN           # without brackets up to a # or the end of the line
    (0040,0100) SQ
      (fffe,e000) -                    # an item
        (0040,0002) DA [20261124]      # in brackets up to the last ] of the line
      (fffe,e00d) -                    # its end
    (fffe,e0dd) -                      # end of the sequence

What ``dump2dcm`` guesses is refused here: letters that are no VR, and items and sequences that are
not ended where they have to be.  Values are taken as they are: they are in the
character set that (0008,0005) names.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, DataSetError, Element, write_data_set
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import (
    ITEM,
    ITEM_DELIMITATION,
    LONG_VRS,
    SEQUENCE_DELIMITATION,
    SHORT_VRS,
)
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList, items_of
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import NUMBER_VRS, encode_numbers
from isocenter.services.dicom.uid_registry import uid_of_keyword

#: Tag, VR and the rest.  A VR ends where letters and digits do.
_LINE: Final = re.compile(
    rb"\s*\(\s*([0-9a-fA-F]{4})\s*,\s*([0-9a-fA-F]{4})\s*\)\s*(?:([A-Z]{2})(?![A-Za-z0-9]))?\s*(.*)",
    re.DOTALL,
)
_VRS: Final = SHORT_VRS | LONG_VRS
#: VRs of bytes and words, written in hexadecimal digits.
_BYTE_VRS: Final = frozenset({"OB", "UN"})
_WORD_VRS: Final = frozenset({"OW"})
#: Binary numbers of which worklists have none.
_OTHER_VRS: Final = frozenset({"OD", "OF", "OL", "OV"})
_TAG_VALUE: Final = re.compile(rb"\(\s*([0-9a-fA-F]{4})\s*,\s*([0-9a-fA-F]{4})\s*\)")
_META_GROUP: Final = 0x0002
_FIRST_GROUP: Final = 0x0008
_TRAILING_PADDING: Final = 0xFFFCFFFC

_Elements = dict[int, Element]


class DumpSyntaxError(IsocenterError, ValueError):
    """A line of a dump that cannot be understood; the message names its place, and no value.

    Attributes:
        tag: the element that is wrong; 0: no single one.
    """

    error_code = ErrorCode.PARSING

    def __init__(self, message: str, tag: int = 0) -> None:
        super().__init__(message)
        self.tag = tag


def is_dump(content: bytes) -> bool:
    """Whether *content* begins like a dump: with a tag or a comment."""
    return content.lstrip()[:1] in (b"(", b"#")


def read_dump(content: bytes, place: str, limits: Limits = DEFAULT_LIMITS) -> AttributeList:
    """The data set that a dump describes; of what is there twice the first, as ``dump2dcm``.

    File Meta Information, group lengths and padding are left out.

    Args:
        place: for messages: the file.

    Raises:
        DumpSyntaxError: a line that cannot be understood; its number, and its tag.
    """
    reader = _Reader(place, limits)
    for number, line in enumerate(BytesIO(content), 1):
        line = line.strip()
        if line and not line.startswith(b"#"):
            reader.take(number, line)
    try:
        data_set = write_data_set(_sorted(reader.finish()), EXPLICIT_LITTLE)
        return AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, limits)
    except DataSetError as error:
        raise DumpSyntaxError(f"{place}: {error}") from error


class _Reader:
    """Builds the data set, line by line."""

    def __init__(self, place: str, limits: Limits) -> None:
        self._place = place
        self._limits = limits
        self._root: _Elements = {}
        #: The data set or item that elements go to; None: a sequence, between its items.
        self._open: _Elements | None = self._root
        #: Sequences that are open: their item around them, tag, items.
        self._sequences: list[tuple[_Elements, int, list[_Elements]]] = []

    def take(self, number: int, line: bytes) -> None:
        """One line."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise DumpSyntaxError(f"{self._place}, line {number}: no tag (gggg,eeee)")
        group, element, letters, rest = found.groups()
        tag = int(group + element, 16)
        place = f"{self._place}, line {number}: {tag_text(tag)}"
        if tag == ITEM:
            self._begin_item(tag, place)
        elif tag == ITEM_DELIMITATION:
            self._end_item(tag, place)
        elif tag == SEQUENCE_DELIMITATION:
            self._end_sequence(tag, place)
        else:
            self._element(tag, (letters or b"").decode(), rest, place)

    def finish(self) -> _Elements:
        """All of it."""
        if self._sequences:
            tag = self._sequences[-1][1]
            raise DumpSyntaxError(
                f"{self._place}: {tag_text(tag)} is not ended: (fffe,e00d) ends an item, "
                "(fffe,e0dd) a sequence",
                tag,
            )
        return self._root

    def _begin_item(self, tag: int, place: str) -> None:
        if self._open is not None:
            raise DumpSyntaxError(f"{place} begins an item outside of a sequence", tag)
        self._open = {}
        self._sequences[-1][2].append(self._open)

    def _end_item(self, tag: int, place: str) -> None:
        if self._open is None or not self._sequences:
            raise DumpSyntaxError(f"{place} ends an item, and none is open", tag)
        self._open = None

    def _end_sequence(self, tag: int, place: str) -> None:
        if self._open is not None:
            what = "an item is open still" if self._sequences else "none is open"
            raise DumpSyntaxError(f"{place} ends a sequence, and {what}", tag)
        around, sequence, items = self._sequences.pop()
        around.setdefault(sequence, Element(sequence, "SQ", tuple(items)))
        self._open = around

    def _element(self, tag: int, letters: str, rest: bytes, place: str) -> None:
        if self._open is None:
            raise DumpSyntaxError(f"{place} stands in a sequence, but in none of its items", tag)
        group = tag >> 16
        if group == _META_GROUP and not self._sequences:
            return
        if group < _FIRST_GROUP:
            raise DumpSyntaxError(f"{place} is no attribute of a data set", tag)
        if not letters and rest[:2].decode("latin-1") in _VRS and rest[2:3].isalnum():
            raise DumpSyntaxError(
                f"{place}: is {rest[:2].decode()} the VR? Put a space behind it", tag
            )
        vr = letters or dictionary_vr(tag)
        if vr not in _VRS:
            raise DumpSyntaxError(f"{place}: {vr} is no VR (PS3.5 6.2)", tag)
        if not letters and vr == "UN":
            raise DumpSyntaxError(f"{place} is not in the data dictionary: say its VR", tag)
        if vr == "SQ":
            if rest and not rest.startswith((b"#", b"(", b"-")):
                raise DumpSyntaxError(
                    f"{place} is a sequence: its items go on lines of their own", tag
                )
            if len(self._sequences) >= self._limits.nesting:
                raise DumpSyntaxError(f"{place} is nested deeper than {self._limits.nesting}", tag)
            self._sequences.append((self._open, tag, []))
            self._open = None
            return
        if tag & 0xFFFF and tag != _TRAILING_PADDING:
            self._open.setdefault(tag, Element(tag, vr, _value(vr, rest, tag, place)))


def _value(vr: str, rest: bytes, tag: int, place: str) -> bytes:
    if vr == "AT":
        return _tags(rest, tag, place)
    written = _written(rest, tag, place)
    if not written:
        return b""
    try:
        if vr in NUMBER_VRS:
            return encode_numbers(written.decode("ascii"), vr, big_endian=False)
        if vr in _BYTE_VRS:
            return bytes(int(part, 16) for part in written.split(b"\\"))
        if vr in _WORD_VRS:
            words = [int(part, 16) for part in written.split(b"\\")]
            return b"".join(word.to_bytes(2, "little") for word in words)
    except (ValueError, OverflowError) as error:
        raise DumpSyntaxError(f"{place}: the value is none of VR {vr}", tag) from error
    if vr in _OTHER_VRS:
        raise DumpSyntaxError(f"{place}: values of VR {vr} are not read from dumps", tag)
    if vr == "UI" and written.startswith(b"="):
        uid = uid_of_keyword(written[1:].decode("latin-1"))
        if uid is None:
            raise DumpSyntaxError(f"{place}: no UID is called that; write the UID itself", tag)
        return uid.encode("ascii")
    return written


def _written(rest: bytes, tag: int, place: str) -> bytes:
    """The value as it is written, without brackets and comment."""
    match rest[:1]:
        case b"[":
            end = rest.rfind(b"]")
            if end < 0:
                raise DumpSyntaxError(
                    f"{place}: the value has no ] at its end; dcmdump cuts long values "
                    "unless it gets +L",
                    tag,
                )
            return rest[1:end]
        case b"(":  # "(no value available)"
            return b""
        case b"<":
            raise DumpSyntaxError(f"{place}: a value that begins with < needs [ and ]", tag)
        case _:
            return rest.partition(b"#")[0].rstrip()


def _tags(rest: bytes, tag: int, place: str) -> bytes:
    """``(gggg,eeee)\\(gggg,eeee)``."""
    written = rest.partition(b"#")[0].strip()
    if not written or written.startswith(b"(no value"):
        return b""
    values = [_TAG_VALUE.fullmatch(part.strip()) for part in written.split(b"\\")]
    packed = b""
    for value in values:
        if value is None:
            raise DumpSyntaxError(f"{place}: the value is none of VR AT: (gggg,eeee)", tag)
        packed += int(value[1], 16).to_bytes(2, "little") + int(value[2], 16).to_bytes(2, "little")
    return packed


def _sorted(elements: _Elements) -> list[Element]:
    """In the order of tags, also in items: lines may stand in any (nesting was bounded)."""
    found = []
    for _, element in sorted(elements.items()):
        if isinstance(element.value, bytes):
            found.append(element)
        else:
            items = [_sorted(dict(item)) for item in items_of(elements, element.tag)]
            found.append(element._replace(value=tuple({e.tag: e for e in item} for item in items)))
    return found
