"""Bodies of objects over HTTP: Part 10 files in the wanted transfer syntax."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import UNCOMPRESSED
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.object_reader import ObjectReader, is_file_backed
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.errors import StorageError
from isocenter.services.net.http.messages import Piece
from isocenter.services.net.http.protocol import FileRegion

_PIECE: Final = 1 << 20
OpenStored = Callable[[StoredInstance], Awaitable[ObjectReader]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An object and the transfer syntax in which it leaves."""

    stored: StoredInstance
    transfer_syntax: str

    @property
    def is_as_stored(self) -> bool:
        # What is made when it is opened is a data set alone, of which nobody knows the length.
        is_file = self.stored.data_set_offset > 0
        return is_file and self.stored.transfer_syntax_uid == self.transfer_syntax


class ObjectBodies:
    """Makes the bodies of objects that leave.

    Args:
        transcoder: makes what is asked for in another transfer syntax; None: nothing compressed
            is made or taken apart.
    """

    def __init__(self, archive: ReadableArchive, transcoder: Transcoder | None = None) -> None:
        self._archive = archive
        self._transcoder = transcoder

    def can_become(self, have: str, target: str) -> bool:
        """Whether what is in one transfer syntax can leave in another."""
        if have in UNCOMPRESSED and target in UNCOMPRESSED:
            return True
        return self._transcoder is not None and target in self._transcoder.targets(have)

    async def bytes_of(self, one: Outgoing, open_stored: OpenStored) -> AsyncGenerator[Piece, None]:
        """A Part 10 file."""
        try:
            async with self._pieces_of(one, open_stored) as pieces:
                async for piece in pieces:
                    yield piece
        except (KeyError, OSError, StorageError) as error:
            raise StorageError(f"instance {one.stored.sop_instance_uid} was not read") from error

    @asynccontextmanager
    async def _pieces_of(
        self, one: Outgoing, open_stored: OpenStored
    ) -> AsyncIterator[AsyncIterator[Piece]]:
        stored = one.stored
        async with AsyncExitStack() as stack:
            if one.is_as_stored:
                reader = await stack.enter_async_context(await open_stored(stored))
                if reader.size != stored.size:
                    raise KeyError("another object has taken its place")

                async def whole() -> AsyncGenerator[Piece, None]:
                    if is_file_backed(reader):
                        yield FileRegion(reader.descriptor, 0, stored.size)
                        return
                    for start in range(0, stored.size, _PIECE):
                        yield await reader.read(start, min(_PIECE, stored.size - start))

                yield await stack.enter_async_context(aclosing(whole()))
                return
            item = stored_object(stored, self._archive.open)
            target = one.transfer_syntax
            uid = stored.sop_instance_uid
            have = stored.transfer_syntax_uid
            if have == target or (have in UNCOMPRESSED and target in UNCOMPRESSED):
                parts = await stack.enter_async_context(aclosing(item.parts(target)))
            else:
                assert self._transcoder is not None
                made = await stack.enter_async_context(self._transcoder.made(item, target))
                uid = made.sop_instance_uid
                parts = await stack.enter_async_context(aclosing(made.parts()))

            async def anew() -> AsyncGenerator[Piece, None]:
                yield write_file_meta(
                    sop_class_uid=stored.sop_class_uid,
                    sop_instance_uid=uid,
                    transfer_syntax_uid=target,
                )
                async for piece, _ in parts:
                    yield bytes(piece)

            yield await stack.enter_async_context(aclosing(anew()))
