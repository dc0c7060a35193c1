"""File Meta Information (PS3.10 7.1).

Pure functions over the first bytes of a file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.codec import HEADER_LENGTH, LONG_HEADER_LENGTH, Codec, codec_of
from isocenter.engine.dataset.encoding_detection import guess_encoding, is_readable
from isocenter.engine.dataset.errors import DataSetError, tag_text
from isocenter.engine.dataset.vr import EXPLICIT_BIG, EXPLICIT_LITTLE, encoding_of
from isocenter.engine.dataset.writer import write_data_set
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: Application bytes before the prefix (PS3.10 7.1).
PREAMBLE_LENGTH: Final = 128
PREFIX: Final = b"DICM"
#: File Meta Information of real files stays below 1 KiB; private information may add some.
MAX_FILE_META_LENGTH: Final = 64 << 10
#: NULs between group 0002 and the data set: some writers fill up a block of the disk.
MAX_FILL_LENGTH: Final = 4 << 10
#: Enough of a file for `read_file_meta` and `guess_encoding`, in bytes.
FILE_HEAD_LENGTH: Final = 2 * (PREAMBLE_LENGTH + len(PREFIX) + MAX_FILE_META_LENGTH)

FILE_META_GROUP: Final = 0x0002
_GROUP_LENGTH: Final = 0x00020000
_VERSION: Final = 0x00020001
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002
_MEDIA_STORAGE_SOP_INSTANCE_UID: Final = 0x00020003
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_IMPLEMENTATION_CLASS_UID: Final = 0x00020012
_IMPLEMENTATION_VERSION_NAME: Final = 0x00020013
_SOURCE_AE_TITLE: Final = 0x00020016

#: Behind the prefix, a preamble and a prefix once more.
_SECOND_HEADER: Final = bytes(PREAMBLE_LENGTH) + PREFIX
#: A tag and a length of nothing but NULs: no element of a data set starts so.
_FILL: Final = bytes(HEADER_LENGTH)
_GROUP_IN_LITTLE: Final = b"\x02\0"
_GROUP_IN_BIG: Final = b"\0\x02"
#: The longest element of group 0002 without a VR with which a file without prefix may start.
_MAX_NAKED_LENGTH: Final = 0xFF

#: What `write_file_meta` writes: prefix and the header of the group length, which ends here;
#: version; headers of the three UIDs.
_GROUP_LENGTH_START: Final = PREFIX + b"\x02\0\0\0UL\x04\0"
_GROUP_LENGTH_END: Final = PREAMBLE_LENGTH + len(_GROUP_LENGTH_START) + 4
_KNOWN_START: Final = b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01"
_UI_HEADERS: Final = (b"\x02\0\x02\0UI", b"\x02\0\x03\0UI", b"\x02\0\x10\0UI")


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the File Meta Information says; a UID that is missing is empty.

    Attributes:
        data_set_offset: byte of the file at which the data set starts.
        elements: tag → raw value of all of group 0002, padding kept, in the byte order that
            the file has: little endian, unless it breaks the standard.
        forgiven: what is not as PS3.10 7.1 has it, in words; no values.
    """

    transfer_syntax_uid: str
    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    data_set_offset: int
    elements: dict[int, bytes]
    forgiven: tuple[str, ...] = ()


def read_file_meta(buffer: Buffer) -> FileMeta:
    """The File Meta Information at the start of a file.

    Args:
        buffer: the file, or its first `FILE_HEAD_LENGTH` bytes.

    It ends where its group length (0002,0000) says, if an element of group 0002 ends there, and
    the next one, if there is one, does not go on in ascending order.  A group length that is
    missing or wrong counts for nothing: then it ends where group 0002 ends, or has a tag for the
    second time.  What more there is of group 0002 stands in front of the data set, belongs to
    neither, and is believed in nothing.

    Forgiven, beside a wrong group length: no preamble, or two; elements in implicit VR or big
    endian; NULs in front of the data set.

    Raises:
        DataSetError: no Part 10 file, or a malformed, contradictory or too long group 0002.
    """
    buffer = octets(buffer)
    start = start_of_file_meta(buffer)
    if start is None:
        raise DataSetError("no Part 10 file: neither DICM nor group 0002 (PS3.10 7.1)", 0)
    return _read(memoryview(buffer), start, may_hold_another=True)


