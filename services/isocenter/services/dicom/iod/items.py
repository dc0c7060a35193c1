"""Data set in memory, as items and elements with short values.

Values are decoded when somebody asks for them; of what is longer than `MOST_READ` only the length
is known, so that pixels and contours of any size cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final

from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.vr import Encoding
from isocenter.engine.dataset.walker import END, FRAGMENTS, ITEM, SEQUENCE, Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.element_texts import numbers_of
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.scoped_walk import scoped_walk

#: Bytes of a value that are read; of a longer one only how long it is.
MOST_READ: Final = 1 << 16
#: Elements and items that are judged; each takes some 250 bytes.
MAX_ELEMENTS: Final = 500_000

_DIMENSION_INDICES: Final = 0x00209222
_DIMENSION_POINTER: Final = 0x00209165
#: Modality, Manufacturer, Manufacturer's Model Name.
_DEVICE: Final = (0x00080060, 0x00080070, 0x00081090)
#: Characters of each (PS3.5 6.2).
_LONGEST_NAME: Final = 64
_NUMBERS: Final = frozenset(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))
_SINGLE: Final = frozenset(("LT", "ST", "UR", "UT"))
_BYTES: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


@dataclass(slots=True, eq=False)
class Element:
    """One element.

    Attributes:
        vr: as the data set says, or the dictionary where it says none.
        is_implicit: whether the data set does not say it.
        length: bytes of its value.
        raw: the value; None: it is longer than `MOST_READ`, or a sequence.
        items: of a sequence.
        is_cut: whether more of its value is elsewhere.
    """

    tag: int
    vr: str
    is_implicit: bool
    length: int
    raw: bytes | None
    is_big_endian: bool
    character_set: tuple[str, ...]
    items: list[Item] | None = None
    is_encapsulated: bool = False
    is_cut: bool = False
    _values: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it has no value, or only padding."""
        if self.items is not None:
            return not self.items
        if self.is_encapsulated:
            return False
        if not self.length or self.raw is None or self.vr in _BYTES or self.vr in _NUMBERS:
            return not self.length
        return not self.raw.strip(b" \0\\")

    @property
    def values(self) -> tuple[str, ...]:
        """Its values as texts, without padding; none of bytes, sequences and long values."""
        if self._values is None:
            self._values = tuple(self._read())
        return self._values

    def _read(self) -> list[str]:
        if self.raw is None or self.items is not None or self.vr in _BYTES:
            return []
        if self.vr in _NUMBERS:
            return numbers_of(self.raw, self.vr, big_endian=self.is_big_endian)
        text = decode_text(self.raw, self.vr, self.character_set)
        if not text:
            return []
        return [text] if self.vr in _SINGLE else text.split("\\")

    @property
    def is_known(self) -> bool:
        """Whether its values can be looked at."""
        return self.raw is not None


