"""DICOM objects to be sent: from a file, an archive or memory.

A `DicomObject` knows what negotiation asks for and gives its data set in parts;
nothing larger than a part is held.  When the peer did not accept the transfer
syntax that the object has, the uncompressed ones are converted among each other
on the way (`isocenter.engine.dataset.Reencoder`).
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    Reencoder,
    Survey,
    encoding_of,
)
from isocenter.engine.dataset.transcoder import Odd
from isocenter.engine.fast_init import dataclass
from isocenter.engine.pdv import parts_of
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    is_safe_uid,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.file_end import end_of_data_set, left_out
from isocenter.services.dicom.file_recognition import (
    HEAD_BYTES,
    CompressionWatch,
    DamagedFileError,
    FileIdentity,
    NotDicomFileError,
    identify,
)
from isocenter.services.dicom.object_reader import ObjectReader

if TYPE_CHECKING:
    import pydicom

log = logging.getLogger("isocenter.objects")

#: What is read, sent and held of an object at once.
PART_BYTES: Final = 1 << 20
#: The same of one that is inflated on the way: grows to at most 1,032 times this.
_DEFLATED_BYTES: Final = 8 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomObject:
    """One composite instance that can be sent.

    Attributes:
        open: makes a reader of the whole object.
        data_set_offset: where the data set starts in it, in bytes.
        name: for messages: a path or a UID.
        part_length: of how much is read and sent at once, in bytes; even.
        digest: of its bytes, where they are known to stay; what is made of it can be kept then.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    open: Callable[[], Awaitable[ObjectReader]]
    data_set_offset: int = 0
    name: str = ""
    part_length: int = PART_BYTES
    digest: str = ""

    @classmethod
    async def from_file(cls, path: str | Path) -> DicomObject:
        """A Part 10 file, or a data set without File Meta Information.

        Raises:
            NotDicomFileError: it is neither, or no object of a patient.
            DamagedFileError: it is one of them, or could be, and cannot be read.
            OSError: it cannot be read.
        """
        return await trio.to_thread.run_sync(_object_of_file, Path(path))

    @classmethod
    def from_dataset(cls, dataset: pydicom.Dataset) -> DicomObject:
        """A pydicom data set, encoded as its file meta says, else explicit VR little endian."""
        from pydicom.filebase import DicomBytesIO
        from pydicom.filewriter import write_dataset

        meta = getattr(dataset, "file_meta", None)
        syntax = str(getattr(meta, "TransferSyntaxUID", "") or EXPLICIT_VR_LITTLE_ENDIAN)
        encoding = encoding_of(syntax)
        buffer = DicomBytesIO()
        buffer.is_implicit_VR = encoding.implicit_vr
        buffer.is_little_endian = not encoding.big_endian
        # Without File Meta Information, which has no place on the network (PS3.10 7.1).
        write_dataset(buffer, dataset)
        whole = buffer.getvalue()
        if encoding.deflated:
            whole = _deflated(whole)

        async def open_object() -> ObjectReader:
            return MemoryReader(whole)

        return cls(
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            transfer_syntax_uid=syntax,
            open=open_object,
            name=str(dataset.SOPInstanceUID),
        )

    def parts(self, target: str | None = None) -> AsyncGenerator[tuple[Buffer, bool], None]:
        """The data set in pieces of about `part_length`, in *target*'s encoding if given, each
        with whether it is the last.

        A piece is good until the next is asked for, or the iteration is closed.

        Raises:
            StorageError, KeyError, OSError: it cannot be read.
            DataSetError: it cannot be converted.
        """
        if target is None or target == self.transfer_syntax_uid:
            return self._as_they_are()
        return self._converted(target)

    async def _as_they_are(self) -> AsyncGenerator[tuple[Buffer, bool], None]:
        is_deflated = self.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        async with await self.open() as reader:
            for start, length, is_last in parts_of(
                self.data_set_offset, reader.size, self.part_length
            ):
                part = await _part(reader.view, start, length)
                # A NUL that whoever deflated it forgot (PS3.5 A.5); peers abort without.
                if is_deflated and is_last and len(part) & 1:
                    part = bytes(part) + b"\0"
                yield part, is_last

    async def _converted(self, target: str) -> AsyncGenerator[tuple[Buffer, bool], None]:
        source, wanted = encoding_of(self.transfer_syntax_uid), encoding_of(target)
        step = _DEFLATED_BYTES if source.deflated else self.part_length
        ready: Buffer = b""
        held = b""
        async with await self.open() as reader:
            odd: Mapping[int, Odd] = {}
            if Survey.is_needed(source, wanted):
                # Before the first byte leaves: then it is too late to find that it cannot be.
                odd = await self._surveyed(
                    reader, Survey(source, wanted, dictionary_vr_choice), step
                )
            reencoder = Reencoder(source, wanted, dictionary_vr_choice, odd=odd)
            for start, length, _ in parts_of(self.data_set_offset, reader.size, step):
                # The reencoder keeps some of it for a while.
                part = await _part(reader.read, start, length)
                pieces = await trio.to_thread.run_sync(reencoder.feed, part)
                # Even lengths, as each part ends a fragment, and some peers count on it.
                whole = b"".join((held, *pieces))
                even = len(whole) & ~1
                held = whole[even:]
                if even:
                    if ready:
                        yield ready, False
                    ready = memoryview(whole)[:even]
            held += b"".join(reencoder.finish())
            if held:
                if ready:
                    yield ready, False
                ready = held
            yield ready, True

    async def _surveyed(self, reader: ObjectReader, survey: Survey, step: int) -> Mapping[int, Odd]:
        position, end = self.data_set_offset, reader.size
        while position < end:
            part = await _part(reader.read, position, min(step, end - position))
            position += len(part)
            await trio.to_thread.run_sync(survey.feed, part)
            # What is in long values need not be read twice.
            ahead = min(survey.next_wanted + self.data_set_offset, end) - position
            if ahead > 0:
                survey.pass_over(ahead)
                position += ahead
        survey.finish()
        if survey.odd:
            log.info(
                "instance %s: %d elements cannot be re-encoded: they go on as UN or not at all",
                self.sop_instance_uid,
                len(survey.odd),
            )
        return survey.odd