def start_of_file_meta(buffer: Buffer) -> int | None:
    """Where group 0002 starts in a file, or would; None: it has neither prefix nor group 0002.

    A prefix where no group 0002 follows may be chance, in a data set that stands alone.
    """
    behind = PREAMBLE_LENGTH + len(PREFIX)
    if bytes(buffer[PREAMBLE_LENGTH:behind]) == PREFIX:
        second = behind + len(_SECOND_HEADER)
        if bytes(buffer[behind:second]) == _SECOND_HEADER and _starts_group(buffer, second):
            return second
        is_chance = not _starts_group(buffer, behind) and (
            _starts_group(buffer, 0) or guess_encoding(buffer) is not None
        )
        if not is_chance:
            return behind
    for start in (len(PREFIX), 0):
        if bytes(buffer[:start]) == PREFIX[:start] and _starts_group(buffer, start):
            return start
    return None


def _starts_group(buffer: Buffer, pos: int) -> bool:
    """Whether an element of group 0002 starts at *pos*, judged by its header."""
    head = bytes(buffer[pos : pos + HEADER_LENGTH])
    if len(head) < HEADER_LENGTH:
        return False
    for group, encoding in ((_GROUP_IN_LITTLE, EXPLICIT_LITTLE), (_GROUP_IN_BIG, EXPLICIT_BIG)):
        if head.startswith(group):
            codec = codec_of(encoding)
            raw, key, _ = codec.explicit_header.unpack(head)
            if key in codec.short_vrs or key in codec.long_vrs:
                return True
            _, length = codec.item_header.unpack(head)
            return (
                not encoding.big_endian
                and codec.raw(raw) <= _SOURCE_AE_TITLE
                and length <= _MAX_NAKED_LENGTH
            )
    return False


class _Element(NamedTuple):
    """An element of group 0002: where its header, its value and its end are, in bytes."""

    tag: int
    start: int
    value: int
    end: int
    has_vr: bool


def _read(buffer: memoryview, start: int, *, may_hold_another: bool) -> FileMeta:
    codec = codec_of(EXPLICIT_LITTLE)
    forgiven = []
    if start != PREAMBLE_LENGTH + len(PREFIX):
        forgiven.append("no preamble" if start <= len(PREFIX) else "two preambles")
    if bytes(buffer[start : start + 2]) == _GROUP_IN_BIG:
        codec = codec_of(EXPLICIT_BIG)
        forgiven.append("group 0002 in big endian")
    found, announced = _elements(buffer, start, codec)
    count, is_announced = _count_of_meta(found, announced)
    elements: dict[int, bytes] = {}
    for element in found[:count]:
        # Of a tag that comes twice the first counts, as it does for what comes behind.
        elements.setdefault(element.tag, bytes(buffer[element.value : element.end]))
    syntax = _uid(elements, _TRANSFER_SYNTAX_UID)
    for element in found[:count]:
        value = bytes(buffer[element.value : element.end])
        if element.tag == _TRANSFER_SYNTAX_UID and _uid_text(value) != syntax:
            raise DataSetError(
                "two Transfer Syntax UIDs (0002,0010) that differ: nobody can tell which one is "
                "right",
                element.start,
            )
    if not all(element.has_vr for element in found[:count]):
        forgiven.append("group 0002 in implicit VR")
    if not found:
        forgiven.append("no File Meta Information")
    elif not is_announced:
        forgiven.append(f"group length {'missing' if announced is None else 'wrong'}")
    end = found[-1].end if found else start
    has_leftover = False
    if is_announced and encoding_of(syntax).deflated:
        # What was deflated may look like anything.
        end = found[count - 1].end
    else:
        behind = _behind_leftover(buffer, end, syntax)
        has_leftover = len(found) > count or behind > end
        end = behind
    inner = None
    if may_hold_another and is_announced and not has_leftover:
        inner = _inner_file(buffer, end)
    if has_leftover:
        forgiven.append("elements of group 0002 in front of the data set, left out")
    if inner is not None:
        if syntax and inner.transfer_syntax_uid not in ("", syntax):
            raise DataSetError(
                "a whole file within a file, with another transfer syntax: nobody can tell which "
                "one is right",
                end,
            )
        end, syntax = inner.data_set_offset, syntax or inner.transfer_syntax_uid
        forgiven.append("a whole file within a file")
    elif bytes(buffer[end : end + len(_FILL)]) == _FILL:
        behind = _behind_fill(buffer, end, announced or 0, syntax)
        if behind > end:
            end = behind
            forgiven.append("NULs in front of the data set, left out")
    return FileMeta(
        transfer_syntax_uid=syntax,
        media_storage_sop_class_uid=_uid(elements, _MEDIA_STORAGE_SOP_CLASS_UID),
        media_storage_sop_instance_uid=_uid(elements, _MEDIA_STORAGE_SOP_INSTANCE_UID),
        data_set_offset=end,
        elements=elements,
        forgiven=tuple(forgiven),
    )