@dataclass(slots=True, eq=False)
class Item:
    """A data set, or an item of a sequence.

    Attributes:
        parent, sequence, number: where it lies; None, 0, 0 of the data set itself.
    """

    parent: Item | None = None
    sequence: int = 0
    number: int = 0
    elements: dict[int, Element] = field(default_factory=dict)
    _pointers: frozenset[str] | None = None
    _grouped: dict[int, Element] | None = None

    @property
    def grouped(self) -> dict[int, Element]:
        """The elements of the functional groups in this item, the first of each tag; looked for
        once, since each condition may ask for them."""
        if self._grouped is None:
            self._grouped = {}
            for sequence in self.elements.values():
                for inner in (sequence.items or ())[:1]:
                    for tag, element in inner.elements.items():
                        self._grouped.setdefault(tag, element)
        return self._grouped

    @property
    def dimension_pointers(self) -> frozenset[str]:
        """Attributes to which dimension indices of this data set point, as eight digits; looked for
        once, since each frame may ask for them."""
        if self._pointers is None:
            self._pointers = frozenset(
                value.upper()
                for index in self.items(_DIMENSION_INDICES)
                for pointer in (index.elements.get(_DIMENSION_POINTER),)
                if pointer is not None
                for value in pointer.values
            )
        return self._pointers

    def get(self, tag: int) -> Element | None:
        """The element *tag* of this item; None: there is none."""
        return self.elements.get(tag)

    def text(self, tag: int, number: int = 1) -> str:
        """Value *number*, from 1, of an element; empty where there is none."""
        element = self.elements.get(tag)
        values = () if element is None else element.values
        return values[number - 1] if len(values) >= number else ""

    def items(self, tag: int) -> list[Item]:
        """The items of the sequence *tag*; none where there is none."""
        element = self.elements.get(tag)
        return [] if element is None or element.items is None else element.items

    @property
    def root(self) -> Item:
        """The data set around all."""
        item = self
        while item.parent is not None:
            item = item.parent
        return item

    def path(self, tag: int) -> str:
        """Where *tag* is, or would be, in words of the data dictionary."""
        steps = [_name(tag)]
        item = self
        while item.parent is not None:
            steps.append(f"{_name(item.sequence)}[{item.number}]")
            item = item.parent
        return ".".join(reversed(steps))

    def walk(self) -> Iterator[Item]:
        """This item and all within it, outer ones first."""
        todo = [self]
        while todo:
            item = todo.pop()
            yield item
            for element in reversed(item.elements.values()):
                if element.items:
                    todo += reversed(element.items)


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(slots=True)
class ReadItems:
    """What was read.

    Attributes:
        forgiven: what is not as PS3.5 has it → byte of the data set at which it was first.
        is_whole: whether all was read; not where it has more than `MAX_ELEMENTS`.
        last_start: byte of the data set at which the value of its last element begins.
        repeated: how many elements are there more than once in their item; the first counts.
    """

    root: Item
    forgiven: dict[str, int] = field(default_factory=dict)
    is_whole: bool = True
    repeated: int = 0
    last_start: int = 0


def device_of(root: Item) -> str:
    """Modality, manufacturer and model, as an object says; empty: nothing."""
    words = (root.text(tag)[:_LONGEST_NAME].strip() for tag in _DEVICE)
    return " ".join(filter(None, words))


def read_items(
    data: memoryview, encoding: Encoding, forgiven: dict[str, int] | None = None
) -> ReadItems:
    """The data set *data*, inflated, as far as it can be read."""
    read = ReadItems(Item(), {} if forgiven is None else forgiven)
    item = read.root
    opened: list[tuple[Item, Element]] = []
    walk = scoped_walk(data, encoding, forgiven=read.forgiven, tolerance=Tolerance.SALVAGE)
    count = 0
    try:
        for kind, tag, vr, start, end, codec, scope, _ in walk:
            if kind == END:
                if opened and kind == END and tag == opened[-1][1].tag:
                    item = opened.pop()[0]
                continue
            count += 1
            if count > MAX_ELEMENTS:
                read.is_whole = False
                break
            if kind == ITEM:
                parent, sequence = opened[-1]
                assert sequence.items is not None
                item = Item(parent, sequence.tag, len(sequence.items))
                sequence.items.append(item)
                continue
            length = 0 if kind == SEQUENCE else end - start
            is_short = kind not in (SEQUENCE, FRAGMENTS) and length <= MOST_READ
            element = Element(
                tag, vr, codec.implicit_vr, length, bytes(data[start:end]) if is_short else None,
                codec.big_endian, scope.character_set, [] if kind == SEQUENCE else None,
                kind == FRAGMENTS,
            )  # fmt: skip
            if kind == SEQUENCE:
                opened.append((item, element))
            if not opened or item is read.root:
                read.last_start = start
            if tag in item.elements:
                read.repeated += 1
            else:
                item.elements[tag] = element
    except DataSetError as error:
        read.forgiven.setdefault(error.fault, error.offset)
        read.is_whole = False
    return read
