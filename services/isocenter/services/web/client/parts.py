"""Parts of an answer, as they come: of multipart, or the only one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.services.net.http.client import HttpResponse
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpClientError
from isocenter.services.net.http.media_types import MediaType, MediaTypeError
from isocenter.services.net.http.multipart import (
    Event,
    MultipartError,
    MultipartParser,
    PartData,
    PartEnded,
    PartStarted,
    boundary_of,
)
from isocenter.services.net.http.unwanted import Unwanted

#: AnswerParts of one answer: objects of a study, frames.
MOST_PARTS: Final = 10_000_000
#: How a body begins whose `Content-Type` does not say what ends its parts.
_FIRST_DELIMITER: Final = re.compile(rb"(?:\r?\n)?--([\x21-\x7e][\x20-\x7e]{0,199}?)[ \t]*\r?\n")
_MOST_FIRST_LINE: Final = 512


class AnswerPart:
    """One part, whose bytes are read by ``async for``; what nobody reads is passed over, up to
    a bound.

    A piece is good until the next is asked for.

    Attributes:
        media_type: what it says of itself, or the answer for it; None: nothing that can be
            understood.
        location: its `Content-Location`; empty: it has none.
    """

    def __init__(self, parts: AnswerParts, media_type: MediaType | None, location: str) -> None:
        self._parts = parts
        self._is_over = False
        self.media_type = media_type
        self.location = location

    @property
    def transfer_syntax(self) -> str:
        """The UID that it says with its media type; empty: none."""
        said = self.media_type.parameter("transfer-syntax") if self.media_type else None
        return said or ""

    def __aiter__(self) -> AsyncIterator[Buffer]:
        return self

    async def __anext__(self) -> Buffer:
        """The next piece.

        Raises:
            BrokenAnswerError: the answer ends within the part.
        """
        if not self._is_over:
            piece = await self._parts.next_piece()
            if piece is not None:
                return piece
            self._is_over = True
        raise StopAsyncIteration

    async def read(self, most: int) -> bytes:
        """All of it.

        Raises:
            HttpClientError: it has more than *most* bytes, or the answer breaks off.
        """
        found = bytearray()
        async for piece in self:
            found += piece
            if len(found) > most:
                raise HttpClientError(f"a part of the answer is longer than {most:,} bytes")
        return bytes(found)


class AnswerParts:
    """The parts of an answer, by ``async for``; made by `parts_of`.

    Attributes:
        status: of the answer; 206: some of what was asked for is missing.
        warnings: what the server says beside.
    """

    def __init__(self, response: HttpResponse, pieces: AsyncGenerator[bytes, None]) -> None:
        self.status = response.status
        self.warnings = response.headers("warning")
        self._response = response
        self._pieces = pieces
        self._parser: MultipartParser | None = None
        self._fed: Iterator[Event] = iter(())
        self._events: deque[Event] = deque()
        self._is_whole = False
        self._part: AnswerPart | None = None
        self._has_begun = False
        #: Of the part under way, and of what stands behind the last one.
        self._unwanted = Unwanted()
        self._is_passing = False

    def __aiter__(self) -> AsyncIterator[AnswerPart]:
        return self

    async def __anext__(self) -> AnswerPart:
        """The next part.

        Raises:
            BrokenAnswerError: the answer ends before it should, makes no sense, or has too much
                of what nobody reads.
        """
        if not self._has_begun:
            self._has_begun = True
            await self._begin()
        if self._part is not None:
            self._is_passing = True
            async for _ in self._part:
                pass
            self._is_passing = False
            self._part = None
            self._unwanted = Unwanted()
        event = await self._next_event()
        if event is None:
            raise StopAsyncIteration
        assert isinstance(event, PartStarted)
        self._part = self._made(event)
        return self._part

    async def next_piece(self) -> Buffer | None:
        """Of the part under way; None: it is over."""
        event = await self._next_event()
        if not isinstance(event, PartData):
            return None
        if not self._is_passing:
            self._unwanted.taken()
        return event.data

    def _made(self, event: PartStarted) -> AnswerPart:
        try:
            media_type = event.media_type
        except MediaTypeError:
            media_type = None
        if media_type is None and self._parser is not None:
            media_type = self._type_of_all()
        return AnswerPart(self, media_type, event.header("content-location") or "")

    def _type_of_all(self) -> MediaType | None:
        """What multipart says of its parts."""
        outer = self._response.media_type
        said = None if outer is None else outer.parameter("type")
        return None if said is None else MediaType(said.lower())

    async def _begin(self) -> None:
        response = self._response
        media_type = response.media_type
        if response.status in (204, 205):
            self._is_whole = True
            return
        if media_type is None or not media_type.name.startswith("multipart/"):
            said = response.header("content-type")
            location = response.header("content-location")
            fields = [("content-type", said), ("content-location", location)]
            self._events.append(PartStarted(tuple((n, v) for n, v in fields if v is not None)))
            return
        first = b""
        try:
            boundary = boundary_of(media_type)
        except MultipartError:
            # Some servers leave it out; the body shows it.
            async for piece in self._pieces:
                first += piece
                if len(first) >= _MOST_FIRST_LINE or _FIRST_DELIMITER.match(first):
                    break
            found = _FIRST_DELIMITER.match(first)
            if found is None:
                raise BrokenAnswerError("the answer is multipart, and has no boundary") from None
            boundary = found[1].decode("ascii")
        self._parser = MultipartParser(boundary, most_parts=MOST_PARTS)
        if first:
            self._fed = self._parser.feed(first)

    async def _next_event(self) -> Event | None:
        if self._events:
            return self._events.popleft()
        if self._is_whole:
            return None
        try:
            while True:
                for event in self._fed:
                    return event
                piece = await anext(self._pieces, None)
                if piece is None:
                    self._is_whole = True
                    if self._parser is None:
                        return PartEnded()
                    self._parser.close()
                    return None
                self._unwanted.came(len(piece))
                if self._parser is None:
                    return PartData(piece)
                self._fed = self._parser.feed(piece)
        except MultipartError as error:
            raise BrokenAnswerError(
                f"the answer is no multipart that can be read: {error}"
            ) from error


@asynccontextmanager
async def parts_of(response: HttpResponse) -> AsyncIterator[AnswerParts]:
    """The parts of *response*, as a context in which they are read."""
    pieces = response.pieces()
    try:
        yield AnswerParts(response, pieces)
    finally:
        await pieces.aclose()
