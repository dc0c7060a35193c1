"""Attributes of a head: what its elements mean, and others that mean something else.

Standard: PS3.3 C.12.1.1.9 (Original Attributes Sequence), PS3.5 6.1, 6.2 (values).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, assert_never

from isocenter.engine.dataset import IMPLICIT_LITTLE, Encoding, Reencoder, write_data_set
from isocenter.engine.dataset.codec import HEADER_LENGTH, IMPLICIT_LITTLE_CODEC, codec_of
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import ITEM, SEQUENCE_DELIMITATION
from isocenter.engine.limits import Limits
from isocenter.services.archive.coercion.edits import (
    OTHER_PATIENT_IDS_SEQUENCE,
    TEXT_VRS,
    AddOtherPatientId,
    AnyEdit,
    MapValue,
    ModificationReason,
    MoveToStudy,
    RemoveAttribute,
    SetValue,
    check_tag,
    encode_value,
    is_text_or_number,
)
from isocenter.services.archive.coercion.head import (
    ORIGINAL_ATTRIBUTES_SEQUENCE,
    CoercionError,
    Head,
    HeadElement,
)
from isocenter.services.archive.index.extraction import (
    MAX_TEXT_LENGTH,
    SPECIFIC_CHARACTER_SET,
    clean_text,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice as vr_with_creator
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    NUMBER_VRS,
    UTF_8,
    character_set_of,
    decode_numbers,
    decode_text,
    encode_text,
    strip_padding,
)

MODIFIED_ATTRIBUTES_SEQUENCE: Final = 0x04000550
ATTRIBUTE_MODIFICATION_DATETIME: Final = 0x04000562
MODIFYING_SYSTEM: Final = 0x04000563
SOURCE_OF_PREVIOUS_VALUES: Final = 0x04000564
REASON_FOR_THE_ATTRIBUTE_MODIFICATION: Final = 0x04000565
_TAG_LENGTH: Final = 4
_PATIENT_ID: Final = 0x00100020
_ISSUER_OF_PATIENT_ID: Final = 0x00100021
_TYPE_OF_PATIENT_ID: Final = 0x00100022
#: What text means for which nothing is declared (`element_values`).
_LATIN_1: Final = ("ISO_IR 100",)


class HeadAttributes:
    """What the elements of a head mean, and others that mean something else."""

    __slots__ = ("_character_set", "_codec", "_encoding", "_readable", "head")

    def __init__(self, head: Head, encoding: Encoding, undeclared: tuple[str, ...] = ()) -> None:
        self.head = head
        elements = head.last.values()
        if elements and not encoding.big_endian and all(e.vr is None for e in elements):
            # Some files have no VRs though their transfer syntax says they do; a few elements
            # with one among them would be too much for those who can read them.
            encoding = IMPLICIT_LITTLE
        self._encoding = encoding
        self._codec = codec_of(encoding)
        character_set = head.last.get(SPECIFIC_CHARACTER_SET)
        self._character_set = (
            () if character_set is None else character_set_of(head.raw(character_set))
        )
        #: In what text is read; what is written has to be declared.
        self._readable = self._character_set or undeclared

    def texts(self, wanted: frozenset[int]) -> dict[int, str]:
        """Tag → text of those of *wanted* that have a value."""
        last = self.head.last
        texts = {tag: self._text(last[tag]) for tag in wanted if tag in last}
        return {tag: text for tag, text in texts.items() if text}

    def _text(self, element: HeadElement) -> str:
        vr = _vr_of_value(element.tag, element.vr)
        if element.has_undefined_length or not is_text_or_number(vr):
            return ""
        raw = self.head.raw(element)
        if vr in NUMBER_VRS:
            big_endian = self._is_big_endian(element.vr)
            return decode_numbers(raw[:MAX_TEXT_LENGTH], vr, big_endian=big_endian)
        return clean_text(raw, vr, self._readable)

    def _is_big_endian(self, vr: str | None) -> bool:
        # A UN is little endian everywhere (PS3.5 6.2.2).
        return self._encoding.big_endian and vr != "UN"

    def edited(
        self, edits: Sequence[AnyEdit], limits: Limits, *, declares: bool = False
    ) -> dict[int, bytes]:
        """Tag → whole element of what really changes, nothing for what is removed.

        Args:
            declares: where no character set is declared and a new value needs one, declare one
                in which what is there means what it did.

        Raises:
            CoercionError: a value that cannot be written into this data set.
            ValueError: an edit of what may not be edited.
        """
        last = self.head.last
        values: dict[int, str | None] = {}
        other_ids: list[AddOtherPatientId] = []
        for edit in edits:
            tag = edit.tag
            match edit:
                case MoveToStudy():
                    values[tag] = edit.uid
                    continue
                case AddOtherPatientId():
                    other_ids.append(edit)
                    continue
                case _:
                    check_tag(tag)
            match edit:
                case SetValue():
                    values[tag] = edit.value
                case RemoveAttribute():
                    values[tag] = None
                case MapValue():
                    if tag in values:
                        value = values[tag]
                    else:
                        value = self._text(last[tag]) if tag in last else None
                    if value:
                        mapped = edit.table.get(value, edit.default)
                        if mapped is not None:
                            values[tag] = mapped
                case _:
                    assert_never(edit)
        anew: dict[int, bytes] = {}
        if declares and not self._character_set:
            texts = [value for value in values.values() if value]
            anew |= self._declared(
                [*texts, *(t for e in other_ids for t in (e.patient_id, e.issuer))]
            )
        for tag, value in values.items():
            if value is not None:
                element = self._element(tag, value)
                if element is not None:
                    anew[tag] = element
            elif tag in last:
                anew[tag] = b""
        items = [item for each in other_ids if (item := self._other_id_item(each))]
        if items:
            anew[OTHER_PATIENT_IDS_SEQUENCE] = self._with_items(
                OTHER_PATIENT_IDS_SEQUENCE, items, limits
            )
        return anew

    def _declared(self, texts: Sequence[str]) -> dict[int, bytes]:
        """A Specific Character Set for *texts*, where they need one; from here on it is that of the
        data set."""
        if all(text.isascii() for text in texts):
            return {}
        candidates = [self._readable or _LATIN_1]
        if all(
            self.head.raw(element).isascii()
            for element in self.head.last.values()
            if _vr_of_value(element.tag, element.vr) in CHARACTER_SET_VRS
        ):
            candidates.append(UTF_8)
        for character_set in candidates:
            try:
                for text in texts:
                    encode_text(text, "PN", character_set)
            except ValueError:
                continue
            self._character_set = character_set
            value = "\\".join(character_set).encode("ascii")
            return {
                SPECIFIC_CHARACTER_SET: write_data_set(
                    [(SPECIFIC_CHARACTER_SET, "CS", value)], self._encoding
                )
            }
        return {}

    def _other_id_item(self, edit: AddOtherPatientId) -> bytes:
        """The elements of an item; none when the sequence has such an item."""
        try:
            patient_id = encode_text(edit.patient_id, "LO", self._character_set)
            elements = [(_PATIENT_ID, "LO", patient_id)]
            if edit.issuer:
                issuer = encode_text(edit.issuer, "LO", self._character_set)
                elements.append((_ISSUER_OF_PATIENT_ID, "LO", issuer))
        except ValueError as error:
            raise CoercionError(f"{tag_text(OTHER_PATIENT_IDS_SEQUENCE)}: {error}") from error
        item = write_data_set([*elements, (_TYPE_OF_PATIENT_ID, "CS", b"TEXT")], self._encoding)
        old = self.head.last.get(OTHER_PATIENT_IDS_SEQUENCE)
        return b"" if old is not None and item in self.head.raw(old) else item

    def _element(self, tag: int, value: str) -> bytes | None:
        """The element with another value; None when it has that value already."""
        old = self.head.last.get(tag)
        said = None if old is None else old.vr
        vr = _vr_of_value(tag, said)
        if not is_text_or_number(vr) or (old is not None and old.has_undefined_length):
            raise CoercionError(f"{tag_text(tag)} with VR {vr} is no text and no number here")
        try:
            raw = encode_value(value, vr, self._character_set, big_endian=self._is_big_endian(said))
        except ValueError as error:
            raise CoercionError(f"{tag_text(tag)}: {error}") from error
        if old is not None:
            before = self.head.raw(old)
            if before == raw:
                return None
            if vr in TEXT_VRS and decode_text(before, vr, self._readable) == strip_padding(
                value, vr
            ):
                return None
        return write_data_set([(tag, said or vr, raw)], self._encoding)

    def original_attributes(
        self,
        changed: Sequence[int],
        now: datetime,
        system: str,
        source: str,
        reason: ModificationReason,
        limits: Limits,
    ) -> bytes:
        """The Original Attributes Sequence (0400,0561), its items and one more.

        The item holds the elements *changed* as they are in the head, and one of zero length
        for each that is not.

        Raises:
            CoercionError: the names do not fit the character set, or there is such an element
                already, and it is no sequence.
        """
        last = self.head.last
        values = b"".join(
            self.head.whole(last[tag])
            if tag in last
            else write_data_set([(tag, dictionary_vr(tag), b"")], self._encoding)
            for tag in sorted({*changed, *self._private_creators(changed)})
        )
        try:
            item = write_data_set(
                [
                    (
                        MODIFIED_ATTRIBUTES_SEQUENCE,
                        "SQ",
                        self._codec.item_mark(ITEM, len(values)) + values,
                    ),
                    (
                        ATTRIBUTE_MODIFICATION_DATETIME,
                        "DT",
                        f"{now:%Y%m%d%H%M%S.%f%z}".encode("ascii"),
                    ),
                    (MODIFYING_SYSTEM, "LO", encode_text(system, "LO", self._character_set)),
                    (
                        SOURCE_OF_PREVIOUS_VALUES,
                        "LO",
                        encode_text(source, "LO", self._character_set),
                    ),
                    (
                        REASON_FOR_THE_ATTRIBUTE_MODIFICATION,
                        "CS",
                        reason.value.encode("ascii"),
                    ),
                ],
                self._encoding,
            )
        except ValueError as error:
            raise CoercionError(
                f"the modifying system or the source of the data set: {error}"
            ) from error
        return self._with_items(ORIGINAL_ATTRIBUTES_SEQUENCE, [item], limits)

    def _with_items(self, tag: int, new: Sequence[bytes], limits: Limits) -> bytes:
        """A sequence of the head, its items and more behind them, whose elements are *new*.

        Raises:
            CoercionError: there is such an element already, and it is no sequence.
        """
        old = self.head.last.get(tag)
        codec = self._codec
        if old is not None and old.vr == "UN":
            codec = IMPLICIT_LITTLE_CODEC
            new = [_in_implicit_vr(item, self._encoding, limits) for item in new]
        added = b"".join(codec.item_mark(ITEM, len(item)) + item for item in new)
        if old is None:
            return write_data_set([(tag, "SQ", added)], self._encoding)
        items = self.head.raw(old)
        marks = tuple(
            codec.item_mark(mark, 0)[:_TAG_LENGTH] for mark in (ITEM, SEQUENCE_DELIMITATION)
        )
        if old.vr not in ("SQ", "UN", None) or (items and not items.startswith(marks)):
            raise CoercionError(f"{tag_text(tag)} is no sequence here")
        header = self.head.whole(old)[: old.value - old.start]
        if old.has_undefined_length:
            end = len(items) - HEADER_LENGTH
            if items[end : end + _TAG_LENGTH] != marks[-1]:
                raise CoercionError(f"{tag_text(tag)} is not delimited here")
            return header + items[:end] + added + items[end:]
        # Whatever is before it, the length is the last thing in the header.
        length = self._codec.length
        return header[: -length.size] + length.pack(len(items) + len(added)) + items + added

    def _private_creators(self, tags: Sequence[int]) -> Iterator[int]:
        """The tags of those without which private elements mean nothing (PS3.5 7.8.1)."""
        for tag in tags:
            creator = tag & 0xFFFF0000 | (tag & 0xFFFF) >> 8
            if tag >> 16 & 1 and creator in self.head.last:
                yield creator


def _in_implicit_vr(item: bytes, encoding: Encoding, limits: Limits) -> bytes:
    """What stands in a UN (PS3.5 6.2.2)."""
    reencoder = Reencoder(encoding, IMPLICIT_LITTLE, vr_with_creator, limits)
    return b"".join([*reencoder.feed(item), *reencoder.finish()])


def _vr_of_value(tag: int, said: str | None) -> str:
    """The VR by which a value is read: of the data set, or of the dictionary where it says none."""
    return dictionary_vr(tag) if said is None or said == "UN" else said
