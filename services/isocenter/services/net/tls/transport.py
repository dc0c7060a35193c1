"""TLS over a TCP connection, between two buffers in memory.

`trio.SSLStream` would do; but what need not wait goes the short way here, as in the
clear, and a connection that has ended leaves nothing for the garbage collector: a
thousand handshakes that stop half way would keep their memory until it comes.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.net.tls.certificates import peer_identity
from isocenter.services.net.transport import RECEIVE_BYTES, SocketTransport

#: Plain text that is encrypted at once: progress of a slow peer is seen at least this often.
_PIECE: Final = 128 << 10
#: What is so long is not joined with others: a record more costs less than a copy.
_LONG: Final = 64 << 10
#: A record carries no more (RFC 8446, 5.1).
_RECORD: Final = 16 << 10
#: `_ssl.ENCODING_DER`.
_DER: Final = 2
#: `TlsTransport.send_now` could not get rid of what it has encrypted.
_REST: Final = (b"",)


class TlsTransport:
    """An encrypted connection; made by `tls_transport`.

    Attributes:
        tls: knows version, cipher suite and certificates.
    """

    def __init__(
        self,
        below: SocketTransport,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self.tls = tls
        self.peer_address = below.peer_address
        self.identity = peer_identity(tls)
        self._below = below
        self._incoming = incoming
        self._outgoing = outgoing
        #: Encrypted, and not taken by the kernel yet: it goes before everything else.
        self._encrypted: Sequence[Buffer] = ()

    async def receive(self) -> Buffer:
        while True:
            records = self._decrypted()
            if records is None:
                # Also an end without close_notify: the association is lost then, so that a cut
                # can never pass as the end of a message.
                return b""
            if records:
                return records[0] if len(records) == 1 else b"".join(records)
            chunk = await self._below.receive()
            if chunk:
                self._incoming.write(chunk)
            else:
                self._incoming.write_eof()

    def _decrypted(self) -> list[bytes] | None:
        """The records that are here, as many as make one chunk; None: nothing comes any more."""
        records: list[bytes] = []
        size = 0
        try:
            while size < RECEIVE_BYTES:
                record = self.tls.read(_RECORD)
                if not record:
                    break
                records.append(record)
                size += len(record)
        except ssl.SSLWantReadError:
            return records
        except ssl.SSLError:
            pass  # the next call comes here again
        return records or None

    def chain(self) -> list[bytes]:
        """The certificates that were verified, in DER: the peer's, then whoever signed it.

        None are known once TLS has failed; nothing is sent or received any more then.
        """
        try:
            own = self.tls.getpeercert(binary_form=True)
        except ValueError:  # OpenSSL starts again with the handshake
            return []
        if not own or self.tls.context.verify_mode == ssl.CERT_NONE:
            return []
        # Public from Python 3.13 on; before, the object below has it.
        connection: Any = self.tls
        if not hasattr(connection, "get_verified_chain"):
            connection = getattr(self.tls, "_sslobj", None)
        try:
            chain = connection.get_verified_chain() or ()
        except (AttributeError, ssl.SSLError):
            return [own]
        return [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in chain] or [own]

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        left = _pieces(buffers)
        for piece in left:
            if not self._send_encrypted(self._encrypt(piece), is_followed):
                return [buffer for piece in left for buffer in piece] or _REST
        return ()

    async def send(self, buffers: Sequence[Buffer], progress: Callable[[], None]) -> None:
        await self._send_rest(progress)
        for piece in _pieces(buffers):
            if not self._send_encrypted(self._encrypt(piece)):
                await self._send_rest(progress)
            progress()

    def _encrypt(self, piece: Sequence[Buffer]) -> Buffer:
        try:
            for buffer in piece:
                self.tls.write(buffer)
        except ssl.SSLError as error:
            raise BrokenPipeError(str(error)) from error
        return self._outgoing.read()

    def _send_encrypted(self, data: Buffer, is_followed: bool = False) -> bool:
        """Whether the kernel has taken all of it."""
        self._encrypted = self._below.send_now((data,), is_followed)
        return not self._encrypted

    async def _send_rest(self, progress: Callable[[], None]) -> None:
        if self._encrypted:
            await self._below.send(self._encrypted, progress)
            self._encrypted = ()

    async def aclose(self) -> None:
        """Say close_notify if that can leave at once, and close."""
        if not self._encrypted:
            try:
                self.tls.unwrap()
            except (ssl.SSLError, ValueError):
                pass  # its own close_notify has not come, which nobody waits for
            _send_if_possible(self._below, self._outgoing)
        await self._below.aclose()


def _pieces(buffers: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """The same bytes in pieces that are encrypted and leave at once; of what is short, several are
    joined, as each buffer is a record of its own at least."""
    piece: list[Buffer] = []
    short: list[Buffer] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer)
        for start in range(0, len(view), _PIECE):
            part = view[start : start + _PIECE]
            if len(part) < _LONG:
                short.append(part)
            else:
                _join(short, piece)
                piece.append(part)
            size += len(part)
            if size >= _PIECE:
                _join(short, piece)
                yield piece
                piece, size = [], 0
    if size:
        _join(short, piece)
        yield piece


def _join(short: list[Buffer], piece: list[Buffer]) -> None:
    if short:
        piece.append(short[0] if len(short) == 1 else b"".join(short))
        short.clear()


def _send_if_possible(below: SocketTransport, outgoing: ssl.MemoryBIO) -> None:
    """An alert is a courtesy."""
    try:
        if outgoing.pending:
            below.send_now((outgoing.read(),))
    except BrokenPipeError:
        pass


async def tls_transport(
    sock: socket.socket | SocketTransport,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None = None,
    peer_address: str | None = None,
) -> TlsTransport:
    """Shake hands and know who the peer is.

    Raises:
        trio.BrokenResourceError: the handshake failed; ``__cause__`` is the `ssl.SSLError`,
            or None when the connection was lost.

    The socket is closed when it fails or is cancelled.  The caller sets the deadline.
    """
    below = sock if isinstance(sock, SocketTransport) else SocketTransport(sock, peer_address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(
        incoming,
        outgoing,
        server_side=server_side,
        server_hostname=None if server_side else server_hostname,
    )
    try:
        await _shake_hands(below, tls, incoming, outgoing)
    except ssl.SSLError as error:
        _send_if_possible(below, outgoing)
        await below.aclose()
        raise trio.BrokenResourceError("TLS handshake failed") from error
    except BrokenPipeError:
        await below.aclose()
        raise trio.BrokenResourceError("connection lost") from None
    except BaseException:
        await below.aclose()
        raise
    return TlsTransport(below, tls, incoming, outgoing)


async def _shake_hands(
    below: SocketTransport,
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            is_done = False
        else:
            is_done = True
        if outgoing.pending:
            await below.send((outgoing.read(),), _no_progress)
        if is_done:
            return
        chunk = await below.receive()
        if not chunk:
            raise BrokenPipeError
        incoming.write(chunk)


def _no_progress() -> None:
    """The handshake as a whole has a deadline."""
