"""Attribute lists of normalized services, bounded, in one encoding (PS3.7 10).

An attribute list (PS3.7 10.1) fits into memory.  It is read from any of the four uncompressed
encodings, kept in explicit VR little endian, and written in any of them again; its texts
stay in the character set that they came in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Final, Self

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    DataSetLimitError,
    Element,
    Encoding,
    Fragments,
    Item,
    Reencoder,
    encoding_of,
    read_data_set,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    NUMBER_VRS,
    UTF_8,
    character_set_of,
    choose_character_set,
    decode_numbers,
    decode_text,
    encode_text,
)

if TYPE_CHECKING:
    import pydicom

SPECIFIC_CHARACTER_SET: Final = 0x00080005
#: What is re-encoded at once: of a deflated data set, no more than 1,032 times this is held
#: before its length is judged.
_STEP_BYTES: Final = 4096
_US_LENGTH: Final = 2
_PLAIN_VRS: Final = (SHORT_VRS | LONG_VRS) - {"SQ"}


@dataclass(frozen=True)
class AttributeList:
    """Attributes by tag, in ascending order, values in explicit VR little endian."""

    elements: Mapping[int, Element]

    @classmethod
    def read(
        cls, data_set: Buffer, transfer_syntax_uid: str, limits: Limits = DEFAULT_LIMITS
    ) -> Self:
        """The attribute list that *data_set* is, at most ``limits.identifier`` bytes of it.

        Group lengths are dropped (PS3.5 7.2).

        Raises:
            DataSetError: truncated, malformed, over a limit, or with encapsulated values.
        """
        explicit = _reencoded(data_set, encoding_of(transfer_syntax_uid), EXPLICIT_LITTLE, limits)
        return cls(_sorted(read_data_set(explicit, EXPLICIT_LITTLE, limits)))

    @classmethod
    def from_dataset(cls, dataset: pydicom.Dataset) -> Self:
        """Of a pydicom data set; its group 2 is left out.

        Raises:
            DataSetError: a value that cannot be encoded.
        """
        from pydicom.filebase import DicomBytesIO
        from pydicom.filewriter import write_dataset

        buffer = DicomBytesIO()
        buffer.is_implicit_VR = False
        buffer.is_little_endian = True
        try:
            write_dataset(buffer, dataset)
        except Exception as error:
            # pydicom raises whatever its parts do; to the caller it is one fault.
            raise DataSetError(f"cannot be encoded ({type(error).__name__})", 0) from error
        return cls.read(buffer.getvalue(), EXPLICIT_VR_LITTLE_ENDIAN)

    def to_dataset(self) -> pydicom.Dataset:
        """As pydicom has it."""
        from pydicom.filereader import read_dataset

        data = self.encode(EXPLICIT_VR_LITTLE_ENDIAN)
        return read_dataset(BytesIO(data), False, True, bytelength=len(data))

    def encode(self, transfer_syntax_uid: str) -> bytes:
        """The data set in a transfer syntax."""
        explicit = write_data_set(self.elements.values(), EXPLICIT_LITTLE)
        return _reencoded(explicit, EXPLICIT_LITTLE, encoding_of(transfer_syntax_uid), None)

    @cached_property
    def character_set(self) -> tuple[str, ...]:
        """The terms of Specific Character Set (0008,0005); empty: the default repertoire."""
        element = self.elements.get(SPECIFIC_CHARACTER_SET)
        value = b"" if element is None else element.value
        return character_set_of(value if isinstance(value, bytes) else b"")

    def text(self, tag: int) -> str:
        """The decoded value of *tag*; empty when there is none."""
        return text_of(self.elements, tag, self.character_set)

    def items(self, tag: int) -> tuple[Item, ...]:
        """The items of a sequence; none when there is no such sequence."""
        return items_of(self.elements, tag)

    def only(self, tags: Iterable[int]) -> AttributeList:
        """Those of *tags* that there are, and the character set if one of them needs it."""
        wanted = set(tags) | {SPECIFIC_CHARACTER_SET}
        return AttributeList({tag: e for tag, e in self.elements.items() if tag in wanted})

    def has_same(self, tag: int, other: AttributeList) -> bool:
        """Whether *tag* says the same in *other*, whatever character sets and padding they have."""
        return tag in self.elements and self._comparable(tag) == other._comparable(tag)

    def _comparable(self, tag: int) -> Element:
        element = self.elements[tag]
        if isinstance(element.value, bytes) and element.vr not in CHARACTER_SET_VRS:
            return element._replace(value=element.value.rstrip(b" \0"))
        return _transcoded({tag: element}, self.character_set, UTF_8)[tag]

    def updated(self, changes: AttributeList) -> AttributeList:
        """With the attributes of *changes* in place of those of the same tags.

        Where the two have different character sets, the texts of both are brought to one
        that has room for all of them (PS3.4 F.7.2.2.3).
        """
        mine, theirs = self.character_set, changes.character_set
        if mine == theirs:
            return AttributeList(_in_order({**self.elements, **changes.elements}))
        kept = {tag: e for tag, e in self.elements.items() if tag not in changes.elements}
        texts = [*_texts(kept, mine), *_texts(changes.elements, theirs)]
        chosen = choose_character_set(texts, mine or theirs)
        merged = {
            **_transcoded(kept, mine, chosen),
            **_transcoded(changes.elements, theirs, chosen),
        }
        merged.pop(SPECIFIC_CHARACTER_SET, None)
        if chosen:
            merged[SPECIFIC_CHARACTER_SET] = _character_set_element(chosen)
        return AttributeList(_in_order(merged))

    def in_character_set(self, preferred: tuple[str, ...]) -> AttributeList:
        """The same with its texts in *preferred*, if that has room for them all.

        (0008,0005) is there only where it is needed.
        """
        mine = self.character_set
        texts = _texts(self.elements, mine)
        if "".join(texts).isascii():
            kept = {tag: e for tag, e in self.elements.items() if tag != SPECIFIC_CHARACTER_SET}
            return AttributeList(kept)
        chosen = choose_character_set(texts, preferred or mine)
        elements = _transcoded(self.elements, mine, chosen)
        if chosen:
            elements[SPECIFIC_CHARACTER_SET] = _character_set_element(chosen)
        return AttributeList(_in_order(elements))


def _character_set_element(terms: tuple[str, ...]) -> Element:
    return Element(SPECIFIC_CHARACTER_SET, "CS", "\\".join(terms).encode("ascii"))


def text_of(item: Mapping[int, Element], tag: int, character_set: tuple[str, ...] = ()) -> str:
    """The decoded value of *tag* in *item*, numbers in decimal; empty when there is none."""
    element = item.get(tag)
    if element is None or not isinstance(element.value, bytes) or element.vr is None:
        return ""
    if element.vr in NUMBER_VRS:
        return decode_numbers(element.value, element.vr, big_endian=EXPLICIT_LITTLE.big_endian)
    return decode_text(element.value, element.vr, character_set)


def number_of(item: Mapping[int, Element], tag: int) -> int:
    """The value of a US; 0 when there is none."""
    element = item.get(tag)
    if element is None or not isinstance(element.value, bytes) or len(element.value) != _US_LENGTH:
        return 0
    return int.from_bytes(element.value, "little")


def items_of(item: Mapping[int, Element], tag: int) -> tuple[Item, ...]:
    """The items of the sequence *tag* in *item*; none when there is no such sequence."""
    element = item.get(tag)
    if element is None or isinstance(element.value, bytes | Fragments):
        return ()
    return element.value


def _reencoded(data: Buffer, source: Encoding, target: Encoding, limits: Limits | None) -> bytes:
    if source == target:
        return bytes(data)
    reencoder = Reencoder(source, target, dictionary_vr_choice, limits or DEFAULT_LIMITS)
    parts: list[bytes] = []
    length = 0

    def take(buffers: Sequence[Buffer]) -> None:
        nonlocal length
        for buffer in buffers:
            length += len(buffer)
            parts.append(bytes(buffer))
        if limits is not None and length > 2 * limits.identifier:  # explicit headers are longer
            raise DataSetLimitError(
                f"the data set is longer than {limits.identifier} bytes", length, "identifier"
            )

    view = memoryview(octets(data))
    for start in range(0, len(view), _STEP_BYTES):
        take(reencoder.feed(view[start : start + _STEP_BYTES]))
    take(reencoder.finish())
    return b"".join(parts)


def _in_order(elements: Mapping[int, Element]) -> dict[int, Element]:
    return dict(sorted(elements.items()))


def _sorted(item: Mapping[int, Element]) -> dict[int, Element]:
    """*item* and the items in it as the writer wants them: in order, each element with its VR."""
    found: dict[int, Element] = {}
    for tag, element in sorted(item.items()):
        if not tag & 0xFFFF:
            continue
        value = element.value
        if isinstance(value, Fragments):
            raise DataSetError(f"{tag_text(tag)} encapsulated, in an attribute list", 0)
        if isinstance(value, tuple):
            found[tag] = Element(tag, "SQ", tuple(map(_sorted, items_of(item, tag))))
        elif element.vr == "SQ":
            found[tag] = Element(tag, "SQ", ())
        else:
            found[tag] = Element(tag, _plain_vr(tag, element.vr), value)
    return found


def _plain_vr(tag: int, said: str | None) -> str:
    """The VR of a value that is no sequence; UN for what is not in PS3.5 6.2."""
    vr = said or dictionary_vr_choice(tag)
    return vr if vr in _PLAIN_VRS else "UN"


def _walk(
    item: Mapping[int, Element],
    character_set: tuple[str, ...],
    change: Callable[[Element, tuple[str, ...]], Element],
) -> dict[int, Element]:
    """*item* with *change* done to each text element, also in its sequences.

    Nesting was bounded when it was read (`Limits.nesting`).
    """
    found: dict[int, Element] = {}
    for tag, element in item.items():
        value = element.value
        if isinstance(value, bytes):
            is_text = element.vr in CHARACTER_SET_VRS
            found[tag] = change(element, character_set) if is_text else element
        elif not isinstance(value, Fragments):
            items = []
            for each in value:
                own = each.get(SPECIFIC_CHARACTER_SET)  # PS3.3 C.12.1.1.2 allows it in items
                declared = own.value if own is not None and isinstance(own.value, bytes) else b""
                walked = _walk(each, character_set_of(declared) or character_set, change)
                walked.pop(SPECIFIC_CHARACTER_SET, None)
                items.append(walked)
            found[tag] = Element(tag, "SQ", tuple(items))
    return found


def _texts(item: Mapping[int, Element], character_set: tuple[str, ...]) -> list[str]:
    texts: list[str] = []

    def note(element: Element, declared: tuple[str, ...]) -> Element:
        assert isinstance(element.value, bytes)
        assert element.vr is not None
        texts.append(decode_text(element.value, element.vr, declared))
        return element

    _walk(item, character_set, note)
    return texts


def _transcoded(
    item: Mapping[int, Element], old: tuple[str, ...], new: tuple[str, ...]
) -> dict[int, Element]:
    def change(element: Element, declared: tuple[str, ...]) -> Element:
        assert isinstance(element.value, bytes)
        assert element.vr is not None
        text = decode_text(element.value, element.vr, declared)
        return Element(element.tag, element.vr, encode_text(text, element.vr, new))

    return _walk(item, old, change)