async def _part(
    read: Callable[[int, int], Awaitable[Buffer]], position: int, length: int
) -> Buffer:
    part = await read(position, length) if length else b""
    if len(part) != length:
        raise DataSetError("the object is shorter than it was", position)
    return part


def _deflated(data_set: bytes) -> bytes:
    """A raw deflate stream of even length (PS3.5 A.5)."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(data_set) + compressor.flush()
    return deflated + b"\0" * (len(deflated) & 1)


def _object_of_file(path: Path) -> DicomObject:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    is_whole = len(head) < HEAD_BYTES
    try:
        found = identify(head, is_whole=is_whole)
        if not found.is_declared:
            _look_for_compression(path, found)
    except DamagedFileError as error:
        raise DamagedFileError(f"{path}: damaged ({error})") from error
    except NotDicomFileError as error:
        raise NotDicomFileError(f"{path}: not DICOM ({error})") from error
    # What the data set says is what the receiver checks.
    sop_class = found.sop_class_uid or found.media_storage_sop_class_uid
    if not sop_class:
        raise DamagedFileError(f"{path}: damaged (no SOP Class UID)")

    forgiven = list(found.forgiven)
    end: int | None = None
    if not is_whole or not found.is_readable:
        # A peer would give the whole object up.
        with path.open("rb") as file:
            end = end_of_data_set(file, found)
            if end is not None:
                forgiven.append(left_out(file.seek(0, 2) - end))
    if forgiven:
        uid = found.sop_instance_uid
        name = uid if is_safe_uid(uid) else "(no UID)"
        log.info("instance %s: %s", name, "; ".join(forgiven))

    async def open_object() -> ObjectReader:
        return await trio.to_thread.run_sync(PathReader, path, end)

    return DicomObject(
        sop_class_uid=sop_class,
        sop_instance_uid=found.sop_instance_uid,
        transfer_syntax_uid=found.transfer_syntax_uid,
        open=open_object,
        data_set_offset=found.data_set_offset,
        name=str(path),
    )


def _look_for_compression(path: Path, found: FileIdentity) -> None:
    watch = CompressionWatch(found)
    with path.open("rb") as file:
        file.seek(found.data_set_offset)
        while piece := file.read(PART_BYTES):
            watch.feed(piece)


class PathReader:
    """A file up to *end*, as an `ObjectReader`; closing it closes the file."""

    def __init__(self, path: Path, end: int | None = None) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = path.stat().st_size if end is None else end

    async def read(self, offset: int, length: int) -> bytes:
        return await trio.to_thread.run_sync(self._read, offset, length)

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._file.close()


class MemoryReader:
    """A whole object in memory, as an `ObjectReader`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._data[offset : offset + length]

    async def view(self, offset: int, length: int) -> Buffer:
        return await self.read(offset, length)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


__all__ = [
    "PART_BYTES",
    "DamagedFileError",
    "DicomObject",
    "NotDicomFileError",
]
