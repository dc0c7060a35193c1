"""The bounded inflater of deflated transfer syntaxes (PS3.5 A.5; RFC 1951, no zlib header)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from isocenter.engine.buffers import Buffer, octets
from isocenter.engine.dataset.errors import DataSetError
from isocenter.engine.limits import DEFAULT_LIMITS, Limits

#: RFC 1951 with the largest window, without the header of RFC 1950.
RAW_DEFLATE: Final = -15


#: Behind the end of the stream, beside NULs: the eight bytes of a gzip trailer, which some
#: writers leave there, and one of padding (PS3.5 A.5).
MAX_TRAILER_LENGTH: Final = 9


class Inflater:
    """Inflates a raw deflate stream that comes in pieces, into pieces of bounded size.

    At most ``limits.inflate_window`` bytes are inflated at once.  A byte of input becomes 1,032
    at most; who does more with them than pass over should feed small pieces.
    """

    __slots__ = ("_given", "_has_ended", "_inflater", "_limits", "_trailing")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._inflater = zlib.decompressobj(RAW_DEFLATE)
        self._given = 0
        self._trailing = 0
        self._has_ended = False

    def feed(self, chunk: Buffer) -> Iterator[bytes]:
        """The bytes that *chunk* inflates to; to be consumed before the next call.

        Raises:
            DataSetError: no deflate stream, or more than padding behind its end.
        """
        chunk = octets(chunk)
        inflater = self._inflater
        window = self._limits.inflate_window
        if self._has_ended:
            self._trail(chunk)
            return
        pending: Buffer = chunk
        while True:
            try:
                piece = inflater.decompress(pending, window)
            except zlib.error as error:
                raise DataSetError("not a deflated data set (PS3.5 A.5)", self._given) from error
            self._given += len(piece)
            if piece:
                yield piece
            if inflater.eof:
                self._has_ended = True
                self._trail(inflater.unused_data)
                return
            pending = inflater.unconsumed_tail
            # A full window may leave output behind even when all input was taken.
            if not pending and len(piece) < window:
                return

    def _trail(self, rest: Buffer) -> None:
        self._trailing += len(rest) - bytes(rest).count(0)
        if self._trailing > MAX_TRAILER_LENGTH:
            raise DataSetError("bytes behind the end of the deflated data set", self._given)

    def finish(self) -> None:
        """Say that there is no more input.

        Raises:
            DataSetError: the deflate stream has not ended.
        """
        if not self._has_ended:
            raise DataSetError("the deflated data set is truncated", self._given)
