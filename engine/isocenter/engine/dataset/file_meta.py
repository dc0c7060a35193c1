"""File Meta Information (PS3.10 7.1), and data sets that come without it.

Pure functions over the first bytes of a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, codec_of
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.vr import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    UNDEFINED_LENGTH,
    Encoding,
)
from isocenter.engine.dataset.writer import write_data_set
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: Application bytes before the prefix (PS3.10 7.1).
PREAMBLE_LENGTH: Final = 128
PREFIX: Final = b"DICM"
#: File Meta Information of real files stays below 1 KiB; private information may add some.
MAX_FILE_META_LENGTH: Final = 64 << 10
#: Enough of a file for `read_file_meta` and `guess_encoding`, in bytes.
FILE_HEAD_LENGTH: Final = PREAMBLE_LENGTH + len(PREFIX) + MAX_FILE_META_LENGTH

FILE_META_GROUP: Final = 0x0002
_GROUP_LENGTH: Final = 0x00020000
_VERSION: Final = 0x00020001
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_IMPLEMENTATION_CLASS_UID: Final = 0x00020012
_IMPLEMENTATION_VERSION_NAME: Final = 0x00020013
_SOURCE_AE_TITLE: Final = 0x00020016


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the File Meta Information says; a UID that is missing is empty.

    Attributes:
        data_set_offset: byte of the file at which the data set starts.
        elements: tag → raw value of all of group 0002, little endian, padding kept.
    """

    transfer_syntax_uid: str
    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    data_set_offset: int
    elements: dict[int, bytes]


def read_file_meta(buffer: Buffer) -> FileMeta:
    """The File Meta Information at the start of a file.

    Args:
        buffer: the file, or its first `FILE_HEAD_LENGTH` bytes.

    Group 0002 ends where another group starts.  Its length is believed only where it
    agrees with that: it is missing or wrong in many files.  Files that start with
    group 0002, without preamble and prefix, are accepted.

    Raises:
        DataSetError: no Part 10 file, or a malformed or too long group 0002.
    """
    buffer = octets(buffer)
    start = PREAMBLE_LENGTH + len(PREFIX)
    if bytes(buffer[PREAMBLE_LENGTH:start]) != PREFIX:
        start = 0
        if bytes(buffer[:6]) not in _NAKED_META:
            raise DataSetError("no Part 10 file: neither DICM nor group 0002 (PS3.10 7.1)", 0)
    codec = codec_of(EXPLICIT_LITTLE)
    elements: dict[int, bytes] = {}
    size = len(buffer)
    announced_end = -1
    pos = start
    while pos < size:
        if size - pos < HEADER_LENGTH:
            # The group has ended if these bytes cannot be of it.
            if bytes(buffer[pos : pos + 2]) == b"\x02\0":
                raise DataSetError("the file ends within group 0002", pos)
            break
        raw, key, length = codec.explicit_header.unpack_from(buffer, pos)
        tag = codec.raw(raw)
        if tag >> 16 != FILE_META_GROUP:
            break
        value = pos + HEADER_LENGTH
        if key not in codec.short_vrs:
            if pos == announced_end and key not in codec.long_vrs:
                break  # the first bytes of a deflated data set may look like the group's
            if codec.long_vrs.get(key) or codec.future_vr(key):
                value = pos + LONG_HEADER_LENGTH
                if value > size:
                    raise DataSetError("the file ends within group 0002", pos)
                (length,) = codec.length.unpack_from(buffer, pos + HEADER_LENGTH)
            else:
                # Group 0002 in implicit VR: wrong, and seen.
                _, length = codec.item_header.unpack_from(buffer, pos)
        end = value + length
        if end - start > MAX_FILE_META_LENGTH:
            raise DataSetError(f"group 0002 is longer than {MAX_FILE_META_LENGTH} bytes", pos)
        if end > size:
            raise DataSetError(f"the file ends within {tag_text(tag)}", pos)
        elements[tag] = bytes(buffer[value:end])
        if tag == _GROUP_LENGTH and length == codec.length.size:
            announced_end = end + int.from_bytes(elements[tag], "little")
        pos = end
    return FileMeta(
        transfer_syntax_uid=_uid(elements, _TRANSFER_SYNTAX_UID),
        media_storage_sop_class_uid=_uid(elements, _MEDIA_STORAGE_SOP_CLASS_UID),
        media_storage_sop_instance_uid=_uid(elements, _MEDIA_STORAGE_SOP_INSTANCE_UID),
        data_set_offset=pos,
        elements=elements,
    )