def _inner_file(buffer: memoryview, pos: int) -> FileMeta | None:
    """What the File Meta Information says of a file that stands in place of a data set."""
    start = pos + len(_SECOND_HEADER)
    if bytes(buffer[pos:start]) != _SECOND_HEADER or not _starts_group(buffer, start):
        return None
    try:
        return _read(buffer, start, may_hold_another=False)
    except DataSetError:
        return None  # it is the data set's to be at fault


def _elements(buffer: memoryview, start: int, codec: Codec) -> tuple[list[_Element], int | None]:
    """What there is of group 0002 from *start* on, and where its length says that it ends."""
    found: list[_Element] = []
    announced: int | None = None
    pos = start
    while True:
        try:
            element = _element_at(buffer, pos, start, announced, codec)
        except DataSetError:
            if announced is None or pos < announced:
                raise
            element = None  # behind the meta: it is the data set's to be at fault
        if element is None:
            return found, announced
        if element.tag == _GROUP_LENGTH and not found:
            value = bytes(buffer[element.value : element.end])
            if len(value) == codec.length.size:
                announced = element.end + int(codec.length.unpack(value)[0])
        found.append(element)
        pos = element.end


def _element_at(
    buffer: memoryview, pos: int, start: int, announced: int | None, codec: Codec
) -> _Element | None:
    size = len(buffer)
    if size - pos < HEADER_LENGTH:
        # The group has ended if these bytes cannot be of it.
        group = _GROUP_IN_BIG if codec.big_endian else _GROUP_IN_LITTLE
        if bytes(buffer[pos : pos + 2]) == group:
            raise DataSetError("the file ends within group 0002", pos)
        return None
    raw, key, length = codec.explicit_header.unpack_from(buffer, pos)
    tag = codec.raw(raw)
    if tag >> 16 != FILE_META_GROUP:
        return None
    value = pos + HEADER_LENGTH
    has_vr = key in codec.short_vrs
    if not has_vr:
        has_vr = bool(codec.long_vrs.get(key) or codec.future_vr(key))
        if has_vr:
            value = pos + LONG_HEADER_LENGTH
            if value > size:
                raise DataSetError("the file ends within group 0002", pos)
            (length,) = codec.length.unpack_from(buffer, pos + HEADER_LENGTH)
        else:
            # Group 0002 in implicit VR: wrong, and seen.
            _, long_length = codec.item_header.unpack_from(buffer, pos)
            is_behind = announced is not None and pos >= announced
            if is_behind or value + long_length <= min(size, start + MAX_FILE_META_LENGTH):
                length = long_length
            # Else what stands in place of a VR is none, and the length behind it is meant.
    end = value + length
    if announced is not None and value <= announced < end and _is_data_set(buffer, announced):
        end = announced  # the length of the last element is wrong
    if end - start > MAX_FILE_META_LENGTH:
        raise DataSetError(f"group 0002 is longer than {MAX_FILE_META_LENGTH} bytes", pos)
    if end > size:
        raise DataSetError(f"the file ends within {tag_text(tag)}", pos)
    return _Element(tag, pos, value, end, has_vr)


