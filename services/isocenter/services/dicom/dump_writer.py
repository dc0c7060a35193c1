"""Text dump of a data set, in the columns of DCMTK's ``dcmdump``.

::

    (0010,0010) PN [DOE^JOHN]                               #   8, 1 PatientName

Tag, VR, value, and behind the sign its length in bytes, how many values it has, and its name.
Values are looked at where they lie, and only as much of them as is shown; nothing of a file can
move the cursor, or begin a line of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import (
    DELIMITERS,
    EXPLICIT_LITTLE,
    ITEM_DELIMITATION,
    PIXEL_DATA,
    SEQUENCE_DELIMITATION,
    Encoding,
)
from isocenter.engine.dataset.vr import ITEM as ITEM_TAG
from isocenter.engine.dataset.walker import (
    END,
    FRAGMENTS,
    ITEM,
    SEQUENCE,
    VALUE,
    Tolerance,
    fragments_of,
)
from isocenter.engine.dataset.writer import write_data_set
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.dump_names import Quoting, element_name, quoted, uid_keyword
from isocenter.services.dicom.element_texts import numbers_of
from isocenter.services.dicom.element_values import decode_padded
from isocenter.services.dicom.scope import Scope, is_private
from isocenter.services.dicom.scoped_walk import (
    ItemPath,
    Placed,
    has_undefined_length,
    header_start,
    scoped_walk,
)

#: Where the sign stands, and how much of a value is shown; as dcmdump has it.
_VALUE_WIDTH: Final = 40
_LINE_LENGTH: Final = 70
_DOTS: Final = "..."
#: Bytes of a value that are read to show its beginning; more than any character set needs.
_BEGINNING: Final = 1024
#: A value that is shown whole is held; what is longer is shown shortened even then, in bytes.
LONGEST_WHOLE: Final = 16 << 20
#: Bytes that are made text, or counted, at once; a multiple of 8.
_PIECE: Final = 1 << 18

_NUMBERS: Final = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
_OTHER_NUMBERS: Final = {"OD": "FD", "OF": "FL", "OL": "UL", "OV": "UV"}
_TEXTS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
     "UT")
)  # fmt: skip
_SINGLE: Final = frozenset(("LT", "ST", "UR", "UT"))
_SIZES: Final = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
#: Directory Record Sequence, whose items point to each other (PS3.3 F.3.2.2).
_DIRECTORY_RECORDS: Final = 0x00041220
_CONTAINERS: Final = frozenset((SEQUENCE, ITEM))
_NO_VALUE: Final = "(no value available)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Colors:
    """What begins each part of a line, and ends it."""

    comment: str = ""
    tag: str = ""
    vr: str = ""
    value: str = ""
    length: str = ""
    count: str = ""
    name: str = ""
    end: str = ""


PLAIN: Final = Colors()
ANSI: Final = Colors(
    comment="\x1b[90m", tag="\x1b[32m", vr="\x1b[31m", value="\x1b[1m", length="\x1b[36m",
    count="\x1b[35m", name="\x1b[33m", end="\x1b[0m",
)  # fmt: skip

#: Whether an element is wanted: the items around it, its tag, and in what it stands.
Wanted = Callable[[ItemPath, int, Scope], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpOptions:
    """What is shown, and how.

    Attributes:
        wanted: only these elements, wherever they are, each with all below it; None: all.
        first_only: of those with one tag only the first.
        has_path: put the sequences around an element before its tag.
        deepest: sequences within more others than this are not opened; None: all are.
        has_private, has_pixels: elements of odd groups; group 7FE0.
        is_tree: names in place of tags, without columns behind the values.
        is_whole: long values in full length.
        has_uid_names: well-known UIDs by name.
        stop_before, stop_after: the element of the data set at which it ends.
    """

    wanted: Wanted | None = None
    first_only: bool = False
    has_path: bool = False
    deepest: int | None = None
    has_private: bool = True
    has_pixels: bool = True
    is_tree: bool = False
    is_whole: bool = False
    has_uid_names: bool = True
    quoting: Quoting = Quoting.PRINTED
    colors: Colors = PLAIN
    stop_before: int | None = None
    stop_after: int | None = None


class DumpWriter:
    """Writes data sets as text.

    Args:
        write: takes the text, in pieces.

    Attributes:
        forgiven: what was forgiven → byte of the data set at which it was first.
        found: how many elements were shown.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        options: DumpOptions | None = None,
        *,
        tolerance: Tolerance = Tolerance.SALVAGE,
    ) -> None:
        self._write = write
        self._options = options or DumpOptions()
        self._tolerance = tolerance
        self._seen: set[int] = set()
        self._data = memoryview(b"")
        self._counts: Iterator[int] = iter(())
        self._offset = 0
        self.forgiven: dict[str, int] = {}
        self.found = 0

    def heading(self, text: str) -> None:
        """A comment on a line of its own."""
        colors = self._options.colors
        self._write(f"{colors.comment}# {text}{colors.end}\n")

    def meta(self, elements: Mapping[int, bytes]) -> None:
        """The File Meta Information."""
        scope = Scope()
        data = write_data_set(
            [(tag, scope.vr_of(tag), elements[tag]) for tag in sorted(elements)], EXPLICIT_LITTLE
        )
        self._show(memoryview(data), EXPLICIT_LITTLE, {})

    def data_set(self, data: memoryview, encoding: Encoding, offset: int = 0) -> None:
        """The data set *data*, inflated where it was deflated.

        Args:
            offset: where it begins in its file, in bytes; records of a DICOMDIR are named by it.

        Raises:
            DataSetError: malformed, and not to be forgiven; what stands before it is written.
        """
        self._offset = offset
        self._show(data, encoding, self.forgiven)

    def _show(self, data: memoryview, encoding: Encoding, forgiven: dict[str, int]) -> None:
        self._data = data
        self._counts = iter(_counts(data, encoding))
        options = self._options
        #: Of each sequence and item that is open whether it is shown.
        opened: list[bool] = []
        #: The depth of a sequence in which nothing is looked at; and of one that is wanted, with
        #: all that is in it.
        closed: int | None = None
        base: int | None = 0 if options.wanted is None else None
        for placed in scoped_walk(data, encoding, forgiven=forgiven, tolerance=self._tolerance):
            kind, tag = placed.kind, placed.tag
            if kind == END:
                was_shown = opened.pop()
                depth = len(opened)
                if closed is not None and depth <= closed:
                    closed = None
                if was_shown and base is not None:
                    self._delimitation(placed, depth - base)
                if options.wanted is not None and depth == base:
                    base = None
                if not depth and tag == options.stop_after:
                    return
                continue
            depth = len(opened)
            count = next(self._counts) if kind in _CONTAINERS else 0
            if kind == ITEM:
                is_shown = closed is None and base is not None
                if is_shown and base is not None:
                    self._item(placed, count, depth - base)
                opened.append(is_shown)
                continue
            if not depth and tag == options.stop_before:
                return
            is_allowed = self._is_allowed(placed)
            is_shown = closed is None and is_allowed
            if is_shown and base is None:
                is_shown = self._is_wanted(placed)
                base = depth if is_shown else None
            if is_shown and base is not None:
                self.found += 1
                self._element(placed, count, depth - base)
            if kind == SEQUENCE:
                opened.append(is_shown)
                is_deepest = options.deepest is not None and depth // 2 >= options.deepest
                if closed is None and (is_deepest or not is_allowed):
                    closed = depth
                continue
            if options.wanted is not None and depth == base:
                base = None
            if not depth and tag == options.stop_after:
                return

    def _is_wanted(self, placed: Placed) -> bool:
        options = self._options
        if options.wanted is None or not options.wanted(placed.path, placed.tag, placed.scope):
            return False
        if options.first_only and placed.tag in self._seen:
            return False
        self._seen.add(placed.tag)
        return True

    def _is_allowed(self, placed: Placed) -> bool:
        options = self._options
        return (options.has_private or not is_private(placed.tag)) and (
            options.has_pixels or placed.tag >> 16 != PIXEL_DATA >> 16
        )

    # -- Lines ---------------------------------------------------------------------------

    def _element(self, placed: Placed, count: int, depth: int) -> None:
        data = self._data
        tag, vr, scope = placed.tag, placed.vr, placed.scope
        name = element_name(tag, scope)
        prefix = ""
        if self._options.has_path and not depth and self._options.wanted is not None:
            prefix = "".join(f"{_tag(sequence)}." for sequence, _ in placed.path)
        if placed.kind == SEQUENCE:
            is_undefined = has_undefined_length(data, placed)
            what = "undefined" if is_undefined else "explicit"
            length = None if is_undefined else placed.end - placed.start
            text = f"(Sequence with {what} length #={count})"
            self._line(depth, prefix, tag, vr, text, length, 1, name)
        elif placed.kind == FRAGMENTS:
            items = sum(1 for _ in fragments_of(data, placed[:6]))
            self._line(depth, prefix, tag, vr, f"(PixelSequence #={items})", None, 1, name)
            for start, end in fragments_of(data, placed[:6]):
                fragment = placed._replace(kind=VALUE, vr="OB", start=start, end=end)
                value = self._value(fragment)
                self._line(depth + 1, "", ITEM_TAG, "pi", value, end - start, 1, "Item")
            self._line(
                depth, "", SEQUENCE_DELIMITATION, "na", "(SequenceDelimitationItem)", 0, 0,
                "SequenceDelimitationItem",
            )  # fmt: skip
        else:
            length = placed.end - placed.start
            self._line(
                depth, prefix, tag, vr, self._value(placed), length, self._count(placed), name
            )

    def _item(self, placed: Placed, count: int, depth: int) -> None:
        is_undefined = has_undefined_length(self._data, placed)
        what = "undefined" if is_undefined else "explicit"
        length = None if is_undefined else placed.end - placed.start
        text = f"(Item with {what} length #={count})"
        name = "Item"
        if placed.path[-1][0] == _DIRECTORY_RECORDS:
            name += f" at byte {self._offset + header_start(self._data, placed)}"
        self._line(depth, "", ITEM_TAG, "na", text, length, 1, name)

    def _delimitation(self, placed: Placed, depth: int) -> None:
        is_item = placed.tag == ITEM_TAG
        tag = ITEM_DELIMITATION if is_item else SEQUENCE_DELIMITATION
        name = "ItemDelimitationItem" if is_item else "SequenceDelimitationItem"
        is_there = False
        if placed.start >= 8:
            raw, _ = placed.codec.item_header.unpack_from(self._data, placed.start - 8)
            is_there = placed.codec.raw(raw) in DELIMITERS and placed.codec.raw(raw) == tag
        reason = "" if is_there else " for re-encoding" if is_item else " for re-encod."
        self._line(depth, "", tag, "na", f"({name}{reason})", 0, 0, name)

    def _line(
        self,
        depth: int,
        prefix: str,
        tag: int,
        vr: str,
        value: str,
        length: int | None,
        count: int,
        name: str,
    ) -> None:
        colors = self._options.colors
        if self._options.is_tree:
            if tag in DELIMITERS and vr == "na" and tag != ITEM_TAG:
                return
            title = f"{'| ' * depth}{name}"
            self._write(f"{colors.tag}{title:<33} {colors.value}{value}{colors.end}\n")
            return
        size = "u/l" if length is None else str(length)
        self._write(
            f"{'  ' * depth}{colors.tag}{prefix}{_tag(tag)} {colors.vr}{vr} "
            f"{colors.value}{value:<{_VALUE_WIDTH}}{colors.end} {colors.comment}#{colors.end} "
            f"{colors.length}{size:>3}{colors.end},{colors.count}{count:>2}{colors.end} "
            f"{colors.name}{name}{colors.end}\n"
        )

    # -- Values --------------------------------------------------------------------------

    def _count(self, placed: Placed) -> int:
        """How many values there are."""
        length = placed.end - placed.start
        vr = placed.vr
        if vr in _NUMBERS:
            return length // _SIZES[vr]
        if vr in _OTHER_NUMBERS:
            return length // _SIZES[_OTHER_NUMBERS[vr]]
        if not length:
            return 0
        if vr not in _TEXTS or vr in _SINGLE:
            return 1
        if length <= _PIECE:
            raw = bytes(self._data[placed.start : placed.end])
            text = decode_padded(raw, vr, placed.scope.character_set)
            return text.count("\\") + 1 if text.strip(" \0") else 0
        return 1 + sum(piece.count(b"\\") for piece in self._pieces(placed))

    def _pieces(self, placed: Placed) -> Iterator[bytes]:
        for start in range(placed.start, placed.end, _PIECE):
            yield bytes(self._data[start : min(start + _PIECE, placed.end)])

    def _value(self, placed: Placed) -> str:
        if placed.start == placed.end:
            return _NO_VALUE
        vr = placed.vr
        if vr in _TEXTS:
            return self._text(placed)
        if vr in _NUMBERS or vr in _OTHER_NUMBERS:
            return self._joined(placed, _OTHER_NUMBERS.get(vr, vr))
        return self._hexadecimal(placed, 2 if vr == "OW" else 1)

    def _is_whole(self, placed: Placed) -> bool:
        return self._options.is_whole and placed.end - placed.start <= LONGEST_WHOLE

    def _text(self, placed: Placed) -> str:
        vr = placed.vr
        is_whole = self._is_whole(placed)
        end = placed.end if is_whole else min(placed.end, placed.start + _BEGINNING)
        text = decode_padded(bytes(self._data[placed.start : end]), vr, placed.scope.character_set)
        if end == placed.end:
            text = text.rstrip(" \0")
        if not text:
            return _NO_VALUE
        if vr == "UI" and self._options.has_uid_names:
            names = [uid_keyword(uid) for uid in text.split("\\")]
            if len(names) == 1 and names[0]:
                return f"={names[0]}"
        text = quoted(text, self._options.quoting)
        if not is_whole and (end < placed.end or len(text) + 2 > _LINE_LENGTH):
            return f"[{text[: _LINE_LENGTH - 4]}{_DOTS}"
        return f"[{text}]"

    def _joined(self, placed: Placed, vr: str) -> str:
        size, length = _SIZES[vr], placed.end - placed.start
        count = length // size
        if not count:
            return self._hexadecimal(placed, 1)
        is_whole = self._is_whole(placed)
        shown = count if is_whole else min(count, _LINE_LENGTH)
        texts = self._numbers(placed, vr, shown * size)
        if is_whole:
            return "\\".join(texts)
        line = ""
        for number, text in enumerate(texts, 1):
            longer = f"{line}\\{text}" if line else text
            room = _LINE_LENGTH if number == count else _LINE_LENGTH - len(_DOTS)
            if len(longer) > room:
                return line + _DOTS
            line = longer
        return line

    def _numbers(self, placed: Placed, vr: str, length: int) -> Iterator[str]:
        big_endian = placed.codec.big_endian
        for start in range(placed.start, placed.start + length, _PIECE):
            raw = bytes(self._data[start : min(start + _PIECE, placed.start + length)])
            texts = numbers_of(raw, vr, big_endian=big_endian)
            if vr == "AT":
                yield from (f"({text[:4].lower()},{text[4:].lower()})" for text in texts)
            else:
                yield from texts

    def _hexadecimal(self, placed: Placed, width: int) -> str:
        length = placed.end - placed.start
        digits = 2 * width + 1
        is_short = not self._is_whole(placed) and -(-length // width) * digits - 1 > _LINE_LENGTH
        if is_short:
            length = (_LINE_LENGTH - len(_DOTS) + 1) // digits * width
        parts = []
        for start in range(placed.start, placed.start + length, _PIECE):
            raw = bytes(self._data[start : min(start + _PIECE, placed.start + length)])
            if width == 2 and not placed.codec.big_endian:
                whole = len(raw) & ~1
                words = array("H", raw[:whole])
                words.byteswap()
                raw = words.tobytes() + raw[whole:]
            parts.append(raw.hex("\\", width if len(raw) % width == 0 else -width))
        return "\\".join(parts) + (_DOTS if is_short else "")


def _counts(data: memoryview, encoding: Encoding) -> array[int]:
    """How many items each sequence has, and elements each item, in the order in which they
    begin."""
    counts = array("Q")
    opened: list[int] = []
    for placed in scoped_walk(data, encoding):
        kind = placed.kind
        if kind == END:
            opened.pop()
            continue
        if opened:
            counts[opened[-1]] += 1
        if kind in (SEQUENCE, ITEM):
            opened.append(len(counts))
            counts.append(0)
    return counts


def _tag(tag: int) -> str:
    return tag_text(tag).lower()