#: How group 0002 starts where there is no preamble: its length, or its version.
_NAKED_META: Final = (b"\x02\0\0\0UL", b"\x02\0\x01\0OB")


def _uid(elements: dict[int, bytes], tag: int) -> str:
    # What is no ASCII is no UID; whoever uses it validates it.
    return elements.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")


def write_file_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    source_ae_title: str = "",
    *,
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID,
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME,
) -> bytes:
    """Preamble, prefix and group 0002, with its right length, to stand before a data set.

    Raises:
        UnicodeEncodeError: an argument that is not ASCII.
    """
    elements = [
        (_VERSION, "OB", b"\0\x01"),
        (_MEDIA_STORAGE_SOP_CLASS_UID, "UI", sop_class_uid.encode("ascii")),
        (_MEDIA_STORAGE_SOP_INSTANCE_UID, "UI", sop_instance_uid.encode("ascii")),
        (_TRANSFER_SYNTAX_UID, "UI", transfer_syntax_uid.encode("ascii")),
        (_IMPLEMENTATION_CLASS_UID, "UI", implementation_class_uid.encode("ascii")),
        (_IMPLEMENTATION_VERSION_NAME, "SH", implementation_version_name.encode("ascii")),
    ]
    if source_ae_title:
        elements.append((_SOURCE_AE_TITLE, "AE", source_ae_title.encode("ascii")))
    group = write_data_set(elements, EXPLICIT_LITTLE)
    length = len(group).to_bytes(4, "little")
    head = write_data_set([(_GROUP_LENGTH, "UL", length)], EXPLICIT_LITTLE)
    return bytes(PREAMBLE_LENGTH) + PREFIX + head + group


#: Elements that a guess looks at; the first already rules out nearly all other files.
_ELEMENTS_TO_GUESS_BY: Final = 8
#: An implicit VR data set starts below this group: identifying, patient or study information.
_HIGHEST_FIRST_GROUP: Final = 0x0040


def guess_encoding(buffer: Buffer) -> Encoding | None:
    """The encoding of a data set that stands alone, or None where *buffer* starts with none.

    Args:
        buffer: the file, or its first bytes; one whole element must be in it.

    A deflated data set cannot be told from anything else and is never guessed.
    """
    buffer = octets(buffer)
    for encoding in (EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE):
        if _starts_with_elements(buffer, encoding):
            return encoding
    return None


def _starts_with_elements(buffer: Buffer, encoding: Encoding) -> bool:
    """Whether some elements, with VRs that exist or in ascending order, stand at the start."""
    codec = codec_of(encoding)
    size = len(buffer)
    previous = -1
    pos = 0
    for count in range(_ELEMENTS_TO_GUESS_BY):
        if size - pos < HEADER_LENGTH:
            return count > 0
        raw, length = codec.item_header.unpack_from(buffer, pos)
        tag = codec.raw(raw)
        # A VR is good evidence; without one, groups and their order must be.
        if encoding.implicit_vr and (
            tag <= previous or (count == 0 and tag >> 16 >= _HIGHEST_FIRST_GROUP)
        ):
            return False
        previous = tag
        value = pos + HEADER_LENGTH
        if not encoding.implicit_vr:
            _, key, length = codec.explicit_header.unpack_from(buffer, pos)
            if key in codec.long_vrs:
                value = pos + LONG_HEADER_LENGTH
                if value > size:
                    return count > 0
                (length,) = codec.length.unpack_from(buffer, pos + HEADER_LENGTH)
            elif key not in codec.short_vrs:
                return False
        if length == UNDEFINED_LENGTH:
            return count > 0 or bytes(buffer[value : value + 4]) == codec.item.to_bytes(
                4, "big" if encoding.big_endian else "little"
            )
        pos = value + length
        if pos > size:
            return count > 0
    return True
