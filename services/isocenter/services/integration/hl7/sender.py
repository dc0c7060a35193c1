"""HL7 sender over MLLP, one message after the other."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from isocenter.engine.deadlines import DEFAULT_DEADLINES, Deadlines
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.integration.hl7.mllp import MllpDecoder, MllpMessage, frame
from isocenter.services.net.connect import connect
from isocenter.services.net.transport import Transport

#: An acknowledgement is short.
_MOST_BYTES: Final = 1 << 20


class SendError(IsocenterError):
    """A message got no acknowledgement."""

    error_code = ErrorCode.HL7


class Sender:
    """A connection to a receiver; made by `open_sender`."""

    def __init__(self, transport: Transport, deadlines: Deadlines) -> None:
        self._transport = transport
        self._deadlines = deadlines

    async def send(self, message: bytes) -> bytes:
        """The acknowledgement of *message*.

        Raises:
            SendError: none came in time, or the connection ended before.
        """
        try:
            with trio.fail_after(self._deadlines.write_blocked):
                await self._transport.send((frame(message),), lambda: None)
            with trio.fail_after(self._deadlines.response):
                return await self._next()
        except trio.TooSlowError:
            raise SendError(
                f"no acknowledgement within {self._deadlines.response:g} s; "
                "does the receiver speak MLLP on this port?"
            ) from None
        except BrokenPipeError:
            raise SendError(_ENDED) from None

    async def _next(self) -> bytes:
        framer = MllpDecoder(_MOST_BYTES)
        while chunk := await self._transport.receive():
            for event in framer.receive(bytes(chunk)):
                if not isinstance(event, MllpMessage):
                    raise SendError("what the receiver answers is no acknowledgement")
                return event.data
        raise SendError(_ENDED)


_ENDED: Final = "the receiver closed the connection and acknowledged nothing; see its log"


@asynccontextmanager
async def open_sender(
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    server_name: str = "",
) -> AsyncIterator[Sender]:
    """A connection to the receiver at *host* and *port*.

    Args:
        server_name: whose certificate it has to be, with TLS; empty: that of *host*.

    Raises:
        ConnectError: there is none to be had.
    """
    transport = await connect(host, port, tls, deadlines, server_name)
    try:
        yield Sender(transport, deadlines)
    finally:
        await transport.aclose()
