"""HTTP/1.1 from a raw socket, as fast as a client can be: bodies are counted, not kept."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peers.wire import Failed

_BUFFER_BYTES: Final = 1 << 20
_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; ``length``: bytes of its body, ``body``: where it was to be kept."""

    status: int
    headers: Mapping[str, str]
    length: int
    body: bytes = b""


class HttpClient:
    """One connection, kept as long as the server keeps it."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._port = port
        self._host = f"{host}:{port}"
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        #: Bytes of the buffer that were received and not used.
        self._start = self._end = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def get(self, path: str, *, keep: bool = False, **headers: str) -> Answer:
        """Ask for *path*; names of *headers* with underscores.

        Raises:
            Failed: the answer is no success.
        """
        return self.request("GET", path, headers, keep=keep)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Sequence[bytes | memoryview] = (),
        *,
        keep: bool = False,
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {sum(map(len, body))}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        connection = self._connected()
        try:
            self._send(connection, [head, *body])
            answer = self._answer(connection, keep)
        except OSError as error:
            self.close()
            raise Failed(f"{method} {path.partition('?')[0]}: {error}") from error
        if answer.status >= 300 and answer.status != 304:
            raise Failed(f"{method} answered with status {answer.status}")
        return answer

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start = self._end = 0
        return self._socket

    @staticmethod
    def _send(connection: socket.socket, pieces: Sequence[bytes | memoryview]) -> None:
        if len(pieces) == 1:
            connection.sendall(pieces[0])
            return
        pending = [memoryview(piece) for piece in pieces]
        while pending:
            sent = connection.sendmsg(pending[:500])
            while pending and sent >= len(pending[0]):
                sent -= len(pending.pop(0))
            if sent:
                pending[0] = pending[0][sent:]

    def _answer(self, connection: socket.socket, keep: bool) -> Answer:
        head = self._until(connection, b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split()[1])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        kept = bytearray() if keep else None
        if status in (204, 304):
            length = 0
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            length = 0
            while size := int(self._until(connection, b"\r\n").split(b";")[0], 16):
                self._take(connection, size, kept)
                self._until(connection, b"\r\n")
                length += size
            self._until(connection, b"\r\n")
        elif "content-length" in headers:
            length = int(headers["content-length"])
            self._take(connection, length, kept)
        else:
            length = self._rest(connection, kept)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, length, bytes(kept or b""))

    def _fill(self, connection: socket.socket) -> int:
        """Receive more behind what is there; how much."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            left = bytes(self._buffer[self._start : self._end])
            self._buffer[: len(left)] = left
            self._start, self._end = 0, len(left)
        count = connection.recv_into(self._buffer[self._end :])
        self._end += count
        return count

    def _until(self, connection: socket.socket, mark: bytes) -> bytes:
        while True:
            there = bytes(self._buffer[self._start : min(self._end, self._start + 65_536)])
            at = there.find(mark)
            if at >= 0:
                self._start += at + len(mark)
                return there[:at]
            if not self._fill(connection):
                raise ConnectionError("the server has closed the connection")

    def _take(self, connection: socket.socket, count: int, kept: bytearray | None) -> None:
        while count:
            if self._start == self._end and not self._fill(connection):
                raise ConnectionError("the body was cut short")
            some = min(count, self._end - self._start)
            if kept is not None:
                kept += self._buffer[self._start : self._start + some]
            self._start += some
            count -= some

    def _rest(self, connection: socket.socket, kept: bytearray | None) -> int:
        """A body that ends with the connection."""
        length = 0
        while self._start != self._end or self._fill(connection):
            some = self._end - self._start
            self._take(connection, some, kept)
            length += some
        self.close()
        return length
