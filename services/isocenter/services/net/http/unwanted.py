"""Bytes and seconds of an answer that are passed over, and their bounds."""

from __future__ import annotations

from typing import Final

import trio

from isocenter.services.net.http.client_errors import BrokenAnswerError

#: About the longest object that there is, as one that is refused may be it.
MOST_UNWANTED_BYTES: Final = 4 << 30
#: As such an object takes over a slow line; nobody waits longer for nothing.
MOST_UNWANTED_SECONDS: Final = 900.0


class Unwanted:
    """Counts what comes and is not taken, so that a server cannot keep us busy with it.

    Whatever came between two pieces of which something was taken counts: parts that nobody asked
    for, and what stands before, between and behind parts.
    """

    __slots__ = ("_bytes", "_is_wanted", "_length", "_seconds", "_since")

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0
        #: Of the piece that came last.
        self._length = 0
        self._since = trio.current_time()
        self._is_wanted = True

    def taken(self) -> None:
        """Something of the piece that came last is wanted."""
        self._is_wanted = True

    def came(self, length: int) -> None:
        """A piece came, of so many bytes.

        Raises:
            BrokenAnswerError: too much of the answer was for nothing.
        """
        now = trio.current_time()
        if not self._is_wanted:
            self._bytes += self._length
            self._seconds += now - self._since
            if self._bytes > MOST_UNWANTED_BYTES:
                most = f"{MOST_UNWANTED_BYTES >> 20} MiB"
                raise BrokenAnswerError(f"the answer has more than {most} that nobody asked for")
            if self._seconds > MOST_UNWANTED_SECONDS:
                raise BrokenAnswerError(
                    f"for {MOST_UNWANTED_SECONDS:g} s nothing came that anybody asked for"
                )
        self._length, self._since, self._is_wanted = length, now, False
