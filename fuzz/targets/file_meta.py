"""Invariant: the head of any file is read or refused with a reason; what was read is in the file.

And what stands behind File Meta Information of ours changes nothing that it says.

Input: a byte, odd where preamble and prefix shall stand before the rest.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import (
    DataSetError,
    encoding_of,
    guess_encoding,
    read_file_head,
    read_file_meta,
    write_file_meta,
)
from isocenter.engine.dataset.encoding_detection import proven_transfer_syntax
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_safe_uid,
)

_PREAMBLE: Final = bytes(128) + b"DICM"
_SYNTAXES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


def run(data: bytes) -> None:
    if not data:
        return
    head = (_PREAMBLE if data[0] & 1 else b"") + data[1:]
    guess_encoding(head)
    guess_encoding(data[1:])
    _check_head(head)
    _check_behind_ours(data[1:], _SYNTAXES[data[0] >> 1 & 3])
    try:
        meta = read_file_meta(head)
    except DataSetError as fault:
        check_fault(fault)
        return
    assert 0 <= meta.data_set_offset <= len(head)
    group = head[: meta.data_set_offset]
    assert all(value in group for value in meta.elements.values())
    assert all(tag >> 16 == 2 for tag in meta.elements)
    assert all(one.isprintable() for one in meta.forgiven)
    guess_encoding(head[meta.data_set_offset :])
    encoding_of(meta.transfer_syntax_uid)
    uids = (
        meta.media_storage_sop_class_uid,
        meta.media_storage_sop_instance_uid,
        meta.transfer_syntax_uid,
    )
    if all(uid.isascii() and len(uid) <= 64 for uid in uids):
        again = read_file_meta(write_file_meta(*uids, "AE") + b"\x08\0\5\0CS\0\0")
        assert uids == (
            again.media_storage_sop_class_uid,
            again.media_storage_sop_instance_uid,
            again.transfer_syntax_uid,
        )


def _check_head(head: bytes) -> None:
    """A file is what it says or shows, and then its data set can be read in no other way."""
    try:
        found = read_file_head(head)
    except DataSetError as fault:
        check_fault(fault)
        return
    assert is_safe_uid(found.transfer_syntax_uid)
    assert 0 <= found.data_set_offset <= len(head)
    rest = head[found.data_set_offset :]
    said = found.meta.transfer_syntax_uid if found.meta else ""
    if found.transfer_syntax_uid != said:
        # It was seen in the bytes, and is seen there again.
        assert proven_transfer_syntax(rest, found.transfer_syntax_uid) == found.transfer_syntax_uid


def _check_behind_ours(data_set: bytes, syntax: str) -> None:
    ours = write_file_meta("1.2.3", "1.2.3.4", syntax, "AE")
    if data_set.startswith(_PREAMBLE):
        return  # a file in place of a data set, which none begins like
    meta = read_file_meta(ours + data_set)
    assert meta.transfer_syntax_uid == syntax
    assert meta.media_storage_sop_instance_uid == "1.2.3.4"
    assert meta.data_set_offset >= len(ours)
    if data_set[:2] not in (b"\2\0", b"\0\2", b"\0\0"):
        assert meta.data_set_offset == len(ours)
