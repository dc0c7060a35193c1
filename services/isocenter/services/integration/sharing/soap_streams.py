"""Answers of SOAP services, read while they come, with documents beside the envelope.

Only the envelope is held; what stands beside it is given on, piece by piece.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from isocenter.services.integration.sharing.soap import SOAP, SoapAnswer, asking, checked_answer
from isocenter.services.net.http.client import HttpClient, HttpResponse
from isocenter.services.net.http.client_errors import BrokenAnswerError
from isocenter.services.net.http.media_types import MediaTypeError, parse_media_type
from isocenter.services.net.http.multipart import (
    Event,
    MultipartError,
    MultipartParser,
    PartData,
    PartEnded,
    PartStarted,
    boundary_of,
)
from isocenter.services.net.http.pace import Pace
from isocenter.services.net.http.unwanted import Unwanted

#: An envelope, with documents in it where they do not stand beside it.
_MOST_ENVELOPE: Final = 64 << 20


class Beside:
    """What stands beside an envelope, as it comes, by ``async for``.

    Whoever takes something of it says so: what nobody takes is passed over, and has a bound.
    """

    def __init__(self, events: AsyncGenerator[Event, None], unwanted: Unwanted) -> None:
        self._events = events
        self._unwanted = unwanted

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    def taken(self) -> None:
        """What came last is wanted."""
        self._unwanted.taken()


@asynccontextmanager
async def streamed_call(
    client: HttpClient, action: str, body: str, *, most_parts: int
) -> AsyncIterator[tuple[SoapAnswer, Beside]]:
    """Ask a service: the envelope of its answer, and what stands beside it as it comes.

    Args:
        body: markup.
        most_parts: documents beside the envelope.

    Raises:
        PublishingError, HttpClientError: as of `soap.call`; also while the parts come.
    """
    unwanted = Unwanted()
    async with asking(client, action, body) as response:
        kind = response.header("content-type") or ""
        if not kind.strip().lower().startswith("multipart/"):
            raw = await response.body(_MOST_ENVELOPE)
            yield await checked_answer(kind, raw, response.status), Beside(_nothing(), unwanted)
            return
        try:
            boundary = boundary_of(parse_media_type(kind))
        except (MultipartError, MediaTypeError) as error:
            raise BrokenAnswerError(f"the parts of the answer: {error}") from error
        parser = MultipartParser(boundary, most_parts=most_parts + 1)
        async with aclosing(_events(response, parser, unwanted)) as events:
            beside = Beside(events, unwanted)
            root = await _root(beside)
            yield await checked_answer(SOAP, root, response.status), beside


async def _nothing() -> AsyncGenerator[Event, None]:
    nothing: tuple[Event, ...] = ()
    for event in nothing:
        yield event


async def _events(
    response: HttpResponse, parser: MultipartParser, unwanted: Unwanted
) -> AsyncGenerator[Event, None]:
    pace = Pace()
    asked = trio.current_time()
    try:
        async with aclosing(response.pieces()) as pieces:
            async for piece in pieces:
                pace.came(len(piece), trio.current_time() - asked)
                unwanted.came(len(piece))
                for event in parser.feed(piece):
                    if isinstance(event, PartStarted):
                        pace.begin()
                    yield event
                # What was done with it does not count.
                asked = trio.current_time()
        parser.close()
    except MultipartError as error:
        raise BrokenAnswerError(f"the parts of the answer: {error}") from error


async def _root(beside: Beside) -> bytes:
    """The first part."""
    found = bytearray()
    async for event in beside:
        match event:
            case PartStarted():
                pass
            case PartData():
                beside.taken()
                found += event.data
                if len(found) > _MOST_ENVELOPE:
                    raise BrokenAnswerError("the envelope of the answer is too long")
            case PartEnded():
                return bytes(found)
    raise BrokenAnswerError("the answer has no parts")