def _is_data_set(buffer: memoryview, pos: int) -> bool:
    """Whether a data set, and not more of group 0002, could start at *pos*."""
    return not _starts_group(buffer, pos) and guess_encoding(buffer[pos:]) is not None


def _count_of_meta(found: list[_Element], announced: int | None) -> tuple[int, bool]:
    """How many of the elements are the File Meta Information, and whether its length says so."""
    for count, element in enumerate(found, 1):
        if element.end == announced:
            goes_on = (
                count < len(found)
                and found[count].tag > max(one.tag for one in found[:count])
                and found[count].has_vr == element.has_vr
            )
            if not goes_on:
                return count, True
            break
    seen: set[int] = set()
    for count, element in enumerate(found):
        if element.tag in seen:
            return count, False
        seen.add(element.tag)
    return len(found), False


def _behind_leftover(buffer: memoryview, pos: int, syntax: str) -> int:
    """Where a data set starts behind elements of group 0002 that are in big endian, as it is."""
    if encoding_of(syntax).big_endian and _starts_group(buffer, pos):
        try:
            found, _ = _elements(buffer, pos, codec_of(EXPLICIT_BIG))
        except DataSetError:
            return pos  # it is the data set's to be at fault
        return found[-1].end if found else pos
    return pos


def _behind_fill(buffer: memoryview, pos: int, announced: int, syntax: str) -> int:
    """Where a data set starts behind NULs; *pos* where none does."""
    window = bytes(buffer[pos : pos + MAX_FILL_LENGTH])
    filled = pos + len(window) - len(window.lstrip(b"\0"))
    encoding = encoding_of(syntax)
    if encoding.deflated:
        return announced if pos < announced <= filled else pos
    # In big endian a NUL begins the first tag.
    for start in (announced, filled, filled - 1):
        if pos < start <= filled:
            rest = buffer[start:]
            if is_readable(rest, encoding) if syntax else guess_encoding(rest) is not None:
                return start
    return pos


def _uid(elements: dict[int, bytes], tag: int) -> str:
    return _uid_text(elements.get(tag, b""))


def _uid_text(value: bytes) -> str:
    """Up to the first NUL, without spaces around it."""
    # What is no ASCII is no UID; whoever uses it validates it.
    return value.partition(b"\0")[0].strip(b" ").decode("ascii", "replace")


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


def is_file_meta_of(
    buffer: Buffer,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    length: int,
) -> bool:
    """Whether *buffer* starts with what `write_file_meta` makes of these, *length* bytes long.

    A quick look at what is known.  False says nothing: `read_file_meta` reads other forms, too.
    """
    known = _KNOWN_START + b"".join(
        _UI_HEADERS[place]
        + (len(uid) + 1 & ~1).to_bytes(2, "little")
        + uid
        + b"\0" * (len(uid) & 1)
        for place, uid in enumerate(
            (
                sop_class_uid.encode("ascii"),
                sop_instance_uid.encode("ascii"),
                transfer_syntax_uid.encode("ascii"),
            )
        )
    )
    end_of_group = _GROUP_LENGTH_END + int.from_bytes(
        buffer[_GROUP_LENGTH_END - 4 : _GROUP_LENGTH_END], "little"
    )
    return (
        bytes(buffer[PREAMBLE_LENGTH : _GROUP_LENGTH_END - 4]) == _GROUP_LENGTH_START
        and end_of_group == length
        and bytes(buffer[_GROUP_LENGTH_END : _GROUP_LENGTH_END + len(known)]) == known
    )
