"""File with a data set, open for reading.

The lenient reader of the file tools.  What a file is, `isocenter.engine.dataset.read_file_head`
tells from its content; its data set is mapped, not read, and inflated into a temporary file where
it was deflated.  What is not as the standard has it, `DataSetFile.forgiven` says in words.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import IO, Final

from isocenter.engine.dataset import DataSetError, FileHead, read_file_head
from isocenter.engine.dataset.errors import DataSetLimitError
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.vr import Encoding, encoding_of
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.file_recognition import HEAD_BYTES
from isocenter.services.dicom.uid_registry import MEDIA_STORAGE_DIRECTORY

#: How the data set of a DICOMDIR begins.
_DIRECTORY_GROUPS: Final = (b"\4\0", b"\0\4")
#: What a deflated data set may come to, in bytes.
MAX_INFLATED_LENGTH: Final = 8 << 30
#: Bytes that are inflated at once: grow to at most 1,032 times this.
_DEFLATED_BYTES: Final = 8 << 10


@dataclass(slots=True)
class DataSetFile:
    """A data set that can be looked at like bytes.

    Attributes:
        data: the data set, inflated; good while the file is open.
        encoding: of *data*.
        head: what the file says before it.
        is_inflated: whether *data* is not the bytes of the file.
        head_bytes: the bytes of the file before the data set.
        forgiven: what was forgiven so far → byte of the data set at which it was first.
    """

    data: memoryview
    encoding: Encoding
    head: FileHead
    is_inflated: bool
    head_bytes: bytes = b""
    forgiven: dict[str, int] = field(default_factory=dict)


def is_directory(file: DataSetFile) -> bool:
    """Whether it is a DICOMDIR, whose records point to each other by byte (PS3.3 F)."""
    meta = file.head.meta
    if meta is not None and meta.media_storage_sop_class_uid == MEDIA_STORAGE_DIRECTORY:
        return True
    return bytes(file.data[:2]) in _DIRECTORY_GROUPS


@contextmanager
def open_data_set(
    file: IO[bytes], *, tolerance: Tolerance = Tolerance.USUAL
) -> Iterator[DataSetFile]:
    """The data set of an open file.

    Args:
        tolerance: STRICT forgives nothing in the head of the file, either.

    Raises:
        NotDicomError: it holds none.
        DataSetError: the head of the file cannot be read, or is not as the standard has it.
        OSError: it cannot be read or mapped.
    """
    file.seek(0)
    first = file.read(HEAD_BYTES)
    head = read_file_head(first)
    before = first[: head.data_set_offset]
    if head.forgiven and tolerance is Tolerance.STRICT:
        raise DataSetError(head.forgiven[0], 0)
    encoding = encoding_of(head.transfer_syntax_uid)
    forgiven = dict.fromkeys(head.forgiven, 0)
    if not encoding.deflated:
        with mapped(file, head.data_set_offset) as data:
            yield DataSetFile(data, encoding, head, False, before, forgiven)
        return
    with tempfile.TemporaryFile() as inflated:
        try:
            _inflate(file, head.data_set_offset, inflated)
        except DataSetLimitError:
            raise
        except DataSetError as error:
            if tolerance is not Tolerance.SALVAGE:
                raise
            forgiven[error.fault] = error.offset
        inflated.flush()
        with mapped(inflated, 0) as data:
            yield DataSetFile(data, encoding, head, True, before, forgiven)


@contextmanager
def mapped(file: IO[bytes], offset: int) -> Iterator[memoryview]:
    """A file from byte *offset* on, mapped."""
    if file.seek(0, 2) <= offset:
        yield memoryview(b"")
        return
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole = memoryview(mapping)
    data = whole[offset:]
    try:
        yield data
    finally:
        data.release()
        whole.release()
        try:
            mapping.close()
        except BufferError:
            pass  # whoever still looks at a part of it keeps it open


def _inflate(file: IO[bytes], offset: int, target: IO[bytes]) -> None:
    inflater = Inflater()
    length = 0
    file.seek(offset)
    while piece := file.read(_DEFLATED_BYTES):
        for inflated in inflater.feed(piece):
            length += len(inflated)
            if length > MAX_INFLATED_LENGTH:
                raise DataSetLimitError(
                    f"it inflates to more than {MAX_INFLATED_LENGTH >> 30} GiB", length, "inflated"
                )
            target.write(inflated)
    inflater.finish()
