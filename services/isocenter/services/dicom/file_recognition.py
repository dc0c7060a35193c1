"""Recognition of files that hold DICOM objects.

One rule for whatever takes files: the content says what a file is, its name nothing; the data
set says what its object is called, as the File Meta Information of real files is sometimes
another object's.
"""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    ElementScanner,
    NotDicomError,
    encoding_of,
    is_syntax_certain,
    read_file_head,
)
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.dicom.uid_registry import (
    MEDIA_STORAGE_DIRECTORY,
    is_known_for_no_objects,
    name_of,
)

#: What is read first, to learn what a file is: the File Meta Information, and the data set up
#: to the SOP Instance UID, have less than a tenth of it in real files.  Most CT and MR
#: images need no second piece.
HEAD_BYTES: Final = 640 << 10
#: So many bytes say it in nearly all files, where nothing else has to be known.
FIRST_BYTES: Final = 1 << 10
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
#: Pixel Data of undefined length in little endian, and its first item (PS3.5 A.4).
_COMPRESSED_PIXELS: Final = re.compile(
    rb"\xe0\x7f\x10\x00(?:[A-Z][A-Z]\x00\x00)?\xff\xff\xff\xff\xfe\xff\x00\xe0"
)
_COMPRESSED_PIXELS_LENGTH: Final = 15
#: How a data set in implicit VR begins: group 0008.
_IDENTIFYING_GROUP: Final = b"\x08\0"
#: How the data set of a DICOMDIR begins.
_DIRECTORY_GROUPS: Final = (b"\x04\0", b"\0\x04")


class NotDicomFileError(IsocenterError):
    """A file is no DICOM object, and not meant as one; the message says how that was seen."""

    error_code = ErrorCode.FILE_NOT_DICOM


class DamagedFileError(NotDicomFileError):
    """A file that is DICOM, or could be, and that no object can be read from."""

    error_code = ErrorCode.FILE_DAMAGED


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What object a file holds.

    Attributes:
        sop_class_uid, sop_instance_uid: what the data set says; empty where it does not.
        media_storage_sop_class_uid, media_storage_sop_instance_uid: what the File Meta
            Information says, as far as there is any.
        forgiven: what is not as the standard has it, in words; no values.
        is_declared: whether the file says its transfer syntax, or the bytes alone do.
        is_readable: whether what was seen of the data set can be read; False: it cannot behind
            the identity.
    """

    sop_class_uid: str
    sop_instance_uid: str
    media_storage_sop_class_uid: str
    media_storage_sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_offset: int
    forgiven: tuple[str, ...] = ()
    is_declared: bool = True
    is_readable: bool = True


def identify(
    head: Buffer, limits: Limits = DEFAULT_LIMITS, *, is_whole: bool = False
) -> FileIdentity:
    """What object a file holds.

    Args:
        head: the file, or its first `HEAD_BYTES`.
        is_whole: whether that is all of it.

    Raises:
        NotDicomFileError: none: it is something else, a DICOMDIR, or of a SOP class that stores
            nothing.
        DamagedFileError: it is DICOM, or could be, and cannot be taken.
    """
    try:
        file = read_file_head(head)
    except NotDicomError as error:
        raise NotDicomFileError(error.fault) from error
    except DataSetError as error:
        raise DamagedFileError(str(error)) from error
    rest = memoryview(head)[file.data_set_offset :]
    meta = file.meta
    media_class = meta.media_storage_sop_class_uid if meta else ""
    if media_class == MEDIA_STORAGE_DIRECTORY or bytes(rest[:2]) in _DIRECTORY_GROUPS:
        raise NotDicomFileError("a DICOMDIR names objects and is none")
    encoding = encoding_of(file.transfer_syntax_uid)
    # Numbers that ascend are in many files; where nothing else speaks for implicit VR, the
    # first group of all images does.
    is_likely = (
        meta is not None or not encoding.implicit_vr or bytes(rest[:2]) == _IDENTIFYING_GROUP
    )
    scanner = ElementScanner(encoding, frozenset({_SOP_CLASS_UID, _SOP_INSTANCE_UID}), limits)
    is_readable = True
    try:
        scanner.feed(rest)
        if is_whole:
            scanner.finish()
    except DataSetError as error:
        is_readable = False
        # A fault further on is told with its place when the object is received.
        if _SOP_INSTANCE_UID not in scanner.values:
            if not is_likely:
                raise NotDicomFileError("starts like a data set and is none") from error
            may_be = "" if meta else "starts like a data set, and is damaged: "
            raise DamagedFileError(f"{may_be}{error}") from error
    sop_class_uid = _uid(scanner, _SOP_CLASS_UID)
    sop_instance_uid = _uid(scanner, _SOP_INSTANCE_UID)
    class_uid = sop_class_uid or media_class
    if is_known_for_no_objects(class_uid):
        raise NotDicomFileError(f"no object of a patient: {name_of(class_uid)}")
    if not sop_instance_uid:
        if not is_likely:
            raise NotDicomFileError("starts like a data set and is none")
        raise DamagedFileError(
            f"the data set has no SOP Instance UID (at byte {file.data_set_offset})"
            if meta
            else "may be a data set, and has no SOP Instance UID"
        )
    return FileIdentity(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        media_storage_sop_class_uid=media_class,
        media_storage_sop_instance_uid=meta.media_storage_sop_instance_uid if meta else "",
        transfer_syntax_uid=file.transfer_syntax_uid,
        data_set_offset=file.data_set_offset,
        forgiven=file.forgiven,
        is_declared=file.is_declared,
        is_readable=is_readable,
    )


def identify_early(start: Buffer, limits: Limits = DEFAULT_LIMITS) -> FileIdentity | None:
    """What object a file holds, where its first bytes say so; None: more of it is to be looked at.

    Whatever is odd waits for more: it may look different then.
    """
    try:
        found = identify(start, limits)
    except NotDicomFileError:
        return None
    if found.forgiven or not found.is_readable or not found.sop_class_uid:
        return None
    rest = memoryview(start)[found.data_set_offset :]
    return found if is_syntax_certain(rest, found.transfer_syntax_uid) else None


class CompressionWatch:
    """Looks out for compressed pixels in a data set for which no transfer syntax is declared.

    How they are compressed, nothing tells: under the transfer syntax that the elements show
    the object would be filed wrongly.
    """

    def __init__(self, identity: FileIdentity) -> None:
        self._is_on = not identity.is_declared
        self._rest = b""

    def feed(self, piece: Buffer) -> None:
        """Look at the next piece of the data set.

        Raises:
            DamagedFileError: there are some.
        """
        if not self._is_on:
            return
        data = self._rest + piece
        if _COMPRESSED_PIXELS.search(data):
            raise DamagedFileError("the pixels are compressed, and no Transfer Syntax UID says how")
        self._rest = data[-_COMPRESSED_PIXELS_LENGTH:]


def _uid(scanner: ElementScanner, tag: int) -> str:
    value = scanner.values.get(tag, b"")
    return value.rstrip(b"\0 ").decode("ascii", "replace") if isinstance(value, bytes) else ""
