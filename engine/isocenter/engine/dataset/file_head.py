"""Detection of Part 10 files and bare data sets by their first bytes."""

from __future__ import annotations

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.encoding_detection import (
    guess_transfer_syntax,
    proven_transfer_syntax,
)
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.dataset.file_meta import FileMeta, read_file_meta, start_of_file_meta
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid


class NotDicomError(DataSetError):
    """Nothing in the file looks like DICOM: neither the prefix, nor group 0002, nor elements."""

    error_code = ErrorCode.FILE_NOT_DICOM


@dataclass(frozen=True, slots=True)
class FileHead:
    """Where the data set of a file starts, and how it is encoded.

    Attributes:
        transfer_syntax_uid: what the data set has.  The File Meta Information says it, unless
            it says nothing, or the bytes of an uncompressed data set prove another one.
        meta: None where the file begins with its data set.
        forgiven: what is not as PS3.10 7.1 has it, in words; no values.
        is_declared: whether the file says that transfer syntax.  Where the bytes alone say it,
            they do not say how pixels are compressed.
    """

    transfer_syntax_uid: str
    data_set_offset: int
    meta: FileMeta | None
    forgiven: tuple[str, ...]

    @property
    def is_declared(self) -> bool:
        meta = self.meta
        return meta is not None and meta.transfer_syntax_uid == self.transfer_syntax_uid


def read_file_head(buffer: Buffer) -> FileHead:
    """What a file is.

    Args:
        buffer: the file, or its first bytes: `FILE_HEAD_LENGTH` and a few elements more.

    Raises:
        NotDicomError: it is something else.
        DataSetError: it is DICOM, or was meant to be, and cannot be read.
    """
    buffer = octets(buffer)
    if start_of_file_meta(buffer) is None:
        syntax = guess_transfer_syntax(buffer)
        if not syntax:
            raise NotDicomError("neither a Part 10 file nor a data set", 0)
        return FileHead(syntax, 0, None, ("no File Meta Information",))
    meta = read_file_meta(buffer)
    rest = memoryview(buffer)[meta.data_set_offset :]
    forgiven = meta.forgiven
    if is_safe_uid(meta.transfer_syntax_uid):
        syntax = proven_transfer_syntax(rest, meta.transfer_syntax_uid)
        if syntax != meta.transfer_syntax_uid:
            forgiven += ("the data set is not in the transfer syntax that the file says",)
    else:
        syntax = guess_transfer_syntax(rest)
        if not syntax:
            raise DataSetError("neither Transfer Syntax UID nor a data set", meta.data_set_offset)
        forgiven += ("no Transfer Syntax UID; the data set shows it",)
    return FileHead(syntax, meta.data_set_offset, meta, forgiven)
