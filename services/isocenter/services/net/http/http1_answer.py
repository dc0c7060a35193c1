"""One response of HTTP/1.1 as bytes (RFC 9112 4 to 7): head and framing."""

from __future__ import annotations

import re
from typing import Final

from isocenter.services.net.http.protocol import Output, RawHeaders

#: Fields as they are written.  A name is a token; a value holds no line end, and no blanks around
#: it: else it would say something else than it was given for.
_FIELDS: Final = re.compile(
    rb"(?:[-!#$%&'*+.^_`|~0-9a-zA-Z]+: "
    rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\r\n)*"
)
#: Without a body, whatever their fields say.
_WITHOUT_BODY: Final = (101, 204, 304)


class Http1Answer:
    """The answer to one request, piece by piece.

    Args:
        is_head: the request wants no body.
        has_chunks: the peer understands a body in chunks; else one of unknown length ends with the
            connection.
        closes: nothing follows on the connection.
    """

    def __init__(
        self, *, is_head: bool = False, has_chunks: bool = False, closes: bool = False
    ) -> None:
        self._is_head = is_head
        self._has_chunks = has_chunks
        self.closes = closes
        self.is_begun = False
        self.is_complete = False
        self._carries_body = False
        self._is_chunked = False
        #: Bytes of the body still to come; None: nobody has said how many.
        self._left: int | None = None

    def begin(self, status: int, headers: RawHeaders) -> bytes:
        """The head.

        Raises:
            ValueError: a field would be understood as something else.
        """
        self._carries_body = not self._is_head and status not in _WITHOUT_BODY
        said = [(name.title(), value) for name, value in headers]
        length = next((value for name, value in headers if name == b"content-length"), None)
        if length is not None:
            self._left = int(length)
        elif status not in _WITHOUT_BODY:
            if self._has_chunks:
                said.append((b"Transfer-Encoding", b"chunked"))
                self._is_chunked = True
            elif not self._is_head:
                self.closes = True
        if self.closes:
            said.append((b"Connection", b"close"))
        fields = b"".join([b"%b: %b\r\n" % field for field in said])
        if _FIELDS.fullmatch(fields) is None or fields.count(b"\n") != len(said):
            raise ValueError("a field of a response holds what ends its line, or is no field")
        self.is_begun = True
        return b"HTTP/1.1 %d \r\n%b\r\n" % (status, fields)

    def data(self, piece: Output) -> list[Output]:
        """A piece of the body.

        Raises:
            ValueError: it is longer than was said.
        """
        if not self._carries_body:
            return []
        if self._is_chunked:
            # A chunk of no bytes would be the end.
            return [b"%x\r\n" % len(piece), piece, b"\r\n"] if len(piece) else []
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise ValueError("the body of a response is longer than its Content-Length")
        return [piece]

    def end(self) -> list[Output]:
        """The body is over.

        Raises:
            ValueError: it is shorter than was said.
        """
        if self._carries_body and self._left:
            raise ValueError("the body of a response is shorter than its Content-Length")
        self.is_complete = True
        return [b"0\r\n\r\n"] if self._carries_body and self._is_chunked else []
