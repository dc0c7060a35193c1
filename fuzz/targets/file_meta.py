"""Invariant: the head of any file is read or refused with a reason; what was read is in the file.

Input: a byte, odd where preamble and prefix shall stand before the rest.
"""

from __future__ import annotations

from typing import Final

from wording import check_fault

from isocenter.engine.dataset import (
    DataSetError,
    encoding_of,
    guess_encoding,
    read_file_meta,
    write_file_meta,
)

_PREAMBLE: Final = bytes(128) + b"DICM"


def run(data: bytes) -> None:
    if not data:
        return
    head = (_PREAMBLE if data[0] & 1 else b"") + data[1:]
    guess_encoding(head)
    guess_encoding(data[1:])
    try:
        meta = read_file_meta(head)
    except DataSetError as fault:
        check_fault(fault)
        return
    start = len(_PREAMBLE) if head[128:132] == b"DICM" else 0
    assert start <= meta.data_set_offset <= len(head)
    group = head[start : meta.data_set_offset]
    assert all(value in group for value in meta.elements.values())
    assert all(tag >> 16 == 2 for tag in meta.elements)
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
