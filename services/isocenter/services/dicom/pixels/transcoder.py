"""Transcoder of objects: the syntaxes that each can become, and a cache.

It knows what is preferred, holds results within a bound, and tells how often it was asked; how an
object is made is in `isocenter.services.dicom.pixels.transcoding`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final, Protocol

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    UNCOMPRESSED,
)
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.dicom.pixels.transcoding import (
    TranscodedObject,
    TranscodingOptions,
    check_possible,
    transcode,
)
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    HTJ2K_LOSSLESS,
    INSTALL,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    Support,
    decoding_of,
)
from isocenter.services.notices import Notices, ObjectTranscoded

#: What a peer is given that does not take the syntax that an object has, best first.  Every peer
#: has to take the second (PS3.5 10.1); the last only where losses are allowed.
DEFAULT_PREFERENCE: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    RLE_LOSSLESS,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    JPEG_BASELINE,
)
#: One result may take this part of what all may.
_LARGEST: Final = 4
#: Transfer syntaxes of which it is remembered what they can become.
_SYNTAXES: Final = 64


class SendableObject(Protocol):
    """What can be sent: a `DicomObject`, or what was made of one."""

    @property
    def sop_class_uid(self) -> str: ...

    @property
    def sop_instance_uid(self) -> str: ...

    @property
    def transfer_syntax_uid(self) -> str: ...

    def parts(self, target: str | None = None) -> AsyncGenerator[tuple[Buffer, bool], None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeObject:
    """An object that was made and is held."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    pieces: Sequence[bytes]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.pieces))

    async def parts(self, target: str | None = None) -> AsyncGenerator[tuple[Buffer, bool], None]:
        """The data set in pieces of even length, each with whether it is the last."""
        assert target in (None, self.transfer_syntax_uid)
        last = len(self.pieces) - 1
        for number, piece in enumerate(self.pieces):
            yield piece, number == last


@dataclass(slots=True, eq=False)
class _Result:
    """What was made of an object.

    Attributes:
        size: bytes of it that are held.
        users: how many send it now.
    """

    ready: SendableObject
    size: int
    users: int = 0


class Transcoder:
    """Makes objects in the transfer syntaxes that peers take.

    Attributes:
        pool: what decodes and encodes; others may use it, too.

    Args:
        preference: syntaxes that peers are given, best first.
        cache_bytes: what results may take that are kept or on their way; larger objects are made
            while they are sent.
        notices: is told of each object.
    """

    def __init__(
        self,
        pool: CodecPool,
        *,
        preference: Sequence[str] = DEFAULT_PREFERENCE,
        options: TranscodingOptions | None = None,
        cache_bytes: int = 256 << 20,
        notices: Notices | None = None,
    ) -> None:
        self.pool = pool
        self._preference = tuple(preference)
        self._options = options or TranscodingOptions()
        self._cache_bytes = cache_bytes
        self._notices = notices
        self._kept: OrderedDict[tuple[str, str], _Result] = OrderedDict()
        #: What is being made, for whoever else wants it.
        self._making: dict[tuple[str, str], trio.Event] = {}
        #: Of what is kept, and of what is being made or sent.
        self._size = 0
        #: It is asked for each object.
        self._targets = lru_cache(_SYNTAXES)(self._find_targets)

    def targets(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        """What an object of this syntax can become, best first; itself left out."""
        return self._targets(transfer_syntax_uid)

    def _find_targets(self, transfer_syntax_uid: str) -> tuple[str, ...]:
        found = []
        for target in self._preference:
            if target == transfer_syntax_uid:
                continue
            if target in UNCOMPRESSED and transfer_syntax_uid in UNCOMPRESSED:
                continue
            try:
                check_possible(transfer_syntax_uid, target, self._options)
            except PixelError:
                continue
            found.append(target)
        return tuple(found)

    @asynccontextmanager
    async def made(self, item: DicomObject, target: str) -> AsyncIterator[SendableObject]:
        """*item* in the syntax *target*, while it is in use.

        What is small enough is made at once, so that a fault shows before anything is sent; of
        what is larger, its first frame.

        Raises:
            PixelError, DataSetError, StorageError, KeyError, OSError: it cannot be made.
        """
        key = (item.digest, target)
        while item.digest and (making := self._making.get(key)) is not None:
            # Whoever asked first makes it for all.
            await making.wait()
        result = self._kept.get(key) if item.digest else None
        if result is not None:
            self._kept.move_to_end(key)
            self._publish(item, target, "cached")
        else:
            async with self._is_making(key):
                try:
                    result = await self._make(item, target)
                except PixelError:
                    self._publish(item, target, "failed")
                    raise
                self._publish(item, target, "made")
                if item.digest and isinstance(result.ready, WholeObject):
                    self._kept[key] = result
        result.users += 1
        try:
            yield result.ready
        finally:
            result.users -= 1
            if self._kept.get(key) is not result:
                self._size -= result.size

    @asynccontextmanager
    async def _is_making(self, key: tuple[str, str]) -> AsyncIterator[None]:
        making = self._making[key] = trio.Event()
        try:
            yield
        finally:
            if self._making.get(key) is making:
                del self._making[key]
            making.set()

    async def _make(self, item: DicomObject, target: str) -> _Result:
        found = await transcode(item, target, self.pool, self._options)
        size = await found.estimate()
        if not self._take(size):
            await found.check()
            return _Result(found, 0)
        try:
            whole = await _whole(found)
        except BaseException:
            self._size -= size
            raise
        self._size += whole.size - size
        return _Result(whole, whole.size)

    def _take(self, size: int) -> bool:
        """Whether there is room for a result of so many bytes; others may have to go."""
        if size > self._cache_bytes // _LARGEST:
            return False
        for key in [key for key, kept in self._kept.items() if not kept.users]:
            if self._size + size <= self._cache_bytes:
                break
            self._size -= self._kept.pop(key).size
        if self._size + size > self._cache_bytes:
            return False
        self._size += size
        return True

    def _publish(self, item: DicomObject, target: str, outcome: str) -> None:
        if self._notices is not None:
            self._notices.publish(
                ObjectTranscoded(source=item.transfer_syntax_uid, target=target, outcome=outcome)
            )


async def _whole(found: TranscodedObject) -> WholeObject:
    pieces = [bytes(piece) async for piece, _ in found.parts()]
    return WholeObject(
        sop_class_uid=found.sop_class_uid,
        sop_instance_uid=found.sop_instance_uid,
        transfer_syntax_uid=found.transfer_syntax_uid,
        pieces=pieces,
    )


def cure_for(transfer_syntax_uid: str) -> str:
    """What would make objects of this syntax such that a peer could take them; or nothing."""
    if decoding_of(transfer_syntax_uid) is Support.NOT_INSTALLED:
        return f"; to send it uncompressed, install the codecs: {INSTALL}"
    return ""
