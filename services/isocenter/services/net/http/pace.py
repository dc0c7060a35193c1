"""Lowest pace at which something wanted of an answer has to come."""

from __future__ import annotations

from typing import Final

from isocenter.services.net.http.client_errors import BrokenAnswerError

#: What has to come within `STEP_SECONDS`: four thousand bytes in a second, a slow modem.
STEP_BYTES: Final = 1 << 20
#: Also as long as a server may take for something small that lies on a tape.
STEP_SECONDS: Final = 300.0


class Pace:
    """Counts for how long was waited for a part, so that one that trickles has an end.

    Every `STEP_BYTES` have `STEP_SECONDS`, without what we take to do something with them.
    """

    __slots__ = ("_bytes", "_seconds")

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def begin(self) -> None:
        """Another part begins."""
        self._bytes, self._seconds = 0, 0.0

    def came(self, length: int, waited: float) -> None:
        """So many bytes came, after so many seconds.

        Raises:
            BrokenAnswerError: they come too slowly.
        """
        self._bytes += length
        self._seconds += waited
        if self._seconds > STEP_SECONDS:
            raise BrokenAnswerError(
                f"the answer comes too slowly: {self._bytes} bytes in {self._seconds:.0f} s"
            )
        if self._bytes >= STEP_BYTES:
            self.begin()
