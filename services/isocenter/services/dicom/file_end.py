"""End of the data set in a file that has something behind it."""

from __future__ import annotations

import zlib
from typing import IO, Final

from isocenter.engine.dataset import encoding_of
from isocenter.engine.dataset.inflate import RAW_DEFLATE
from isocenter.engine.dataset.trailing_bytes import start_of_trailing_bytes
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.data_set_file import MAX_INFLATED_LENGTH, mapped
from isocenter.services.dicom.file_recognition import FileIdentity
from isocenter.services.dicom.uid_registry import name_of

#: What the names of SOP classes with pixels have in common.
_IMAGE: Final = "Image Storage"
#: Bytes that are inflated at once; they grow to at most 1,032 times this.
_DEFLATED_BYTES: Final = 8 << 10


def end_of_data_set(file: IO[bytes], identity: FileIdentity) -> int | None:
    """Byte of *file* at which its data set ends, if what follows is no part of it.

    Returns:
        None where it goes on to the end of the file, or is cut or damaged.
    """
    offset = identity.data_set_offset
    encoding = encoding_of(identity.transfer_syntax_uid)
    if encoding.deflated:
        return _end_of_deflated(file, offset)
    with mapped(file, offset) as data:
        is_image = _IMAGE in name_of(identity.sop_class_uid)
        found = start_of_trailing_bytes(data, encoding, _is_known, is_image=is_image)
    return None if found is None else offset + found


def left_out(count: int) -> str:
    """What is told of bytes behind a data set."""
    return f"{count} bytes behind the data set, left out"


def _is_known(tag: int) -> bool:
    return not tag >> 16 & 1 and dictionary_vr_choice(tag) != "UN"


def _end_of_deflated(file: IO[bytes], offset: int) -> int | None:
    inflater = zlib.decompressobj(RAW_DEFLATE)
    file.seek(offset)
    end = offset
    length = 0
    try:
        while not inflater.eof:
            piece = file.read(_DEFLATED_BYTES)
            if not piece:
                return None
            length += len(inflater.decompress(piece))
            if length > MAX_INFLATED_LENGTH:
                return None
            end += len(piece) - len(inflater.unused_data)
    except zlib.error:
        return None
    size = file.seek(0, 2)
    # One NUL makes its length even (PS3.5 A.5).
    file.seek(end)
    if (end - offset) & 1 and file.read(1) == b"\0":
        end += 1
    return end if end < size else None
